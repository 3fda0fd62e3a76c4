import Dispatch
import Foundation
import Synchronization

/// Where pages of metrics are written: each on a thread of its own, a few at a time, no faster than its scraper reads.
/// Rendering a page of ten thousand series takes CPU for a while, which the concurrency pool has better use for.
final class PageDesk: Sendable {
    private let active = Mutex(0)

    /// Begins a page; nil when enough are under way.
    func begin(_ page: MetricsPage) -> PagePieces? {
        let mayBegin = active.withLock { count in
            guard count < AgentLimits.pagesMax else { return false }
            count += 1
            return true
        }
        guard mayBegin else { return nil }
        let pieces = PagePieces()
        Thread.detachNewThread { [self] in
            page.render { pieces.put($0) }
            pieces.end()
            active.withLock { $0 -= 1 }
        }
        return pieces
    }
}

/// The pieces of one page between the thread that writes and the response that reads.
final class PagePieces: Sendable {
    private let stream: AsyncStream<[UInt8]>
    private let continuation: AsyncStream<[UInt8]>.Continuation
    private let room = DispatchSemaphore(value: 0)
    private let isStalled = Mutex(false)
    private let isAbandoned = Mutex(false)
    private let stallSecondsMax: Int

    init(stallSecondsMax: Int = AgentLimits.pageStallSecondsMax) {
        self.stallSecondsMax = stallSecondsMax
        (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
        for _ in 0..<AgentLimits.pagePiecesMax { room.signal() }
        continuation.onTermination = { [weak self] _ in self?.abandon() }
    }

    /// Writer: waits for room. A page whose reader is gone or stalled is written into the void, quickly.
    func put(_ bytes: UnsafeRawBufferPointer) {
        if isAbandoned.withLock({ $0 }) || isStalled.withLock({ $0 }) { return }
        guard room.wait(timeout: .now() + .seconds(stallSecondsMax)) == .success else {
            isStalled.withLock { $0 = true }
            return
        }
        continuation.yield(Array(bytes))
    }

    /// Writer: the page is complete.
    func end() { continuation.finish() }

    /// Reader: the next piece; nil at the end. Throws instead of ending a page that was not written to its end, because
    /// half a page with a proper ending would pass for a whole one.
    func next() async throws -> [UInt8]? {
        var iterator = stream.makeAsyncIterator()
        if let piece = await iterator.next() {
            room.signal()
            return piece
        }
        if isStalled.withLock({ $0 }) { throw ScraperStalled() }
        return nil
    }

    private func abandon() {
        isAbandoned.withLock { $0 = true }
        room.signal()
    }

    struct ScraperStalled: Error {}

    deinit { abandon() }
}
