/// Requests that are right by construction, in all the spellings the grammar of RFC 9112 allows, with what each means.
struct RequestGrammar {
    var random: SeededRandom

    mutating func request() -> (wire: [UInt8], meaning: StrictReader.Message) {
        let method = pick(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "purge"])
        let minor = pick(["1", "1", "1", "0"])
        let hostName = pick(["a", "cart.shop:8080", "[::1]", "10.0.0.1:80"])
        var target = pick(["/", "/a/b", "/?q=1&r=2", "/%20", "//x", "/a;b=c"])
        var wireTarget = target
        var host = hostName
        switch Int.random(in: 0..<8, using: &random) {
        case 0: host = "target.example:81"; wireTarget = "http://target.example:81" + target
        case 1: host = "t"; wireTarget = "HTTP://t"; target = method == "OPTIONS" ? "*" : "/"
        case 2: host = "t"; wireTarget = "http://t?x"; target = "/?x"
        case 3 where method == "OPTIONS": target = "*"; wireTarget = "*"
        default: break
        }
        var lines = [field("Host", hostName)]
        var body: [UInt8] = []
        var content: [UInt8] = [], trailers: [String] = []
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            content = payload()
            body = content
            lines.append(field("Content-Length", String(repeating: "0", count: Int.random(in: 0...2, using: &random)) + "\(content.count)"))
        case 1 where minor == "1":
            content = payload()
            (body, trailers) = chunked(content)
            lines.append(field("Transfer-Encoding", pick(["chunked", "Chunked", "CHUNKED"])))
        default: break
        }
        if Bool.random(using: &random) { lines.append(field("Connection", pick(["keep-alive", "close", "x-hop , ,close", "te"]))) }
        let others = [("User-Agent", "curl/8"), ("Accept", "*/*"), ("X-Hop", "1"), ("X-Empty", ""), ("X-Request-Id", "abc"), ("TE", "trailers"), ("Cookie", "a=b; c=\"d\"")]
        for _ in 0..<Int.random(in: 0...5, using: &random) {
            let other = others.randomElement(using: &random)!
            lines.append(field(other.0, other.1))
        }
        lines.shuffle(using: &random)
        let emptyLine = Int.random(in: 0..<6, using: &random) == 0 ? "\r\n" : ""
        let wire = "\(emptyLine)\(method) \(wireTarget) HTTP/1.\(minor)\r\n\(lines.joined())\r\n"
        return (Array(wire.utf8) + body, StrictReader.Message(start: [method, target, host], body: content, trailers: trailers))
    }

    private mutating func pick(_ choices: [String]) -> String { choices.randomElement(using: &random)! }

    private mutating func field(_ name: String, _ value: String) -> String {
        let spelled = pick([name, name.lowercased(), name.uppercased()])
        return "\(spelled):\(pick(["", " ", "\t", "  \t"]))\(value)\(pick(["", "", " ", "\t "]))\r\n"
    }

    /// Content that looks like framing and like requests, to tempt a reader that has lost its place.
    private mutating func payload() -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            bytes += pick(["hello", "\r\n", "0\r\n\r\n", "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n", "\0\u{7F}", String(repeating: "z", count: 300)]).utf8
        }
        return bytes
    }

    private mutating func chunked(_ content: [UInt8]) -> ([UInt8], [String]) {
        var wire: [UInt8] = []
        var rest = content[...]
        while !rest.isEmpty {
            let part = rest.prefix(Int.random(in: 1...200, using: &random))
            rest = rest.dropFirst(part.count)
            let size = String(part.count, radix: 16, uppercase: Bool.random(using: &random))
            wire += (pick(["", "0", "00"]) + size + pick(["", "", ";a", ";a=\"b\\\"c\"", "; x = y"]) + "\r\n").utf8 + part + "\r\n".utf8
        }
        wire += pick(["0\r\n", "000\r\n", "0;last\r\n"]).utf8
        let trailers = Bool.random(using: &random) ? [] : ["X-Sum: \(content.count)", "Y:"]
        for trailer in trailers { wire += (trailer + "\r\n").utf8 }
        return (wire + "\r\n".utf8, trailers)
    }
}
