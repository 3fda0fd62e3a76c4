import Testing
import Bytes

@Suite struct ByteQueueTests {
    private func append(_ text: String, to queue: inout ByteQueue) -> Bool {
        var text = text
        return text.withUTF8 { queue.append(UnsafeRawBufferPointer($0)) }
    }

    /// The macro would copy a queue that it is handed; a Bool it may have.
    private func holds(_ condition: Bool, _ comment: Comment? = nil, at place: SourceLocation = #_sourceLocation) {
        #expect(condition, comment, sourceLocation: place)
    }

    private func content(of queue: borrowing ByteQueue) -> String { String(decoding: queue.readable, as: UTF8.self) }

    @Test func holdsNoMemoryUntilTheFirstByteAndNoneAfterRest() {
        var queue = ByteQueue(capacityMax: 100_000)
        holds(queue.capacity == 0 && queue.isEmpty && queue.readable.isEmpty && queue.writable.isEmpty)
        holds(append("hello", to: &queue))
        holds(queue.capacity == ByteQueue.firstCapacity)
        holds(queue.releaseIfEmpty() == 0, "bytes wait")
        queue.consume(5)
        holds(queue.isEmpty && queue.capacity == ByteQueue.firstCapacity, "kept while the connection is busy")
        holds(queue.releaseIfEmpty() == ByteQueue.firstCapacity)
        holds(queue.capacity == 0)
        holds(append("again", to: &queue))
        holds(content(of: queue) == "again")
    }

    @Test func growsByDoublingAndStopsAtItsCap() {
        var queue = ByteQueue(capacityMax: 5_000)
        holds(append(String(repeating: "a", count: 2_001), to: &queue))
        holds(queue.capacity == 4_000)
        holds(append(String(repeating: "b", count: 2_000), to: &queue))
        holds(queue.capacity == 5_000 && queue.room == 999)
        holds(!append(String(repeating: "c", count: 1_000), to: &queue))
        holds(queue.count == 4_001, "an append that does not fit changes nothing")
        holds(append(String(repeating: "c", count: 999), to: &queue))
        holds(!queue.reserve(1))
    }

    @Test func movesBytesToTheFrontBeforeItGrows() {
        var queue = ByteQueue(capacityMax: 2_000)
        holds(append(String(repeating: "a", count: 1_500), to: &queue))
        queue.consume(1_400)
        holds(append(String(repeating: "b", count: 1_900), to: &queue))
        holds(queue.capacity == 2_000)
        holds(content(of: queue) == String(repeating: "a", count: 100) + String(repeating: "b", count: 1_900))
    }

    @Test func writesThroughACursorWhollyOrNotAtAll() {
        var queue = ByteQueue(capacityMax: 2_000)
        holds(queue.write(upTo: 8) { $0.write("12345678") })
        holds(!queue.write(upTo: 8) { writer in
            for _ in 0..<1_000 { writer.write("123") }
        })
        holds(!queue.write(upTo: 2_000) { _ in })
        holds(content(of: queue) == "12345678")
    }

    /// Any sequence of operations keeps the bytes that a plain array would keep.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func behavesLikeAnArray(_ seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func random(_ bound: Int) -> Int {
            state ^= state << 13; state ^= state >> 7; state ^= state << 17
            return Int(state % UInt64(bound))
        }
        var queue = ByteQueue(capacityMax: 10_000)
        var model: [UInt8] = []
        for step in 0..<2_000 {
            if random(2) == 0 {
                let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: random(700))
                let fits = model.count + bytes.count <= 10_000
                holds(bytes.withUnsafeBytes { queue.append($0) } == fits)
                if fits { model += bytes }
            } else {
                let count = random(model.count + 1)
                queue.consume(count)
                model.removeFirst(count)
                queue.releaseIfEmpty()
            }
            holds(queue.readable.elementsEqual(model), "seed \(seed), step \(step)")
        }
    }
}
