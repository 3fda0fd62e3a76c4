/// Reads the text of an expression; see `Expression` for what it may hold.
struct ExpressionParser {
    private let text: [UInt8]
    private var place = 0
    private var depth = 0
    // The flags in force.
    private var isCaseless = false
    private var dotTakesLineFeed = false

    init(_ text: [UInt8]) { self.text = text }

    mutating func parse() throws(ExpressionFault) -> ExpressionTree {
        let tree = try choice()
        // What ends a choice early is a closing bracket.
        guard place == text.count else { throw fault(.unbalanced) }
        return try Self.withoutAnchors(tree, mayBegin: true, mayEnd: true)
    }

    // MARK: Structure

    private mutating func choice() throws(ExpressionFault) -> ExpressionTree {
        var branches: [ExpressionTree] = [try sequence()]
        while next(is: "|") {
            place += 1
            branches.append(try sequence())
        }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(ExpressionFault) -> ExpressionTree {
        var items: [ExpressionTree] = []
        while place < text.count, !next(is: "|"), !next(is: ")") {
            let read = try item()
            // Of a quoted run only the last character is what a repetition repeats.
            items += read.dropLast()
            guard let last = read.last else { continue }
            items.append(try repeated(last))
        }
        return items.count == 1 ? items[0] : items.isEmpty ? .nothing : .sequence(items)
    }

    private mutating func repeated(_ item: ExpressionTree) throws(ExpressionFault) -> ExpressionTree {
        guard let (least, most) = try count() else { return item }
        // Lazy or not, the whole text must match.
        if next(is: "?") { place += 1 }
        let second = place
        if try count() != nil { throw ExpressionFault(position: second, reason: .repeatedRepetition) }
        return .repetition(item, least: least, most: most)
    }

    /// A repetition, if one stands here. `{` that begins none is an ordinary character, as in RE2.
    private mutating func count() throws(ExpressionFault) -> (least: Int, most: Int?)? {
        guard place < text.count else { return nil }
        switch text[place] {
        case UInt8(ascii: "*"):
            place += 1
            return (0, nil)
        case UInt8(ascii: "+"):
            place += 1
            return (1, nil)
        case UInt8(ascii: "?"):
            place += 1
            return (0, 1)
        case UInt8(ascii: "{"):
            let start = place
            var reader = self
            reader.place += 1
            guard let least = reader.number() else { return nil }
            var most: Int? = least
            if reader.next(is: ",") {
                reader.place += 1
                most = reader.number()
            }
            guard reader.next(is: "}") else { return nil }
            place = reader.place + 1
            guard least <= Expression.repetitionsMax, most.map({ $0 >= least && $0 <= Expression.repetitionsMax }) ?? true else {
                throw ExpressionFault(position: start, reason: .badCount)
            }
            return (least, most)
        default: return nil
        }
    }

    /// Digits, as a number that is surely too large when it is.
    private mutating func number() -> Int? {
        let start = place
        var value = 0
        while place < text.count, text[place] &- 0x30 < 10 {
            value = min(value * 10 + Int(text[place] &- 0x30), Expression.repetitionsMax + 1)
            place += 1
        }
        return place > start ? value : nil
    }

    // MARK: Items

    /// What stands between two repetitions: mostly one tree, several for a quoted run, none for flags.
    private mutating func item() throws(ExpressionFault) -> [ExpressionTree] {
        let start = place
        let byte = text[place]
        switch byte {
        case UInt8(ascii: "("): return try group().map { [$0] } ?? []
        case UInt8(ascii: "["): return [.one(try bracketed())]
        case UInt8(ascii: "\\"): return try escape()
        case UInt8(ascii: "."):
            place += 1
            return [.one(dotTakesLineFeed ? ByteSet().inverted : ByteSet(0x0A).inverted)]
        case UInt8(ascii: "^"):
            place += 1
            return [.begin(start)]
        case UInt8(ascii: "$"):
            place += 1
            return [.end(start)]
        case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"): throw fault(.nothingToRepeat)
        case UInt8(ascii: "{"):
            if try count() != nil { throw ExpressionFault(position: start, reason: .nothingToRepeat) }
            place = start + 1
            return [literal(byte)]
        default: return [character()]
        }
    }

    /// One character: outside ASCII the bytes of its UTF-8, which are repeated together.
    private mutating func character() -> ExpressionTree {
        var bytes = [literal(text[place])]
        place += 1
        while text[place - 1] >= 0x80, place < text.count, text[place] & 0xC0 == 0x80 {
            bytes.append(.one(ByteSet(text[place])))
            place += 1
        }
        return bytes.count == 1 ? bytes[0] : .sequence(bytes)
    }

    private func literal(_ byte: UInt8) -> ExpressionTree { .one(isCaseless ? ByteSet(byte).caseless : ByteSet(byte)) }

    /// Nil: only flags, in force from here to the end of the group around them.
    private mutating func group() throws(ExpressionFault) -> ExpressionTree? {
        let start = place
        place += 1
        let flags = (isCaseless, dotTakesLineFeed)
        if next(is: "?") {
            place += 1
            if try !groupKind(start) { return nil }
        }
        depth += 1
        guard depth <= Expression.depthMax else { throw ExpressionFault(position: start, reason: .tooDeep) }
        let tree = try choice()
        depth -= 1
        guard next(is: ")") else { throw ExpressionFault(position: start, reason: .unbalanced) }
        place += 1
        (isCaseless, dotTakesLineFeed) = flags
        return tree
    }

    /// What follows `(?`. False: flags alone.
    private mutating func groupKind(_ start: Int) throws(ExpressionFault) -> Bool {
        guard place < text.count else { throw ExpressionFault(position: start, reason: .unbalanced) }
        switch text[place] {
        case UInt8(ascii: "="), UInt8(ascii: "!"), UInt8(ascii: ">"): throw ExpressionFault(position: start, reason: .lookAround)
        case UInt8(ascii: "<"), UInt8(ascii: "P"), UInt8(ascii: "'"):
            if next(is: "P") {
                place += 1
                if next(is: "=") || next(is: ">") { throw ExpressionFault(position: start, reason: .backReference) }
            } else if place + 1 < text.count, text[place + 1] == UInt8(ascii: "=") || text[place + 1] == UInt8(ascii: "!") {
                throw ExpressionFault(position: start, reason: .lookAround)
            }
            guard next(is: "<") else { throw ExpressionFault(position: start, reason: .badGroup) }
            place += 1
            let name = place
            while place < text.count, Self.isWord(text[place]) { place += 1 }
            guard place > name, next(is: ">") else { throw ExpressionFault(position: start, reason: .badGroup) }
            place += 1
            return true
        default: return try flags(start)
        }
    }

    private mutating func flags(_ start: Int) throws(ExpressionFault) -> Bool {
        var value = true
        while place < text.count {
            let byte = text[place]
            place += 1
            switch byte {
            case UInt8(ascii: "i"): isCaseless = value
            case UInt8(ascii: "s"): dotTakesLineFeed = value
            case UInt8(ascii: "U"): break  // Who is greedy does not matter where the whole text must match.
            case UInt8(ascii: "m"): if value { throw ExpressionFault(position: start, reason: .assertion) }
            case UInt8(ascii: "-") where value: value = false
            case UInt8(ascii: ":"): return true
            case UInt8(ascii: ")"): return false
            default: throw ExpressionFault(position: start, reason: .badGroup)
            }
        }
        throw ExpressionFault(position: start, reason: .unbalanced)
    }

    // MARK: Escapes

    private mutating func escape() throws(ExpressionFault) -> [ExpressionTree] {
        let start = place
        guard place + 1 < text.count else { throw fault(.badEscape) }
        switch text[place + 1] {
        case UInt8(ascii: "A"):
            place += 2
            return [.begin(start)]
        case UInt8(ascii: "z"):
            place += 2
            return [.end(start)]
        case UInt8(ascii: "Q"): return quoted()
        case UInt8(ascii: "C"):
            place += 2
            return [.one(ByteSet().inverted)]
        case UInt8(ascii: "b"), UInt8(ascii: "B"), UInt8(ascii: "Z"), UInt8(ascii: "G"): throw fault(.assertion)
        case UInt8(ascii: "1")...UInt8(ascii: "9"), UInt8(ascii: "k"), UInt8(ascii: "g"): throw fault(.backReference)
        default: break
        }
        if let set = try escapedClass() { return [.one(set)] }
        let scalar = try escapedScalar()
        let bytes = Array(String(Character(scalar)).utf8)
        return bytes.count == 1 ? [literal(bytes[0])] : [.sequence(bytes.map { .one(ByteSet($0)) })]
    }

    /// `\Q…\E`, or to the end.
    private mutating func quoted() -> [ExpressionTree] {
        place += 2
        var items: [ExpressionTree] = []
        while place < text.count {
            if text[place] == UInt8(ascii: "\\"), place + 1 < text.count, text[place + 1] == UInt8(ascii: "E") {
                place += 2
                break
            }
            items.append(character())
        }
        return items
    }

    /// `\d` and the like.
    private mutating func escapedClass() throws(ExpressionFault) -> ByteSet? {
        let set: ByteSet
        switch text[place + 1] | 0x20 {
        case UInt8(ascii: "d"): set = Self.named("digit").unsafelyUnwrapped
        case UInt8(ascii: "w"): set = Self.named("word").unsafelyUnwrapped
        case UInt8(ascii: "s"):
            var blanks = ByteSet(UInt8(ascii: " "))
            for byte: UInt8 in [0x09, 0x0A, 0x0C, 0x0D] { blanks.insert(byte) }
            set = blanks
        case UInt8(ascii: "p"): throw fault(.unicodeClass)
        default: return nil
        }
        let isInverted = text[place + 1] & 0x20 == 0
        place += 2
        return isInverted ? set.inverted : set
    }

    /// The character that an escape stands for.
    private mutating func escapedScalar() throws(ExpressionFault) -> Unicode.Scalar {
        let start = place
        guard place + 1 < text.count else { throw fault(.badEscape) }
        let byte = text[place + 1]
        place += 2
        switch byte {
        case UInt8(ascii: "a"): return "\u{07}"
        case UInt8(ascii: "f"): return "\u{0C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "v"): return "\u{0B}"
        case UInt8(ascii: "x"):
            let isBraced = next(is: "{")
            if isBraced { place += 1 }
            var value: UInt32 = 0
            let digits = place
            while place < text.count, place - digits < (isBraced ? 6 : 2), let digit = PathForm.digit(text[place]) {
                value = value << 4 | UInt32(digit)
                place += 1
            }
            guard isBraced ? place > digits && next(is: "}") : place - digits == 2, let scalar = Unicode.Scalar(value) else {
                throw ExpressionFault(position: start, reason: .badEscape)
            }
            if isBraced { place += 1 }
            return scalar
        case 0..<0x80 where !Self.isWord(byte): return Unicode.Scalar(byte)
        default: throw ExpressionFault(position: start, reason: .badEscape)
        }
    }

    // MARK: Classes

    private mutating func bracketed() throws(ExpressionFault) -> ByteSet {
        let start = place
        place += 1
        let isInverted = next(is: "^")
        if isInverted { place += 1 }
        var set = ByteSet()
        var isFirst = true
        while true {
            guard place < text.count else { throw ExpressionFault(position: start, reason: .unbalanced) }
            if next(is: "]"), !isFirst { break }
            isFirst = false
            if next(is: "["), place + 1 < text.count, text[place + 1] == UInt8(ascii: ":"), let named = try namedClass() {
                set.formUnion(named)
            } else if next(is: "\\"), place + 1 < text.count, let escaped = try escapedClass() {
                set.formUnion(escaped)
            } else {
                set.formUnion(try range())
            }
        }
        place += 1
        if isCaseless { set = set.caseless }
        return isInverted ? set.inverted : set
    }

    /// One character, or two with `-` between them.
    private mutating func range() throws(ExpressionFault) -> ByteSet {
        let start = place
        let low = try classCharacter()
        guard next(is: "-"), place + 1 < text.count, text[place + 1] != UInt8(ascii: "]") else { return ByteSet(low) }
        place += 1
        let high = try classCharacter()
        guard low <= high else { throw ExpressionFault(position: start, reason: .badRange) }
        return ByteSet(low...high)
    }

    private mutating func classCharacter() throws(ExpressionFault) -> UInt8 {
        guard next(is: "\\") else {
            guard text[place] < 0x80 else { throw fault(.unicodeClass) }
            place += 1
            return text[place - 1]
        }
        let start = place
        if place + 1 < text.count, "dDwWsSpP".utf8.contains(text[place + 1]) { throw fault(.badRange) }
        let scalar = try escapedScalar()
        guard scalar.value < 0x80 else { throw ExpressionFault(position: start, reason: .unicodeClass) }
        return UInt8(scalar.value)
    }

    /// `[:name:]`; nil when it is not spelled so.
    private mutating func namedClass() throws(ExpressionFault) -> ByteSet? {
        let start = place
        var end = place + 2
        while end < text.count, Self.isWord(text[end]) || text[end] == UInt8(ascii: "^") { end += 1 }
        guard end + 1 < text.count, text[end] == UInt8(ascii: ":"), text[end + 1] == UInt8(ascii: "]") else { return nil }
        let isInverted = text[start + 2] == UInt8(ascii: "^")
        let name = String(decoding: text[(start + (isInverted ? 3 : 2))..<end], as: UTF8.self)
        guard let set = Self.named(name) else { throw ExpressionFault(position: start, reason: .badClass) }
        place = end + 2
        return isInverted ? set.inverted : set
    }

    private static func named(_ name: String) -> ByteSet? {
        let ranges: [ClosedRange<UInt8>]? = switch name {
        case "alnum": [0x30...0x39, 0x41...0x5A, 0x61...0x7A]
        case "alpha": [0x41...0x5A, 0x61...0x7A]
        case "ascii": [0...0x7F]
        case "blank": [0x09...0x09, 0x20...0x20]
        case "cntrl": [0...0x1F, 0x7F...0x7F]
        case "digit": [0x30...0x39]
        case "graph": [0x21...0x7E]
        case "lower": [0x61...0x7A]
        case "print": [0x20...0x7E]
        case "punct": [0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E]
        case "space": [0x09...0x0D, 0x20...0x20]
        case "upper": [0x41...0x5A]
        case "word": [0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A]
        case "xdigit": [0x30...0x39, 0x41...0x46, 0x61...0x66]
        default: nil
        }
        return ranges.map { ranges in
            var set = ByteSet()
            for range in ranges { set.formUnion(ByteSet(range)) }
            return set
        }
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "_")
    }

    // MARK: Anchors

    /// The tree without `^` and `$`, which say nothing where the text begins and ends anyway, and are refused everywhere else.
    private static func withoutAnchors(_ tree: ExpressionTree, mayBegin: Bool, mayEnd: Bool) throws(ExpressionFault) -> ExpressionTree {
        switch tree {
        case .nothing, .one: return tree
        case .begin(let position):
            guard mayBegin else { throw ExpressionFault(position: position, reason: .assertion) }
            return .nothing
        case .end(let position):
            guard mayEnd else { throw ExpressionFault(position: position, reason: .assertion) }
            return .nothing
        case .choice(let branches):
            var clean: [ExpressionTree] = []
            for branch in branches { clean.append(try withoutAnchors(branch, mayBegin: mayBegin, mayEnd: mayEnd)) }
            return .choice(clean)
        case .repetition(let item, let least, let most):
            return .repetition(try withoutAnchors(item, mayBegin: false, mayEnd: false), least: least, most: most)
        case .sequence(let items):
            var clean: [ExpressionTree] = []
            // Behind the first item that is no `^`, and before the last that is no `$`, nothing is at an end any more.
            let first = items.firstIndex { !$0.isBegin } ?? items.count
            let last = items.lastIndex { !$0.isEnd } ?? -1
            for (place, item) in items.enumerated() {
                clean.append(try withoutAnchors(item, mayBegin: mayBegin && place <= first, mayEnd: mayEnd && place >= last))
            }
            return .sequence(clean)
        }
    }

    // MARK: Aids

    private func next(is character: Unicode.Scalar) -> Bool { place < text.count && text[place] == UInt8(ascii: character) }
    private func fault(_ reason: ExpressionFault.Reason) -> ExpressionFault { ExpressionFault(position: place, reason: reason) }
}

extension ExpressionTree {
    fileprivate var isBegin: Bool {
        if case .begin = self { return true }
        return false
    }

    fileprivate var isEnd: Bool {
        if case .end = self { return true }
        return false
    }
}
