import Glibc
import Telemetry

/// What node says on stderr, in the form that all of Weft writes.
enum Log {
    enum Level: String { case info, warning, error }

    static func info(_ message: String, _ fields: (String, String)...) { write(.info, message, fields) }
    static func warning(_ message: String, _ fields: (String, String)...) { write(.warning, message, fields) }
    static func error(_ message: String, _ fields: (String, String)...) { write(.error, message, fields) }

    static func write(_ level: Level, _ message: String, _ fields: [(String, String)]) {
        LogLine.write(level.rawValue, "node", message, fields.map { (key: $0.0, value: $0.1) })
    }
}

/// The message of an errno.
func errorText(_ number: Int32) -> String { String(cString: strerror(number)) }
