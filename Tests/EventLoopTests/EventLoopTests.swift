import EventLoop
import Testing

@Suite struct DeficitRoundRobinTests {
    /// Serves `rounds` turns where each item of flow f costs `cost(f)`; items are put back at once, so every flow is always busy.
    func share(costs: [UInt64], turns: Int, hasPairs: Bool = false) -> [UInt64] {
        var scheduler = DeficitRoundRobin(itemCapacity: 1_024, quantumNanoseconds: 100_000, hasPairs: hasPairs)
        for flow in costs.indices {
            scheduler.admit(flow: UInt32(flow))
            for item in 0..<64 { scheduler.enqueue(UInt32(flow * 64 + item), flow: UInt32(flow)) }
        }
        for _ in 0..<turns {
            guard let turn = scheduler.next() else { break }
            var served = 0
            while served < turn.items, let item = scheduler.take(from: turn.flow) {
                served += 1
                scheduler.enqueue(item, flow: turn.flow)
            }
            scheduler.settle(turn.flow, items: served, nanoseconds: UInt64(served) * costs[Int(turn.flow)])
        }
        return costs.indices.map { scheduler.spent(by: UInt32($0)) }
    }

    @Test func flowsShareTimeNotItems() {
        let spent = share(costs: [2_000, 20_000, 200_000], turns: 30_000)
        let most = Double(spent.max()!), least = Double(spent.min()!)
        #expect(most / least < 1.1, "\(spent)")
    }

    @Test func aPairHasTheShareOfOne() {
        let spent = share(costs: [20_000, 50_000, 20_000], turns: 30_000, hasPairs: true)
        let pair = Double(spent[0] + spent[1]), single = Double(spent[2])
        #expect(abs(pair / single - 1) < 0.1 && abs(Double(spent[0]) / Double(spent[1]) - 1) < 0.1, "\(spent)")
    }

    @Test func aQuietFlowGoesBeforeTheBusyOnes() {
        var scheduler = DeficitRoundRobin(itemCapacity: 256, quantumNanoseconds: 100_000)
        for flow in 0...5 { scheduler.admit(flow: UInt32(flow)) }
        for flow in UInt32(0)..<5 { for item in UInt32(0)..<32 { scheduler.enqueue(flow * 32 + item, flow: flow) } }
        for _ in 0..<100 {
            let turn = scheduler.next()!
            let item = scheduler.take(from: turn.flow)!
            scheduler.enqueue(item, flow: turn.flow)
            scheduler.settle(turn.flow, items: 1, nanoseconds: 150_000)
        }
        scheduler.enqueue(200, flow: 5)
        #expect(scheduler.next()?.flow == 5)
    }

    @Test func wakingAgainAndAgainBuysNothing() {
        var scheduler = DeficitRoundRobin(itemCapacity: 256, quantumNanoseconds: 100_000)
        scheduler.admit(flow: 0)
        scheduler.admit(flow: 1)
        for item in UInt32(0)..<32 { scheduler.enqueue(item, flow: 0) }
        scheduler.enqueue(100, flow: 1)     // one item at a time: the flow empties in every turn
        for _ in 0..<10_000 {
            guard let turn = scheduler.next() else { break }
            let item = scheduler.take(from: turn.flow)!
            scheduler.settle(turn.flow, items: 1, nanoseconds: 90_000)
            scheduler.enqueue(item, flow: turn.flow)
        }
        let ratio = Double(scheduler.spent(by: 1)) / Double(scheduler.spent(by: 0))
        #expect(ratio < 1.2 && ratio > 0.8, "\(ratio)")
    }

    @Test func anItemWaitsOnce() {
        var scheduler = DeficitRoundRobin(itemCapacity: 8, quantumNanoseconds: 1_000)
        scheduler.admit(flow: 0)
        scheduler.enqueue(3, flow: 0)
        scheduler.enqueue(3, flow: 0)
        #expect(scheduler.queuedItems == 1)
        let turn = scheduler.next()!
        #expect(scheduler.take(from: turn.flow) == 3)
        #expect(scheduler.take(from: turn.flow) == nil)
        #expect(scheduler.next() == nil)
    }
}

@Suite struct TimerWheelTests {
    static let millisecond: UInt64 = 1_000_000

    func expired(_ wheel: inout TimerWheel, at time: UInt64) -> [UInt32] {
        var found: [UInt32] = []
        while let index = wheel.takeDue(time) { found.append(index) }
        return found
    }

    @Test func expiresNotBeforeAndSoonAfter() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        wheel.set(3, at: 100 * Self.millisecond)
        #expect(expired(&wheel, at: 99 * Self.millisecond).isEmpty)
        #expect(expired(&wheel, at: 125 * Self.millisecond) == [3])
        #expect(expired(&wheel, at: 500 * Self.millisecond).isEmpty)
    }

    @Test func pushedBackIsFiledAgain() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        wheel.set(1, at: 50 * Self.millisecond)
        wheel.set(1, at: 500 * Self.millisecond)
        #expect(expired(&wheel, at: 480 * Self.millisecond).isEmpty)
        #expect(expired(&wheel, at: 530 * Self.millisecond) == [1])
    }

    @Test func broughtForwardMoves() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        wheel.set(1, at: 5_000 * Self.millisecond)
        wheel.set(1, at: 40 * Self.millisecond)
        #expect(expired(&wheel, at: 60 * Self.millisecond) == [1])
    }

    @Test func beyondTheHorizon() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        wheel.set(2, at: 3_600_000 * Self.millisecond)
        var time: UInt64 = 0
        while time < 3_599_000 * Self.millisecond {
            time += 1_000 * Self.millisecond
            if time < 3_600_000 * Self.millisecond { #expect(expired(&wheel, at: time).isEmpty) }
        }
        #expect(expired(&wheel, at: 3_600_100 * Self.millisecond) == [2])
    }

    @Test func clearedAndRemovedNeverExpire() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        for index in UInt32(0)..<8 { wheel.set(index, at: 80 * Self.millisecond) }
        wheel.clear(2)
        wheel.remove(5)
        #expect(Set(expired(&wheel, at: 200 * Self.millisecond)) == [0, 1, 3, 4, 6, 7])
    }

    @Test func saysHowLongToSleep() {
        var wheel = TimerWheel(capacity: 16, now: 0)
        #expect(wheel.untilNext(0, limit: 100 * Self.millisecond) == 100 * Self.millisecond)
        wheel.set(0, at: 40 * Self.millisecond)
        let rest = wheel.untilNext(0, limit: 100 * Self.millisecond)
        #expect(rest >= 40 * Self.millisecond && rest <= 60 * Self.millisecond)
    }
}

@Suite struct SlabTests {
    struct Box: ~Copyable { var value: Int }

    @Test func aTokenDiesWithItsElement() {
        var slab = Slab<Box>(capacity: 4)
        let first = slab.insert(Box(value: 1))!
        #expect(slab.find(first)?.pointee.value == 1)
        slab.remove(at: first.index)
        #expect(slab.find(first) == nil)
        let second = slab.insert(Box(value: 2))!
        #expect(second.index == first.index && second != first)
        #expect(slab.find(first) == nil)
        #expect(slab.find(second)?.pointee.value == 2)
        #expect(slab.find(.none) == nil)
    }

    @Test func refusesWhenFull() {
        var slab = Slab<Box>(capacity: 2)
        #expect(slab.insert(Box(value: 1)) != nil)
        #expect(slab.insert(Box(value: 2)) != nil)
        #expect(slab.insert(Box(value: 3)) == nil)
        slab.remove(at: 0)
        #expect(slab.insert(Box(value: 4))?.index == 0)
        #expect(slab.occupied == 2)
    }
}

@Suite struct MailboxTests {
    @Test func lettersArriveInOrder() {
        let box = Mailbox<Int>()
        for letter in 0..<100 { box.post(letter) }
        var seen: [Int] = []
        box.collect { seen.append($0) }
        #expect(seen == Array(0..<100))
        box.collect { _ in Issue.record("the box was emptied") }
    }

    @Test func manyWriters() async {
        let box = Mailbox<Int>()
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<4 { group.addTask { for letter in 0..<1_000 { box.post(writer * 1_000 + letter) } } }
        }
        var seen: [Int] = []
        box.collect { seen.append($0) }
        #expect(seen.count == 4_000 && Set(seen).count == 4_000)
        for writer in 0..<4 {
            let own = seen.filter { $0 / 1_000 == writer }
            #expect(own == own.sorted())
        }
    }
}

@Suite struct TurnLengthTests {
    @Test func turnsAreShortOnlyInCompany() {
        var turns = TurnLength(aloneNanoseconds: 200, sharedNanoseconds: 25, memoryNanoseconds: 1_000)
        turns.served(7, 10)
        turns.served(7, 20)
        #expect(!turns.isShared(20))
        turns.served(8, 30)
        turns.served(7, 40)
        #expect(turns.isShared(1_039))
        #expect(!turns.isShared(1_040))
        turns.served(7, 2_000)
        #expect(!turns.isShared(2_000))
    }

    @Test func aDeadlineThatWasSetAgainIsAhead() {
        var wheel = TimerWheel(capacity: 4, now: 0)
        wheel.set(1, at: TimerWheel.tickNanoseconds)
        let isFiled = wheel.isSet(1)
        #expect(isFiled)
        var expired: [UInt32] = []
        wheel.advance(to: TimerWheel.tickNanoseconds * 10) { expired.append($0) }
        let isStillSet = wheel.isSet(1)
        #expect(expired == [1] && !isStillSet)
        wheel.set(1, at: TimerWheel.tickNanoseconds * 20)
        let isSetAgain = wheel.isSet(1)
        #expect(isSetAgain)
    }
}
