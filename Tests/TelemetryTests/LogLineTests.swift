import Glibc
import Testing

@testable import Telemetry

@Suite struct LogLineTests {
    @Test func aLineStaysALine() {
        #expect(LogLine.quoted("plain/value:1") == "plain/value:1")
        #expect(LogLine.quoted("two words") == "\"two words\"")
        #expect(LogLine.quoted("") == "\"\"")
        #expect(LogLine.quoted("a\nb\"c\u{1b}") == "\"a\\nb\\\"c\\u{1b}\"")
    }

    @Test func timesAreRFC3339() {
        #expect(LogLine.timestamp(timespec(tv_sec: 1_700_000_000, tv_nsec: 5_000_000)) == "2023-11-14T22:13:20.005Z")
    }
}
