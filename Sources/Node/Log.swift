import Glibc

/// One line per event on stderr: `<RFC 3339 time> <level> node <message> key=value…`.
/// Values with spaces or quotes are quoted, so a line stays a line whatever a peer put into a name.
enum Log {
    enum Level: String { case info, warning, error }

    static func info(_ message: String, _ fields: (String, String)...) { write(.info, message, fields) }
    static func warning(_ message: String, _ fields: (String, String)...) { write(.warning, message, fields) }
    static func error(_ message: String, _ fields: (String, String)...) { write(.error, message, fields) }

    static func write(_ level: Level, _ message: String, _ fields: [(String, String)]) {
        var line = "\(timestamp()) \(level.rawValue) node \(message)"
        for (key, value) in fields { line += " \(key)=\(quoted(value))" }
        line += "\n"
        // One write: lines of the three processes share a terminal.
        _ = line.withUTF8 { Glibc.write(2, $0.baseAddress, $0.count) }
    }

    static func quoted(_ value: String) -> String {
        let isPlain = !value.isEmpty && value.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=") }
        if isPlain { return value }
        var text = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"", "\\": text += "\\\(scalar)"
            case "\n": text += "\\n"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f: text += "\\u{\(String(scalar.value, radix: 16))}"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    private static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let milliseconds = now.tv_nsec / 1_000_000
        let fraction = milliseconds < 10 ? "00\(milliseconds)" : milliseconds < 100 ? "0\(milliseconds)" : "\(milliseconds)"
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)Z"
    }
}

/// The message of an errno.
func errorText(_ number: Int32) -> String { String(cString: strerror(number)) }
