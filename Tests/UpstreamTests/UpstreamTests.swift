import ControlChannel
import EventLoop
import Testing

@testable import Upstream

@Suite struct UpstreamFailureTests {
    @Test func secondTriesAreSafe() {
        // (failure, idempotent, has body) → may be tried again
        let cases: [(UpstreamFailure, Bool, Bool, Bool)] = [
            (.connect(errno: 111), false, true, true),
            (.connectTimeout, false, true, true),
            (.noSocket(errno: 24), false, false, true),
            (.refusedBehindPeer, false, true, true),
            (.endedBeforeReply(peerMayHaveSeen: .nothing, reused: true), false, true, true),
            (.endedBeforeReply(peerMayHaveSeen: .head, reused: true), true, false, true),
            (.endedBeforeReply(peerMayHaveSeen: .head, reused: true), false, false, false),
            (.endedBeforeReply(peerMayHaveSeen: .head, reused: true), true, true, false),
            (.endedBeforeReply(peerMayHaveSeen: .head, reused: false), true, false, false),
            (.endedBeforeReply(peerMayHaveSeen: .body, reused: true), true, true, false),
            (.endedInReply, true, false, false),
            (.replyTimeout, true, false, false),
            (.malformedReply, true, false, false),
            (.refusedStream, false, true, true),
            (.settingsTimeout, false, true, true),
            (.streamReset, true, false, false),
            (.notHTTP2, true, false, false),
            (.notSecured, false, true, true),
            (.noIdentity, true, false, false),
            (.tunnelRefused, true, false, false), (.callerRevoked, true, false, false),
        ]
        for (failure, isIdempotent, hasBody, expected) in cases {
            #expect(failure.mayRetry(isIdempotent: isIdempotent, hasBody: hasBody) == expected, "\(failure)")
        }
    }
}

@Suite struct IdleLimitTests {
    @Test func believesTheServersPromise() {
        var limit = IdleLimit()
        #expect(limit.milliseconds == 4_000)
        limit.heard(timeoutSeconds: 5)
        #expect(limit.milliseconds == 4_000)
        limit.heard(timeoutSeconds: 2)
        #expect(limit.milliseconds == 1_000)
        limit.heard(timeoutSeconds: 1)
        #expect(limit.milliseconds == 500)
        limit.heard(timeoutSeconds: 75)
        #expect(limit.milliseconds == 60_000)
        limit.heard(timeoutSeconds: .max)
        #expect(limit.milliseconds == 60_000)
        limit.heard(timeoutSeconds: 0)
        #expect(limit.milliseconds == 100)
    }

    @Test func remembersAClose() {
        var limit = IdleLimit()
        limit.sawClose(restedMilliseconds: 2_000)
        #expect(limit.milliseconds == 1_500)
        limit.sawClose(restedMilliseconds: 20)          // right after a reply: not an idle timeout
        #expect(limit.milliseconds == 1_500)
        limit.sawClose(restedMilliseconds: 9_000)       // longer than we would let it rest anyway
        #expect(limit.milliseconds == 1_500)
    }
}

@Suite struct PoolTableTests {
    func key(_ number: UInt64, pod: UInt32 = 1, caller: UInt32 = 1) -> PoolKey {
        PoolKey(namespacePod: pod, callingPod: caller, addressHigh: 0, addressLow: number, port: 80)
    }

    /// The same destination by another way, as somebody else, or expecting somebody else.
    private static func othersOnTheWire(_ key: PoolKey) -> [PoolKey] {
        var secure = key, bridged = key, identity = key, expected = key
        secure.wire = .secure
        bridged.wire = .bridged
        identity.identity = 7
        expected.expected = 7
        return [secure, bridged, identity, expected]
    }

    @Test func theLastParkedIsLeasedFirst() {
        var pools = PoolTable(connectionCapacity: 64)
        let pool = pools.join(key(1))
        for _ in 0..<2 {
            let same = pools.join(key(1))
            #expect(same == pool)
        }
        for connection in UInt32(10)...12 { pools.park(connection, in: pool) }
        let step1 = pools.lease(key(1))
        #expect(step1 == 12)
        pools.withdraw(10, from: pool)      // the oldest comes of age
        let step2 = pools.lease(key(1))
        #expect(step2 == 11)
        let step3 = pools.lease(key(1))
        #expect(step3 == nil)
        #expect(pools.idleTotal == 0)
    }

    @Test func podsNeverShareAConnection() {
        var pools = PoolTable(connectionCapacity: 64)
        let pool = pools.join(key(1, pod: 1, caller: 1))
        pools.park(5, in: pool)
        let step4 = pools.lease(key(1, pod: 1, caller: 2))
        #expect(step4 == nil)
        let step5 = pools.lease(key(1, pod: 2, caller: 1))
        #expect(step5 == nil)
        var seen = key(1)
        seen.sourceLow = 7
        let step6 = pools.lease(seen)
        #expect(step6 == nil)
        for other in Self.othersOnTheWire(key(1)) {
            let leased = pools.lease(other)
            #expect(leased == nil)
        }
        let step7 = pools.lease(key(1))
        #expect(step7 == 5)
    }

    @Test func aPoolEndsWithItsLastMember() {
        var pools = PoolTable(connectionCapacity: 4_096)
        // Many pools come and go in a table that must shift entries back over each hole.
        for round in UInt64(0)..<20 {
            let numbers = (0..<500).map { UInt64($0) * 3 + round }
            var joined: [UInt32] = []
            for (connection, number) in numbers.enumerated() {
                let pool = pools.join(key(number))
                pools.park(UInt32(connection), in: pool)
                joined.append(pool)
            }
            #expect(pools.count == 500)
            for (connection, number) in numbers.enumerated().shuffled() {
                let step8 = pools.lease(key(number))
                #expect(step8 == UInt32(connection))
                pools.leave(joined[connection])
            }
            #expect(pools.count == 0 && pools.idleTotal == 0)
        }
    }

    @Test func whatOneConnectionLearnsHoldsForItsPool() {
        var pools = PoolTable(connectionCapacity: 8)
        let pool = pools.join(key(1))
        pools.heardKeepAlive(pool, timeoutSeconds: 2)
        #expect(pools.idleLimitMilliseconds(of: pool) == 1_000)
        pools.leave(pool)
        let again = pools.join(key(1))
        #expect(pools.idleLimitMilliseconds(of: again) == IdleLimit.millisecondsDefault)
    }
}

@Suite struct SocketStockTests {
    let shelf = ShelfKey(pod: 1, family: .ipv4, kind: .plain)

    @Test func asksAheadAndNotTwice() {
        var stock = SocketStock()
        let step9 = stock.take(shelf, now: 0)
        #expect(step9 == nil)
        stock.wait(Token(raw: 1), at: shelf)
        let first = stock.refill(shelf)
        #expect(first > 1)
        let step10 = stock.refill(shelf)
        #expect(step10 == 0)
        stock.wait(Token(raw: 2), at: shelf)
        let step11 = stock.refill(shelf)
        #expect(step11 == 0, "one batch at a time")
    }

    /// A thousand who wait ask for no more at once than one batch, so that another pod's request is behind that and no more.
    @Test func aCrowdHasOneBatchUnderWay() {
        var stock = SocketStock()
        for waiter in UInt64(1)...1_000 { stock.wait(Token(raw: waiter), at: shelf) }
        var rounds = 0, served = 0
        while served < 1_000, rounds < 1_000 {
            let wanted = stock.refill(shelf)
            #expect(wanted > 0 && wanted <= SocketStock.batchMax)
            let step15 = stock.refill(shelf)
            #expect(step15 == 0)
            stock.deliver(shelf, [Int32](repeating: -1, count: Int(wanted)))
            while stock.match(shelf) != nil { served += 1 }
            rounds += 1
        }
        #expect(served == 1_000)
    }

    @Test func anAnswerThatIsLostIsAskedForAgain() {
        var stock = SocketStock()
        for (time, expected) in [(0, true), (SocketStock.answerNanoseconds - 1, false), (SocketStock.answerNanoseconds, true), (SocketStock.answerNanoseconds + 1, false)] {
            _ = stock.take(shelf, now: time)
            stock.wait(Token(raw: 1), at: shelf)
            let wanted = stock.refill(shelf)
            #expect((wanted > 0) == expected, "at \(time)")
        }
    }

    @Test func whoIsServedApartWaitsBehindItsNeighbours() {
        var stock = SocketStock()
        stock.wait(Token(raw: 1), at: shelf, isApart: true)
        stock.wait(Token(raw: 2), at: shelf, isApart: true)
        stock.deliver(shelf, [-1, -1])
        let beforeApart = stock.owes(shelf, beforeApart: true), beforeOthers = stock.owes(shelf, beforeApart: false)
        #expect(beforeApart && !beforeOthers)
        stock.wait(Token(raw: 3), at: shelf)
        let first = stock.match(shelf)?.waiter, second = stock.match(shelf)?.waiter
        #expect(first == Token(raw: 3) && second == Token(raw: 1))
        let rest = stock.refused(shelf)
        #expect(rest == [Token(raw: 2)])
    }

    @Test func aShortDeliveryLeavesNoPhantoms() {
        var stock = SocketStock()
        for waiter in UInt64(1)...50 {
            stock.wait(Token(raw: waiter), at: shelf)
            let wanted = stock.refill(shelf)
            if wanted > 0 { stock.deliver(shelf, []) }      // the node's budget has ended
        }
        let step12 = stock.refill(shelf)
        #expect(step12 > 0, "whoever waits must be asked for again")
    }

    @Test func firstComeFirstServed() {
        var stock = SocketStock()
        stock.wait(Token(raw: 1), at: shelf)
        stock.wait(Token(raw: 2), at: shelf)
        _ = stock.refill(shelf)
        stock.deliver(shelf, [-1])      // close(-1) harms nobody
        let match = stock.match(shelf)
        #expect(match?.waiter == Token(raw: 1))
        let step13 = stock.match(shelf)
        #expect(step13 == nil)
        let step14 = stock.refused(shelf)
        #expect(step14 == [Token(raw: 2)])
    }

    @Test func clearsWhatNobodyTakes() {
        var stock = SocketStock()
        _ = stock.take(shelf, now: 0)
        _ = stock.refill(shelf)
        stock.deliver(shelf, [-1, -1])
        stock.trim(now: SocketStock.clearAfterNanoseconds)
        #expect(stock.socketCount == 2)
        stock.trim(now: SocketStock.clearAfterNanoseconds + 1)
        #expect(stock.socketCount == 0)
    }
}
