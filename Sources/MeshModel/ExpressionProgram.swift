// An expression's program is a Glushkov automaton, one bit per position: position 0 is the beginning, the others are the expression's
// characters. A step takes the positions that may follow those reached so far, and keeps those whose character is the byte read.
//
//     count of positions: UInt16 │ words of a set: UInt8 │ classes of bytes − 1: UInt8
//     set of final positions │ class of each byte: UInt8 × 256 │ per class: set of positions │ per position: set of those that may follow
//
// A set is 1 word of 64 bits or 4.

/// Makes programs.
struct ExpressionCompiler {
    typealias Positions = SIMD4<UInt64>

    private var sets: [ByteSet] = [ByteSet()]
    private var follow: [Positions] = [Positions()]

    /// What a part of the expression may begin and end with.
    private struct Part {
        var first = Positions()
        var last = Positions()
        var isOptional = true
    }

    static func program(_ tree: ExpressionTree) throws(ExpressionFault) -> [UInt8] {
        var compiler = ExpressionCompiler()
        let part = try compiler.part(tree)
        compiler.follow[0] = part.first
        var final = part.last
        if part.isOptional { final[0] |= 1 }
        return compiler.encoded(final)
    }

    private mutating func part(_ tree: ExpressionTree) throws(ExpressionFault) -> Part {
        switch tree {
        case .nothing, .begin, .end: return Part()
        case .one(let set):
            guard sets.count <= Expression.positionsMax else { throw ExpressionFault(position: 0, reason: .tooLarge) }
            var position = Positions()
            position[sets.count >> 6] = 1 << UInt64(sets.count & 63)
            sets.append(set)
            follow.append(Positions())
            return Part(first: position, last: position, isOptional: false)
        case .sequence(let items):
            var whole = Part()
            for item in items { append(try part(item), to: &whole) }
            return whole
        case .choice(let branches):
            var whole = Part(isOptional: false)
            for branch in branches {
                let one = try part(branch)
                whole.first |= one.first
                whole.last |= one.last
                whole.isOptional = whole.isOptional || one.isOptional
            }
            return whole
        case .repetition(let item, let least, let most):
            return try repetition(item, least, most)
        }
    }

    /// Written out: `a{2,4}` is `aaa?a?`, `a{2,}` is `aa+`.
    private mutating func repetition(_ item: ExpressionTree, _ least: Int, _ most: Int?) throws(ExpressionFault) -> Part {
        var whole = Part()
        let before = sets.count
        for number in 0..<(most ?? max(1, least)) {
            var one = try part(item)
            // However often nothing is repeated, it is nothing: thousands of empty groups cost no time.
            if sets.count == before { return Part() }
            if most == nil, number == max(1, least) - 1 { link(one.last, to: one.first) }
            if number >= least { one.isOptional = true }
            append(one, to: &whole)
        }
        return whole
    }

    private mutating func append(_ part: Part, to whole: inout Part) {
        link(whole.last, to: part.first)
        if whole.isOptional { whole.first |= part.first }
        whole.last = part.isOptional ? whole.last | part.last : part.last
        whole.isOptional = whole.isOptional && part.isOptional
    }

    private mutating func link(_ from: Positions, to: Positions) {
        for word in 0..<4 {
            var rest = from[word]
            while rest != 0 {
                follow[word * 64 + rest.trailingZeroBitCount] |= to
                rest &= rest - 1
            }
        }
    }

    private func encoded(_ final: Positions) -> [UInt8] {
        let words = sets.count <= 64 ? 1 : 4
        var classes: [Positions] = []
        var numbers: [Positions: UInt8] = [:]
        var classOf: [UInt8] = []
        for byte in UInt8.min...UInt8.max {
            var positions = Positions()
            for place in sets.indices where sets[place].contains(byte) { positions[place >> 6] |= 1 << UInt64(place & 63) }
            if numbers[positions] == nil {
                numbers[positions] = UInt8(classes.count)
                classes.append(positions)
            }
            classOf.append(numbers[positions]!)
        }
        var program: [UInt8] = []
        func add(_ positions: Positions) {
            for word in 0..<words { withUnsafeBytes(of: positions[word]) { program += $0 } }
        }
        withUnsafeBytes(of: UInt16(sets.count)) { program += $0 }
        program += [UInt8(words), UInt8(classes.count - 1)]
        add(final)
        program += classOf
        classes.forEach(add)
        follow.forEach(add)
        return program
    }
}

/// A program inside a shard, or wherever its bytes are; it borrows them.
public struct ExpressionView: @unchecked Sendable {
    @usableFromInline let program: UnsafeRawBufferPointer

    /// Over bytes that have been validated.
    @inlinable
    init(_ program: UnsafeRawBufferPointer) { self.program = program }

    /// Checks that running the program stays inside it; nil when it does not. Any bytes may be given.
    public init?(validating program: UnsafeRawBufferPointer) {
        guard program.count >= 4 else { return nil }
        self.program = program
        let positions = positionCount
        guard (1...Expression.positionsMax + 1).contains(positions), words == 1 && positions <= 64 || words == 4,
            program.count == 4 + 256 + 8 * words * (1 + classCount + positions)
        else { return nil }
        for byte in 0..<256 where Int(program[4 + 8 * words + byte]) >= classCount { return nil }
        // No set names a position that there is not.
        for number in 0..<classCount where !isWithin(positions, at: classesOffset + number * 8 * words) { return nil }
        for number in 0..<positions where !isWithin(positions, at: followOffset + number * 8 * words) { return nil }
        guard isWithin(positions, at: 4) else { return nil }
    }

    private func isWithin(_ positions: Int, at offset: Int) -> Bool {
        for word in 0..<words {
            let bits = self.word(offset + word * 8)
            let rest = positions - word * 64
            if rest < 64, bits >> UInt64(max(0, rest)) != 0 { return false }
        }
        return true
    }

    @inlinable var positionCount: Int { Int(program.loadUnaligned(as: UInt16.self)) }
    @inlinable var words: Int { Int(program[2]) }
    @inlinable var classCount: Int { Int(program[3]) + 1 }
    @inlinable var classesOffset: Int { 4 + 8 * words + 256 }
    @inlinable var followOffset: Int { classesOffset + classCount * 8 * words }
    @inlinable func word(_ offset: Int) -> UInt64 { program.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    /// The set of final positions, per word.
    @inlinable public func final(_ word: Int) -> UInt64 { self.word(4 + word * 8) }

    /// Words of a set: 1 or 4.
    @inlinable public var wordCount: Int { words }

    // The walk's three tables. A class is below `classCount`, a position below `positionCount`: both were validated.

    @inlinable public var classOfByte: UnsafeRawPointer { program.baseAddress.unsafelyUnwrapped + 4 + 8 * words }
    @inlinable public var setOfClass: UnsafeRawPointer { program.baseAddress.unsafelyUnwrapped + classesOffset }
    @inlinable public var setAfterPosition: UnsafeRawPointer { program.baseAddress.unsafelyUnwrapped + followOffset }
}
