import Yams

/// What a YAML scalar is to the Kubernetes API, whose reader follows YAML 1.1: `version: 1.10` is a number, `app: on`
/// a boolean, and both are refused where a string belongs. Deciding it here keeps a manifest that Weft accepts
/// acceptable to the API server too.
enum YAMLScalar: Equatable {
    case null
    case boolean(Bool)
    case integer(Int)
    /// A number that is no decimal integer (1.5, 0x10, 1e3, .inf) or does not fit in 64 bits.
    case otherNumber(String)
    case string(String)

    init(_ scalar: Node.Scalar) {
        let text = scalar.string
        switch scalar.tag.description {
        case "tag:yaml.org,2002:str": self = .string(text)
        case "" where scalar.style == .plain || scalar.style == .any: self = YAMLScalar(plain: text)
        default: self = .string(text)
        }
    }

    init(plain text: String) {
        switch text {
        case "", "~", "null", "Null", "NULL": self = .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": self = .boolean(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": self = .boolean(false)
        default: self = YAMLScalar.number(text) ?? .string(text)
        }
    }

    /// How an error message names what was found.
    var found: String {
        switch self {
        case .null: "null"
        case .boolean(let value): "the boolean \(value)"
        case .integer(let value): "the number \(value)"
        case .otherNumber(let text): "the number \(text)"
        case .string(let text): "“\(text.prefix(64))”"
        }
    }

    private static func number(_ text: String) -> YAMLScalar? {
        var digits = Substring(text)
        if let sign = digits.first, sign == "-" || sign == "+" { digits.removeFirst() }
        guard let first = digits.utf8.first else { return nil }
        if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(digits) { return .otherNumber(text) }
        guard isDigit(first) || (first == UInt8(ascii: ".") && digits.utf8.count > 1) else { return nil }
        if digits.utf8.allSatisfy(isDigit) {
            // 0755 is octal in YAML 1.1 and decimal in 1.2: neither reading is safe.
            let isPlainDecimal = digits.utf8.count == 1 || first != UInt8(ascii: "0")
            if isPlainDecimal, let value = Int(text) { return .integer(value) }
            return .otherNumber(text)
        }
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] where digits.hasPrefix(prefix) {
            return UInt64(digits.dropFirst(2), radix: radix) == nil ? nil : .otherNumber(text)
        }
        // Digits with at most one point and at most one exponent; anything else (10.1.0.9, 2024-01-01) is a string.
        var rest = digits.utf8[...]
        rest = rest.drop(while: isDigit)
        if rest.first == UInt8(ascii: ".") { rest = rest.dropFirst().drop(while: isDigit) }
        if let mark = rest.first, mark == UInt8(ascii: "e") || mark == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            if let sign = rest.first, sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { rest = rest.dropFirst() }
            guard let digit = rest.first, isDigit(digit) else { return nil }
            rest = rest.drop(while: isDigit)
        }
        return rest.isEmpty ? .otherNumber(text) : nil
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}
