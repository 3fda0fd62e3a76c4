import HTTPCodec
import Testing

@Suite struct TunnelTests {
    private func connect(_ both: Joined, _ authority: String = "10.0.0.1:5432") throws -> Int32 {
        let bytes = Array(authority.utf8)
        let stream = try bytes.withUnsafeBytes { try both.client.session.submitConnect(authority: $0, owner: 7) }
        both.settle()
        return stream
    }

    @Test func aConnectOfOurOwnIsOneToItsPeer() throws {
        let both = Joined()
        let stream = try connect(both, "[fd00::1]:5432")
        guard case .head(stream, let head, ends: false) = both.server.news().first else { Issue.record("no head"); return }
        #expect(head.method == "CONNECT" && head.authority == "[fd00::1]:5432")
        both.server.session.submitTunnelOpened(stream)
        both.settle()
        guard case .head(stream, let answer, ends: false) = both.client.news().first else { Issue.record("no answer"); return }
        #expect(answer.status == 200)
        both.client.append(stream, "hello")
        both.settle()
        #expect(both.server.news() == [.data(stream, "hello", ends: false)])
    }

    /// What was said before a reset arrives before it, also what its reader had no window for yet.
    @Test func aResetComesBehindWhatWasSaid() throws {
        let both = Joined()
        let stream = try connect(both)
        both.server.session.submitTunnelOpened(stream)
        both.settle()
        both.server.consumes = false
        _ = both.server.news()
        _ = both.client.news()
        let said = String(repeating: "x", count: 300 * 1024)
        #expect(both.client.append(stream, said) == said.utf8.count)
        both.client.session.resetBehindQueue(stream, .connectError)
        both.settle()
        func heard(_ news: [Told]) -> Int {
            news.reduce(0) { if case .data(_, let text, _) = $1 { $0 + text.utf8.count } else { $0 } }
        }
        let first = both.server.news()
        #expect(heard(first) == 256 * 1024)
        #expect(!first.contains { if case .reset = $0 { true } else { false } })
        both.server.session.consumed(stream, 256 * 1024)
        both.settle()
        let rest = both.server.news()
        #expect(heard(rest) == 44 * 1024)
        #expect(rest.last == .reset(stream, .connectError, wasProcessed: true))
        #expect(both.client.openStreams == 0 && both.server.openStreams == 0)
        #expect(both.client.news().isEmpty, "whoever reset it is told nothing of it")
    }

    @Test func aResetWithNothingToSayComesAtOnce() throws {
        let both = Joined()
        let stream = try connect(both)
        _ = both.server.news()
        both.client.session.resetBehindQueue(stream, .cancel)
        both.settle()
        #expect(both.server.news() == [.reset(stream, .cancel, wasProcessed: true)])
    }
}
