import EventLoop
import Testing

@testable import Upstream

@Suite struct SessionTableTests {
    static func key(_ number: UInt64) -> PoolKey { PoolKey(namespacePod: 1, callingPod: 1, addressHigh: 0, addressLow: number, port: 50_051) }
    let key = SessionTableTests.key(1)

    private func table() -> SessionTable { SessionTable(sessionCapacity: 1_024, exchangeCapacity: 1_024) }

    @Test func aBurstBecomesOneConnection() {
        var table = table()
        var openings = 0
        for exchange in UInt32(0)..<50 {
            let taken = table.take(key)
            #expect(taken == nil)
            if table.wantsOpening(key, now: 0) {
                table.open(7, key)
                openings += 1
            }
            table.wait(exchange, for: key)
        }
        #expect(openings == 1 && table.waiting == 50)
        let early = table.serveWaiter(with: 7)
        #expect(early == nil, "no stream before it is open")
        table.opened(7, streamsMax: 20)
        for exchange in UInt32(0)..<20 {
            let served = table.serveWaiter(with: 7)
            #expect(served == exchange)
        }
        let past = table.serveWaiter(with: 7)
        #expect(past == nil, "the peer takes twenty at a time")
        let step1 = table.waiting == 30 && table.streams(of: 7) == 20
        #expect(step1)
        let step2 = table.wantsOpening(key, now: 0)
        #expect(step2, "thirty wait, and nothing is on its way")
        let ended = table.streamEnded(7)
        #expect(ended == .busy)
        let next = table.serveWaiter(with: 7)
        #expect(next == 20)
    }

    @Test func theLeastBusyIsTaken() {
        var table = table()
        for session in UInt32(1)...3 {
            table.open(session, key)
            table.opened(session, streamsMax: 100)
        }
        for _ in 0..<9 { _ = table.take(key) }
        for session in UInt32(1)...3 {
            let step3 = table.streams(of: session) == 3
            #expect(step3)
        }
        _ = table.streamEnded(2)
        let taken = table.take(key)
        #expect(taken == 2)
    }

    @Test func opensAheadWhenThreeQuartersAreInUse() {
        var table = table()
        table.open(1, key)
        table.opened(1, streamsMax: 100)
        for _ in 0..<74 { _ = table.take(key) }
        let step4 = !table.wantsOpening(key, now: 0)
        #expect(step4)
        _ = table.take(key)
        let step5 = table.wantsOpening(key, now: 0)
        #expect(step5)
        table.open(2, key)
        let step6 = !table.wantsOpening(key, now: 0)
        #expect(step6, "one at a time")
        // It could not be opened: those streams that are left do for a second.
        table.remove(2, now: 5)
        let step7 = !table.wantsOpening(key, now: 6)
        #expect(step7)
        let step8 = table.wantsOpening(key, now: 5 + SessionTable.openAheadPauseNanoseconds)
        #expect(step8)
    }

    @Test func thePauseIsNoneWhenThereIsNoSession() {
        var table = table()
        table.wait(3, for: key)
        table.open(1, key)
        table.remove(1, now: 5)
        let step9 = table.wantsOpening(key, now: 6)
        #expect(step9)
    }

    @Test func aRetiringSessionTakesNoMoreAndEndsEmpty() {
        var table = table()
        table.open(1, key)
        table.opened(1, streamsMax: 100)
        _ = table.take(key)
        _ = table.take(key)
        let isEmpty = table.retire(1)
        #expect(!isEmpty)
        let taken = table.take(key)
        #expect(taken == nil)
        let step10 = table.wantsOpening(key, now: 0)
        #expect(step10, "it has to be replaced")
        let first = table.streamEnded(1)
        #expect(first == .busy)
        let last = table.streamEnded(1)
        #expect(last == .finished)
        table.remove(1, now: 0)
        #expect(table.count == 0 && table.streams == 0)
    }

    @Test func anEmptySessionRests() {
        var table = table()
        table.open(1, key)
        table.opened(1, streamsMax: 1)
        _ = table.take(key)
        let rest = table.streamEnded(1)
        #expect(rest == .resting)
        _ = table.take(key)
        table.wait(9, for: key)
        let wanted = table.streamEnded(1)
        #expect(wanted == .busy, "someone waits for it")
        let empty = table.retire(1)
        #expect(empty)
    }

    @Test func streamNumbersRunOut() {
        var table = table()
        table.open(1, key)
        table.opened(1, streamsMax: .max)
        table.sessions.base[1].carried = SessionTable.streamsPerSessionMax - 1
        let last = table.take(key)
        #expect(last == 1)
        let after = table.take(key)
        #expect(after == nil)
        let rest = table.streamEnded(1)
        #expect(rest == .finished)
    }

    @Test func aFailedOpeningStrandsThoseWhoHaveNoOther() {
        var table = table()
        table.open(1, key)
        for exchange in UInt32(10)...12 { table.wait(exchange, for: key) }
        table.stopWaiting(11)       // its client has gone
        table.stopWaiting(11)
        var stranded: [UInt32] = []
        while let exchange = table.takeStranded(by: 1) { stranded.append(exchange) }
        #expect(stranded == [10, 12])
        table.remove(1, now: 0)
        #expect(table.waiting == 0 && table.count == 0)

        table.open(2, key)
        table.opened(2, streamsMax: 1)
        _ = table.take(key)
        table.open(3, key)
        table.wait(20, for: key)
        let none = table.takeStranded(by: 3)
        #expect(none == nil, "a stream of the other session will be free")
    }

    @Test func thePeerMayTakeFewerThanAreInUse() {
        var table = table()
        table.open(1, key)
        table.opened(1, streamsMax: 100)
        for _ in 0..<10 { _ = table.take(key) }
        table.allow(1, streamsMax: 2)
        table.wait(5, for: key)
        for _ in 0..<8 {
            let rest = table.streamEnded(1)
            #expect(rest == .busy)
            let served = table.serveWaiter(with: 1)
            #expect(served == nil)
        }
        _ = table.streamEnded(1)
        let served = table.serveWaiter(with: 1)
        #expect(served == 5)
    }

    @Test func keysShareNothing() {
        var table = table()
        table.open(1, Self.key(1))
        table.opened(1, streamsMax: 100)
        let other = table.take(Self.key(2))
        #expect(other == nil)
        let step11 = table.wantsOpening(Self.key(2), now: 0)
        #expect(step11)
        table.wait(4, for: Self.key(2))
        let served = table.serveWaiter(with: 1)
        #expect(served == nil)
        let step12 = !table.hasWaiters(1)
        #expect(step12)
        let step13 = table.key(of: 1) == Self.key(1)
        #expect(step13)
    }

    @Test func sessionsOfOneKeyAreBounded() {
        var table = table()
        for session in 0..<SessionTable.sessionsPerKeyMax {
            let step14 = table.wantsOpening(key, now: 0)
            #expect(step14)
            table.open(session, key)
            table.opened(session, streamsMax: 1)
            _ = table.take(key)
        }
        let step15 = !table.wantsOpening(key, now: 0)
        #expect(step15)
    }

    /// Whatever happens in whatever order, the books agree with what a plain model of them says.
    @Test func theBooksStayRight() {
        var table = table()
        var random = SystemRandomNumberGenerator()
        var streams: [UInt32: Int] = [:], maxima: [UInt32: Int] = [:], opening: Set<UInt32> = [], retiring: Set<UInt32> = []
        var waiting: [UInt32] = []
        for step in 0..<20_000 {
            switch Int.random(in: 0..<8, using: &random) {
            case 0 where streams.count < 20:
                let session = (UInt32(0)..<40).first { streams[$0] == nil }!
                table.open(session, key)
                streams[session] = 0
                opening.insert(session)
            case 1:
                guard let session = opening.randomElement() else { continue }
                maxima[session] = Int.random(in: 1...5)
                table.opened(session, streamsMax: maxima[session]!)
                opening.remove(session)
            case 2, 3:
                let free = streams.filter { !opening.contains($0.key) && !retiring.contains($0.key) && $0.value < maxima[$0.key]! }
                let taken = table.take(key)
                #expect((taken == nil) == free.isEmpty, "step \(step)")
                if let taken {
                    #expect(streams[taken] == free.values.min())
                    streams[taken]! += 1
                }
            case 4:
                guard let (session, count) = streams.filter({ $0.value > 0 }).randomElement() else { continue }
                streams[session] = count - 1
                let rest = table.streamEnded(session)
                #expect(rest == (count > 1 ? .busy : retiring.contains(session) ? .finished : waiting.isEmpty ? .resting : .busy))
            case 5:
                guard let session = streams.keys.randomElement() else { continue }
                let isEmpty = table.retire(session)
                #expect(isEmpty == (streams[session] == 0))
                opening.remove(session)
                retiring.insert(session)
            case 6:
                guard let session = streams.keys.randomElement() else { continue }
                table.remove(session, now: 0)
                streams[session] = nil
                maxima[session] = nil
                opening.remove(session)
                retiring.remove(session)
            default:
                if Bool.random(using: &random), let gone = waiting.randomElement() {
                    table.stopWaiting(gone)
                    waiting.removeAll { $0 == gone }
                } else if let session = streams.keys.randomElement() {
                    let mayServe = !opening.contains(session) && !retiring.contains(session) && streams[session]! < maxima[session]!
                    let served = table.serveWaiter(with: session)
                    #expect(served == (mayServe ? waiting.first : nil))
                    if served != nil {
                        waiting.removeFirst()
                        streams[session]! += 1
                    }
                } else if waiting.count < 30 {
                    let exchange = (UInt32(0)..<40).first { !waiting.contains($0) }!
                    table.wait(exchange, for: key)
                    waiting.append(exchange)
                }
            }
            #expect(table.opening == opening.count && table.count == streams.count && table.waiting == waiting.count && table.streams == streams.values.reduce(0, +))
        }
    }
}

@Suite struct HTTP1MemoryTests {
    @Test func remembersUntilItExpires() {
        var memory = HTTP1Memory()
        let empty = memory.knows(high: 0, low: 0, port: 0, now: 0)
        #expect(!empty, "an empty place is no fact")
        memory.remember(high: 1, low: 2, port: 80, hasAnswered: true, now: 100)
        let last = memory.knows(high: 1, low: 2, port: 80, now: 99 + HTTP1Memory.answerLastsNanoseconds)
        #expect(last)
        let past = memory.knows(high: 1, low: 2, port: 80, now: 100 + HTTP1Memory.answerLastsNanoseconds)
        #expect(!past)
        let otherPort = memory.knows(high: 1, low: 2, port: 81, now: 101)
        #expect(!otherPort)
        let otherAddress = memory.knows(high: 1, low: 3, port: 80, now: 101)
        #expect(!otherAddress)
    }

    @Test func portsOfOneAddressHavePlacesOfTheirOwn() {
        var memory = HTTP1Memory()
        for port in UInt16(8_000)..<8_064 { memory.remember(high: 1, low: 2, port: port, hasAnswered: true, now: 100) }
        let known = (UInt16(8_000)..<8_064).count { memory.knows(high: 1, low: 2, port: $0, now: 101) }
        #expect(known >= 60)
    }

    @Test func aCloseWithoutAWordIsSoonForgotten() {
        var memory = HTTP1Memory()
        memory.remember(high: 1, low: 2, port: 80, hasAnswered: false, now: 100)
        let soon = memory.knows(high: 1, low: 2, port: 80, now: 101)
        #expect(soon)
        let later = memory.knows(high: 1, low: 2, port: 80, now: 100 + HTTP1Memory.silenceLastsNanoseconds)
        #expect(!later)
        memory.remember(high: 1, low: 2, port: 80, hasAnswered: true, now: 100)
        memory.forget(high: 1, low: 2, port: 81)
        let other = memory.knows(high: 1, low: 2, port: 80, now: 101)
        #expect(other)
        memory.forget(high: 1, low: 2, port: 80)
        let forgotten = memory.knows(high: 1, low: 2, port: 80, now: 101)
        #expect(!forgotten)
    }

    @Test func aFloodOfEndpointsCostsOldOnesAndNoMemory() {
        var memory = HTTP1Memory()
        for number in UInt64(0)..<100_000 { memory.remember(high: 7, low: number, port: 1, hasAnswered: true, now: 0) }
        var known = 0
        for number in UInt64(0)..<100_000 where memory.knows(high: 7, low: number, port: 1, now: 1) { known += 1 }
        #expect(known > 0 && known <= HTTP1Memory.placeCount)
        let newest = memory.knows(high: 7, low: 99_999, port: 1, now: 1)
        #expect(newest)
    }
}

extension SessionTableTests {
    @Test func oneThatWasGivenBackGoesFirst() {
        var table = SessionTable(sessionCapacity: 8, exchangeCapacity: 64)
        for exchange in UInt32(1)...3 { table.wait(exchange, for: key) }
        table.wait(9, for: key, first: true)
        table.stopWaiting(2)
        table.open(1, key)
        table.opened(1, streamsMax: nil)
        var order: [UInt32] = []
        while let exchange = table.serveWaiter(with: 1) { order.append(exchange) }
        #expect(order == [9, 1, 3])
        table.wait(5, for: key, first: true)
        table.wait(6, for: key)
        let first = table.serveWaiter(with: 1), second = table.serveWaiter(with: 1)
        #expect(first == 5 && second == 6)
    }

    @Test func whatOnePeerTakesIsExpectedOfTheNext() {
        var table = SessionTable(sessionCapacity: 8, exchangeCapacity: 64)
        table.open(1, key)
        table.opened(1, streamsMax: nil)
        for _ in 0..<SessionTable.streamsMaxUnsaid {
            let taken = table.take(key)
            #expect(taken == 1)
        }
        table.allow(1, streamsMax: 1)
        table.open(2, key)
        table.opened(2, streamsMax: nil)
        let first = table.take(key), second = table.take(key)
        #expect(first == 2 && second == nil)
    }

    @Test func aPeerThatTakesNoneIsWaitedFor() {
        var table = SessionTable(sessionCapacity: 8, exchangeCapacity: 64)
        table.open(1, key)
        table.opened(1, streamsMax: 0)
        let taken = table.take(key)
        #expect(taken == nil)
        table.wait(3, for: key)
        let wants = table.wantsOpening(key, now: 0)
        #expect(!wants)
        table.allow(1, streamsMax: 5)
        let served = table.serveWaiter(with: 1)
        #expect(served == 3)
    }

    @Test func noSessionCarriesMoreThanMayFailAtOnce() {
        var table = SessionTable(sessionCapacity: 8, exchangeCapacity: 64)
        table.open(1, key)
        table.opened(1, streamsMax: 1_000_000)
        for _ in 0..<SessionTable.streamsAtOnceMax {
            let taken = table.take(key)
            #expect(taken == 1)
        }
        let past = table.take(key)
        #expect(past == nil)
        let wants = table.wantsOpening(key, now: 0)
        #expect(wants)
    }
}
