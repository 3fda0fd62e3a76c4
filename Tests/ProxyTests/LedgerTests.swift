import Glibc
import HTTPCodec
import MutualTLS
import Telemetry
import Testing

@testable import Proxy

@Suite struct LedgerTests {
    /// A ledger over counters of its own, and what a scraper sees of them.
    private final class Books {
        let region: CountersRegion
        let ledger: Ledger

        init() throws {
            let descriptor = try CountersRegion.create()
            defer { close(descriptor) }
            region = try CountersRegion.map(descriptor, writable: true)
            region.beginIncarnation(1, workers: 1)
            ledger = Ledger(counters: region, worker: 0)
        }

        /// The page's lines that begin so.
        func lines(_ start: String) -> [Substring] {
            let text = Text()
            var page = PrometheusText { text.bytes += $0 }
            CountersReader(region).snapshot().render(into: &page)
            page.finish()
            return String(decoding: text.bytes, as: UTF8.self).split(separator: "\n").filter { $0.hasPrefix(start) }
        }

        private final class Text { var bytes: [UInt8] = [] }
    }

    private func record(in books: Books, isGRPC: Bool, grpcStatus: UInt8?) {
        let exchange = ExchangePlace.allocate(capacity: 1)
        exchange.initialize(to: Exchange(downstream: 0, isRelay: false))
        exchange.pointee.account.reportsSource = true
        exchange.pointee.account.reportsDestination = true
        exchange.pointee.status = 200
        exchange.pointee.isGRPC = isGRPC
        exchange.pointee.grpcStatus = grpcStatus
        ([0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0] as [UInt8]).withUnsafeBytes { exchange.pointee.requestMessages.pass($0) }
        ([0, 0, 0, 0, 2, 7, 7, 1, 0] as [UInt8]).withUnsafeBytes { exchange.pointee.replyMessages.pass($0) }
        books.ledger.recordRequest(exchange, of: nil, now: 5)
        exchange.deinitialize(count: 1)
        exchange.deallocate()
    }

    /// Telemetry stands below MutualTLS and knows its faults by their places only.
    @Test func everyHandshakeCountsUnderItsFaultsOwnName() throws {
        #expect(Counter.handshakeResults.count == TLSFault.count + 2)
        let books = try Books()
        books.ledger.countHandshake(isServer: true, isResumed: true)
        books.ledger.countHandshake(isServer: false, isResumed: false)
        books.ledger.countHandshakeTimeout(isServer: true)
        for fault in TLSFault.allCases {
            books.ledger.countHandshake(isServer: true, fault: fault)
            books.ledger.countHandshake(isServer: false, fault: fault)
        }
        let ones = books.lines("weft_tls_handshakes_total{").filter { $0.hasSuffix("} 1") }
        for result in TLSFault.allCases.map(\.name) + ["ok"] {
            for side in ["server", "client"] { #expect(ones.contains("weft_tls_handshakes_total{result=\"\(result)\",side=\"\(side)\"} 1"), "\(result) \(side)") }
        }
        #expect(ones.contains("weft_tls_handshakes_total{result=\"timeout\",side=\"server\"} 1") && ones.count == 2 * TLSFault.count + 3)
        #expect(books.lines("weft_tls_resumed_total{side=\"server\"} 1").count == 1 && books.lines("weft_tls_resumed_total{side=\"client\"} 0").count == 1)
    }

    @Test func aCallCountsAsGRPCWithItsStatusOnBothSides() throws {
        let books = try Books()
        record(in: books, isGRPC: true, grpcStatus: 4)
        let lines = books.lines("istio_requests_total{")
        #expect(lines.count == 2)
        for line in lines { #expect(line.contains("request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"4\",") && line.hasSuffix("} 1")) }
        let counts = books.lines("istio_request_duration_milliseconds_count{")
        #expect(counts.count == 2 && counts.allSatisfy { $0.contains("grpc_response_status=\"4\"") })
    }

    @Test func theMessagesOfACallAreCountedOnBothSidesAndOfNothingElse() throws {
        let books = try Books()
        record(in: books, isGRPC: false, grpcStatus: nil)
        #expect(books.lines("istio_request_messages_total") == [] && books.lines("istio_response_messages_total") == [])
        for _ in 0..<3 { record(in: books, isGRPC: true, grpcStatus: 0) }
        for (name, total) in [("istio_request_messages_total{", 6), ("istio_response_messages_total{", 3)] {
            let lines = books.lines(name), calls = books.lines("istio_requests_total{").filter { $0.contains("grpc") }
            #expect(lines.count == 2 && lines.allSatisfy { $0.hasSuffix("} \(total)") })
            #expect(lines.map { $0.drop { $0 != "{" }.prefix { $0 != "}" } } == calls.map { $0.drop { $0 != "{" }.prefix { $0 != "}" } })
        }
    }

    /// A call that ended without a status, and a request whose reply has a field of that name by chance.
    @Test func onlyACallHasAStatus() throws {
        let books = try Books()
        record(in: books, isGRPC: true, grpcStatus: nil)
        record(in: books, isGRPC: false, grpcStatus: 0)
        let lines = books.lines("istio_requests_total{")
        #expect(lines.count { $0.contains("request_protocol=\"grpc\"") } == 2 && lines.count { $0.contains("request_protocol=\"http\"") } == 2)
        #expect(!lines.contains { $0.contains("grpc_response_status") })
    }

    @Test(arguments: HTTP2Fault.allCases) func everyFaultOfASessionHasItsOwnSeries(_ fault: HTTP2Fault) throws {
        let books = try Books()
        books.ledger.countFault(fault, isUpstream: false)
        for _ in 0..<2 { books.ledger.countFault(fault, isUpstream: true) }
        let counted = books.lines("weft_http2_faults_total{").filter { !$0.hasSuffix("} 0") }
        let words = "\(fault)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
        #expect(counted == [("downstream", 1), ("upstream", 2)].map { "weft_http2_faults_total{reason=\"\(words)\",side=\"\($0)\"} \($1)" })
    }
}
