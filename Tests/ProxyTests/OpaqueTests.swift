import Glibc
import Testing

@testable import Proxy

@Suite struct ServerFirstMemoryTests {
    private let second: UInt64 = 1_000_000_000
    private func key(_ number: UInt64, port: UInt16 = 25) -> ServerFirstMemory.Key { ServerFirstMemory.Key(high: number, low: 1, port: port) }

    @Test func knowsWhatItWasToldUntilItExpires() {
        let memory = ServerFirstMemory()
        #expect(!memory.knows(key(1), now: 5 * second))
        memory.remember(key(1), until: 15 * second)
        #expect(memory.knows(key(1), now: 5 * second))
        #expect(memory.knows(key(1), now: 14 * second))
        #expect(!memory.knows(key(1), now: 15 * second))
        #expect(!memory.knows(key(2), now: 5 * second))
        #expect(!memory.knows(key(1, port: 26), now: 5 * second))
        memory.remember(key(1), until: 30 * second)
        #expect(memory.knows(key(1), now: 20 * second))
    }

    /// It never fills up: what is told last is known, whatever was told before.
    @Test func theLatestIsKnown() {
        let memory = ServerFirstMemory()
        for number in 0..<UInt64(ServerFirstMemory.capacity) * 8 {
            memory.remember(key(number), until: (100 + number) * second)
            #expect(memory.knows(key(number), now: 99 * second), "\(number)")
        }
        // And at most what it has places for.
        let known = (0..<UInt64(ServerFirstMemory.capacity) * 8).count { memory.knows(key($0), now: 99 * second) }
        #expect(known <= ServerFirstMemory.capacity && known > ServerFirstMemory.capacity / 2)
    }

    @Test func anExpiredPlaceIsTakenFirst() {
        let memory = ServerFirstMemory()
        // Five keys of one set.
        let one = key(1)
        let same = (2..<200_000 as Range<UInt64>).lazy.map { key($0) }.filter { $0.word % 1_024 == one.word % 1_024 }.prefix(4)
        memory.remember(one, until: 200 * second)
        var until: UInt64 = 10
        for other in same {
            memory.remember(other, until: until * second)
            until += 100
        }
        #expect(memory.knows(one, now: 5 * second))
    }
}

@Suite struct PipeStockTests {
    private func pipe() -> Pipe {
        var ends: [Int32] = [-1, -1]
        #expect(Glibc.pipe(&ends) == 0)
        return Pipe(readEnd: ends[0], writeEnd: ends[1])
    }
    private func isOpen(_ descriptor: Int32) -> Bool { fcntl(descriptor, F_GETFD) >= 0 }

    @Test func asksInBatchesUpToItsBound() {
        var stock = PipeStock(pipesMax: 6, bytes: 65_536)
        #expect(stock.lend() == nil)
        let first = stock.wanted(now: 0), whileAsked = stock.wanted(now: 0)
        #expect(first == PipeStock.batch && whileAsked == 0)
        for _ in 0..<first { stock.deliver(pipe()) }
        stock.delivered()
        let rest = stock.wanted(now: 0)
        #expect(rest == 2)
        for _ in 0..<3 { stock.deliver(pipe()) }     // one too many
        stock.delivered()
        let none = stock.wanted(now: 0)
        #expect(stock.owned == 6 && none == 0 && stock.perPodMax == 4)
    }

    @Test func aPipeWithBytesInsideIsNeverLentAgain() {
        var stock = PipeStock(pipesMax: 2, bytes: 65_536)
        stock.deliver(pipe())
        let place = stock.lend()!
        let lent = stock[place]
        stock.discard(place)
        #expect(stock.owned == 0 && stock.lend() == nil && !isOpen(lent.readEnd) && !isOpen(lent.writeEnd))
        stock.deliver(pipe())
        let again = stock.lend()
        #expect(again == place && stock.lent == 1)
    }

    @Test func aNodeWithoutPipesIsLeftAlone() {
        var stock = PipeStock(pipesMax: 2, bytes: 65_536)
        _ = stock.wanted(now: 0)
        stock.refused(now: 0)
        let soon = stock.wanted(now: PipeStock.patienceNanoseconds - 1), later = stock.wanted(now: PipeStock.patienceNanoseconds)
        #expect(soon == 0 && later == 2)
    }

    /// What a second did not need goes, one at a time; what it needed stays.
    @Test func trimming() {
        var stock = PipeStock(pipesMax: 4, bytes: 65_536)
        for _ in 0..<3 { stock.deliver(pipe()) }
        stock.trim()
        #expect(stock.owned == 3)
        let one = stock.lend()!, two = stock.lend()!
        stock.giveBack(one)
        stock.giveBack(two)
        stock.trim()        // one of three was never lent
        #expect(stock.owned == 2)
        let busy = [stock.lend()!, stock.lend()!]
        for place in busy { stock.giveBack(place) }
        stock.trim()
        #expect(stock.owned == 2)
        stock.trim()
        stock.trim()
        #expect(stock.owned == 0)
    }
}
