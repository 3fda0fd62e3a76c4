import Glibc

/// One line per event on stderr, as all of Weft writes it: `<RFC 3339 time> <level> <component> <message> key=value…`.
///
/// For threads that have time: the data path counts instead of talking.
public enum LogLine {
    /// Writes the line with one call, because lines of three processes share a terminal.
    ///
    /// - Parameters:
    ///   - level: `info`, `warning`, `error` …, as swift-log calls them.
    ///   - fields: in the order in which they shall stand; values are quoted where they must be.
    public static func write(_ level: String, _ component: String, _ message: String, _ fields: [(key: String, value: String)]) {
        var line = "\(timestamp()) \(level) \(component) \(oneLine(message))"
        for (key, value) in fields { line += " \(key)=\(quoted(value))" }
        line += "\n"
        _ = line.withUTF8 { Glibc.write(2, $0.baseAddress, $0.count) }
    }

    private static func oneLine(_ text: String) -> String { String(text.map { $0.isNewline ? " " : $0 }) }

    /// A value with spaces, quotes or control characters is quoted, so that a line stays a line whatever a manifest or a peer put into a name.
    static func quoted(_ value: String) -> String {
        let isPlain = !value.isEmpty && value.unicodeScalars.allSatisfy { $0.value > 0x20 && $0.value != 0x7F && $0 != "\"" && $0 != "=" }
        if isPlain { return value }
        var text = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"", "\\": text += "\\\(scalar)"
            case "\n": text += "\\n"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: text += "\\u{\(String(scalar.value, radix: 16))}"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    /// The time now, RFC 3339 in UTC with milliseconds.
    public static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return timestamp(now)
    }

    static func timestamp(_ time: timespec) -> String {
        var seconds = time.tv_sec
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ value: Int, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let day = "\(parts.tm_year + 1900)-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
        let hour = "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2)):\(padded(Int(parts.tm_sec), 2))"
        return "\(day)T\(hour).\(padded(time.tv_nsec / 1_000_000, 3))Z"
    }
}
