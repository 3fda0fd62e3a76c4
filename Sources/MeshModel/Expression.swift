/// Why a text is no expression that Weft can run.
public struct ExpressionFault: Error, Equatable, CustomStringConvertible {
    public enum Reason: Sendable, Equatable {
        /// `(` or `[` without its other half, or `)` without it.
        case unbalanced
        /// `*`, `+`, `?` or `{n}` with nothing before it that could be repeated.
        case nothingToRepeat
        /// `a**`: what it means differs between dialects.
        case repeatedRepetition
        /// A count above `Expression.repetitionsMax`, or a range that ends before it begins.
        case badCount
        /// A range that ends before it begins, or with more than one character at an end.
        case badRange
        /// `\` with a character that means nothing there, or at the end.
        case badEscape
        /// A group of an unknown kind, or flags that are unknown.
        case badGroup
        /// `[[:name:]]` of a name that there is not.
        case badClass
        /// `\1`: cannot be matched in linear time.
        case backReference
        /// `(?=`, `(?!`, `(?<=`, `(?<!`, `(?>`: cannot be matched in linear time.
        case lookAround
        /// `\b`, `\B`, and `^` or `$` elsewhere than at the ends, `(?m)`.
        case assertion
        /// `\p{…}`, or a character outside ASCII in `[…]`: a character is one byte here.
        case unicodeClass
        /// Groups inside each other, more than `Expression.depthMax`.
        case tooDeep
        /// More than `Expression.bytesMax` bytes.
        case tooLong
        /// With its repetitions written out it has more than `Expression.positionsMax` characters.
        case tooLarge
    }

    /// Bytes before the place of the fault.
    public let position: Int
    public let reason: Reason

    public var description: String { "at byte \(position): \(reason.text)" }
}

extension ExpressionFault.Reason {
    var text: String {
        switch self {
        case .unbalanced: "a bracket without its other half"
        case .nothingToRepeat: "nothing to repeat"
        case .repeatedRepetition: "a repetition of a repetition"
        case .badCount: "a repetition count above \(Expression.repetitionsMax), or a range that ends before it begins"
        case .badRange: "not a range of characters"
        case .badEscape: "an escape that means nothing"
        case .badGroup: "an unknown kind of group or flag"
        case .badClass: "an unknown character class"
        case .backReference: "back-references are not supported, as they cannot be matched in linear time"
        case .lookAround: "look-around and atomic groups are not supported, as they cannot be matched in linear time"
        case .assertion: "only the whole text can be matched: word boundaries, and ^ or $ elsewhere than at the ends, are not supported"
        case .unicodeClass: "classes know ASCII characters only"
        case .tooDeep: "more than \(Expression.depthMax) groups inside each other"
        case .tooLong: "longer than \(Expression.bytesMax) bytes"
        case .tooLarge: "with its repetitions written out, longer than \(Expression.positionsMax) characters"
        }
    }
}

/// A regular expression, ready to be run: RE2's syntax without what cannot be matched in linear time. It always matches a whole text.
///
/// A character is one byte: `.` takes any but a line feed, and what the expression spells outside ASCII stands for its UTF-8. So matching costs
/// at most bytes × positions steps whatever is matched (RE2's promise), and needs no memory but a bit per position.
public struct Expression: Sendable, Equatable {
    /// Bytes of an expression; the Gateway API allows 4,096 for a header, and nobody reads those.
    public static let bytesMax = 1_024
    /// Characters, classes counted as one, and repetitions as often as they may be repeated at least.
    public static let positionsMax = 255
    /// RE2's own limit.
    public static let repetitionsMax = 1_000
    public static let depthMax = 64

    /// What a shard carries; `ExpressionView` reads it.
    public let program: [UInt8]

    /// Reads an expression and makes its program.
    public static func compile(_ text: String) throws(ExpressionFault) -> Expression {
        let bytes = Array(text.utf8)
        guard bytes.count <= bytesMax else { throw ExpressionFault(position: bytesMax, reason: .tooLong) }
        var parser = ExpressionParser(bytes)
        let tree = try parser.parse()
        return Expression(program: try ExpressionCompiler.program(tree))
    }
}

/// What an expression says.
indirect enum ExpressionTree: Equatable {
    /// The empty text.
    case nothing
    /// Any one byte of a set.
    case one(ByteSet)
    case sequence([ExpressionTree])
    case choice([ExpressionTree])
    /// `most` nil: as often as it likes.
    case repetition(ExpressionTree, least: Int, most: Int?)
    /// `^` or `$`, and where it stands.
    case begin(Int), end(Int)
}

/// A set of bytes.
struct ByteSet: Equatable, Hashable {
    private var words = SIMD4<UInt64>()

    init() {}
    init(_ byte: UInt8) { insert(byte) }
    init(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

    func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] & (1 << UInt64(byte & 63)) != 0 }
    mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }
    mutating func formUnion(_ other: ByteSet) { words |= other.words }

    var inverted: ByteSet {
        var result = self
        result.words = ~words
        return result
    }

    /// With each letter its other case.
    var caseless: ByteSet {
        var result = self
        for letter in UInt8(ascii: "a")...UInt8(ascii: "z") where contains(letter) || contains(letter - 32) {
            result.insert(letter)
            result.insert(letter - 32)
        }
        return result
    }
}
