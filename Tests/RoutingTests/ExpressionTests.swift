import Testing

@testable import MeshModel
@testable import Routing

@Suite struct ExpressionTests {
    @Test(arguments: [
        ("abc", ["abc"], ["", "ab", "abcd", "xabc"]),
        ("", [""], ["a"]),
        ("/v[0-9]+/.*", ["/v1/", "/v12/a/b"], ["/v/", "/v1", "v1/", "/v1/\n"]),
        ("a|bc|", ["a", "bc", ""], ["ab", "abc"]),
        ("(ab)*c?", ["", "ab", "abab", "c", "ababc"], ["a", "cc", "abca"]),
        ("a{2,4}", ["aa", "aaa", "aaaa"], ["a", "aaaaa"]),
        ("a{3}", ["aaa"], ["aa", "aaaa"]),
        ("(a|b){2,}", ["ab", "bab"], ["a", ""]),
        ("a{0}", [""], ["a"]),
        ("x*y+z??", ["y", "xyyz", "yy"], ["x", "yzz"]),
        ("^/a$", ["/a"], ["/ab"]),
        ("^(a|b$)|^c", ["a", "b", "c"], ["ab"]),
        ("\\A\\d\\D\\w\\W\\s\\S\\z", ["1a_- x"], ["11_- x", "1a-- x"]),
        ("[a-c-]", ["a", "c", "-"], ["d", ""]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[^]a]", ["b"], ["]", "a"]),
        ("[^/]+", ["abc", "ä"], ["", "a/b"]),
        ("[[:alpha:]_]+[[:^digit:]]", ["ab_", "a."], ["a1", "1a"]),
        ("[\\d\\]x-z]+", ["1]y"], ["a"]),
        ("(?i)cArT-[a-c]", ["CART-B", "cart-a"], ["cart-d"]),
        ("a(?i:b)c", ["abc", "aBc"], ["Abc", "abC"]),
        ("(?:a(?i)b|c)d", ["abd", "aBd", "Cd"], ["Abd", "abD"]),
        ("(?s).", ["\n"], [""]),
        ("(?P<user>[a-z]+)/(?<id>\\d+)", ["me/1"], ["me/", "/1"]),
        ("\\Qa.b*\\E+", ["a.b*", "a.b**"], ["aab", "a.ba.b*"]),
        ("a\\.b\\/\\x41\\x{2f}", ["a.b/A/"], ["aXb/A/"]),
        ("é+", ["éé"], ["e", ""]),
        ("{id}", ["{id}"], ["id"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("((a*)*)*b", ["b", "aab"], ["a"]),
        (".{3}", ["abc"], ["ab"]),
        ("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.example\\.com", ["a.example.com", "a-b.example.com"], ["-a.example.com", "aexample.com"]),
        ("(a|ab)(c|bcd)(d*)", ["abcd", "acd"], ["abc d"]),
    ])
    func textsAreMatchedWhole(_ expression: String, _ matching: [String], _ others: [String]) throws {
        for text in matching { #expect(try matches(expression, text), "\(expression) takes \(text)") }
        for text in others { #expect(try !matches(expression, text), "\(expression) does not take \(text)") }
    }

    @Test(arguments: [
        ("(a", 0, ExpressionFault.Reason.unbalanced), ("a)", 1, .unbalanced), ("[a", 0, .unbalanced), ("*a", 0, .nothingToRepeat), ("a|+", 2, .nothingToRepeat),
        ("({2})", 1, .nothingToRepeat), ("a**", 2, .repeatedRepetition), ("a{2}{3}", 4, .repeatedRepetition), ("a{1001}", 1, .badCount), ("a{3,2}", 1, .badCount),
        ("[b-a]", 1, .badRange), ("[a-\\d]", 3, .badRange), ("\\", 0, .badEscape), ("a\\y", 1, .badEscape), ("\\xg0", 0, .badEscape), ("(?x)a", 0, .badGroup),
        ("(?P<>a)", 0, .badGroup), ("[[:foo:]]", 1, .badClass), ("(a)\\1", 3, .backReference), ("(?P<n>a)(?P=n)", 8, .backReference),
        ("(?=a)", 0, .lookAround), ("(?!a)", 0, .lookAround), ("(?<=a)b", 0, .lookAround), ("(?<!a)b", 0, .lookAround), ("(?>a)", 0, .lookAround),
        ("a\\b", 1, .assertion), ("a^b", 1, .assertion), ("a$b", 1, .assertion), ("(^a)*", 1, .assertion), ("(?m)a", 0, .assertion), ("\\p{L}", 0, .unicodeClass),
        ("[é]", 1, .unicodeClass), ("a{256}", 0, .tooLarge), ("(a{100}){100}", 0, .tooLarge), (String(repeating: "(", count: 65), 64, .tooDeep),
        (String(repeating: "a", count: 1_025), 1_024, .tooLong),
    ])
    func whatIsNotSupportedIsSaid(_ expression: String, _ position: Int, _ reason: ExpressionFault.Reason) {
        #expect(throws: ExpressionFault(position: position, reason: reason)) { try Expression.compile(expression) }
    }

    /// 255 characters are the most there can be; the walk over four words is the same as over one.
    @Test func longExpressionsAreWalkedToTheirEnd() throws {
        for count in [1, 62, 63, 64, 65, 127, 128, 200, 255] {
            let text = String(repeating: "a", count: count)
            #expect(try matches("a{\(count)}", text) && !matches("a{\(count)}", text + "a") && !matches("a{\(count)}", String(text.dropLast())))
            #expect(try matches("a{0,\(count)}", text) && !matches("a{0,\(count)}", text + "a"))
        }
    }

    /// What takes exponential time elsewhere takes as long as any other text here.
    @Test func nothingIsTriedTwice() throws {
        for expression in ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)*(.*)*(.*)*b", "(a+a+)+b", "(([a-z])+.)+[A-Z]([a-z])+b"] {
            let text = String(repeating: "a", count: 2_000)
            let start = ContinuousClock.now
            #expect(try !matches(expression, text))
            // A backtracking matcher would not end before the sun does.
            #expect(ContinuousClock.now - start < .seconds(20))
        }
    }

    @Test func thousandsOfEmptyGroupsCostNothing() throws {
        #expect(try matches("((((){1000}){1000}){1000}){1000}", "") )
        #expect(try matches(String(repeating: "()", count: 500), ""))
    }

    /// Any text is an expression or a fault; and a program is whole.
    @Test(arguments: 1...6) func anyTextIsReadOrRefused(seed: UInt64) throws {
        var random = TestRandom(state: seed &* 31)
        let pieces = ["a", "b", "(", ")", "[", "]", "*", "+", "?", "{2}", "{1,", "}", "|", "\\", "^", "$", ".", "-", "(?", "i", ":", "P<", ">", "\\d", "[^", "[:alpha:]", "\\Q", "\\E", "\\x", "é", "0", "{1000}", "\u{0}"]
        var compiled = 0
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
            do throws(ExpressionFault) {
                let program = try Expression.compile(text).program
                compiled += 1
                let isWhole = program.withUnsafeBytes { ExpressionView(validating: $0) != nil }
                #expect(isWhole, "\(text)")
            } catch {
                #expect((0...text.utf8.count).contains(error.position) && !error.description.isEmpty, "\(text)")
            }
        }
        #expect(compiled > 1_000 && compiled < 19_000)
    }

    // MARK: Against another matcher

    /// A tree of its own, and the ends that each part of it can reach, found by trying everything: slow, and plainly right.
    indirect enum Tree {
        case text(String), set([Character], inverted: Bool), any
        case both(Tree, Tree), either(Tree, Tree)
        case times(Tree, Int, Int?)

        var pattern: String {
            switch self {
            case .text(let text): text
            case .set(let set, let inverted): "[\(inverted ? "^" : "")\(String(set))]"
            case .any: "."
            case .both(let left, let right): left.pattern + right.pattern
            case .either(let left, let right): "(?:\(left.pattern)|\(right.pattern))"
            case .times(let tree, 0, nil): "(?:\(tree.pattern))*"
            case .times(let tree, 1, nil): "(\(tree.pattern))+"
            case .times(let tree, 0, 1): "(\(tree.pattern))?"
            case .times(let tree, let least, let most): "(\(tree.pattern)){\(least),\(most.map(String.init) ?? "")}"
            }
        }

        func ends(_ text: [Character], _ starts: Set<Int>) -> Set<Int> {
            switch self {
            case .text(let wanted): Set(starts.filter { text[$0...].starts(with: wanted) }.map { $0 + wanted.count })
            case .set(let set, let inverted): Set(starts.filter { $0 < text.count && set.contains(text[$0]) != inverted }.map { $0 + 1 })
            case .any: Set(starts.filter { $0 < text.count && text[$0] != "\n" }.map { $0 + 1 })
            case .both(let left, let right): right.ends(text, left.ends(text, starts))
            case .either(let left, let right): left.ends(text, starts).union(right.ends(text, starts))
            case .times(let tree, let least, let most): repeated(tree, least, most, text, starts)
            }
        }

        private func repeated(_ tree: Tree, _ least: Int, _ most: Int?, _ text: [Character], _ starts: Set<Int>) -> Set<Int> {
            var reached = starts
            for _ in 0..<least { reached = tree.ends(text, reached) }
            var all = reached
            for _ in 0..<(most.map { $0 - least } ?? text.count + 1) {
                reached = tree.ends(text, reached)
                all.formUnion(reached)
            }
            return all
        }

        static func random(_ depth: Int, _ random: inout TestRandom) -> Tree {
            switch Int.random(in: 0..<(depth == 0 ? 4 : 9), using: &random) {
            case 0, 1: return .text(["a", "b", "c", "ab", "bc"].randomElement(using: &random)!)
            case 2: return .set([["a"], ["a", "b"], ["c", "b"]].randomElement(using: &random)!, inverted: Bool.random(using: &random))
            case 3: return .any
            case 4, 5: return .both(Tree.random(depth - 1, &random), Tree.random(depth - 1, &random))
            case 6: return .either(Tree.random(depth - 1, &random), Tree.random(depth - 1, &random))
            default:
                let least = Int.random(in: 0...2, using: &random)
                let most: Int? = Bool.random(using: &random) ? nil : least + Int.random(in: 0...2, using: &random)
                return .times(Tree.random(depth - 1, &random), least, most)
            }
        }
    }

    @Test(arguments: 1...8) func everyAnswerIsThatOfAPlainMatcher(seed: UInt64) throws {
        var random = TestRandom(state: seed &* 7_777)
        var taken = 0, asked = 0
        for _ in 0..<1_500 {
            let tree = Tree.random(4, &random)
            guard let expression = try? Expression.compile(tree.pattern) else { continue }
            for _ in 0..<12 {
                let text = (0..<Int.random(in: 0...9, using: &random)).map { _ in "aaabbbcd\n".randomElement(using: &random)! }
                let expected = tree.ends(text, [0]).contains(text.count)
                #expect(run(expression, String(text)) == expected, "\(tree.pattern) on \(String(text)), seed \(seed)")
                asked += 1
                if expected { taken += 1 }
            }
        }
        #expect(taken > asked / 20 && taken < asked, "\(taken) of \(asked)")
    }

    // MARK: Aids

    private func matches(_ expression: String, _ text: String) throws -> Bool { run(try Expression.compile(expression), text) }

    private func run(_ expression: Expression, _ text: String) -> Bool {
        expression.program.withUnsafeBytes { program in withBytes(text) { text in ExpressionView(validating: program).map { $0.matches(text) } ?? false } }
    }
}

struct TestRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}
