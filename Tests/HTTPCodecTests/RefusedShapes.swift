import HTTPCodec
import Testing

/// One shape that two servers could read differently, or that breaks a limit, and the name it is refused under.
struct RefusedShape: Sendable, CustomTestStringConvertible {
    var name: String
    var wire: String
    var fault: HTTPFault
    var testDescription: String { name }

    init(_ name: String, _ wire: String, _ fault: HTTPFault) {
        self.name = name
        self.wire = wire
        self.fault = fault
    }

    /// A shape in the fields of an otherwise faultless request.
    init(field name: String, _ line: String, _ fault: HTTPFault, method: String = "POST", version: String = "1.1") {
        self.init(name, "\(method) / HTTP/\(version)\r\nHost: a\r\n\(line)\r\n\r\n", fault)
    }

    static let requests: [RefusedShape] = [
        // Lines.
        .init("bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", .bareLineFeed),
        .init("bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", .bareLineFeed),
        .init("bare LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\nGET / HTTP/1.1\r\n", .bareLineFeed),
        .init("bare LF inside a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n", .bareLineFeed),
        .init("bare LF inside a name", "GET / HTTP/1.1\r\nHo\nst: a\r\n\r\n", .bareLineFeed),
        .init("bare LF behind the target", "GET /\nHost: a\r\n\r\n", .bareLineFeed),
        .init("bare CR inside a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", .bareCarriageReturn),
        .init("bare CR before the field's CRLF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", .bareCarriageReturn),
        .init("bare CR in the place of the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", .bareCarriageReturn),
        .init("bare CR behind the version", "GET / HTTP/1.1\rHost: a\r\n\r\n", .bareCarriageReturn),
        .init("bare CR behind the target", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", .bareCarriageReturn),
        .init("bare CR inside a name", "GET / HTTP/1.1\r\nHo\rst: a\r\n\r\n", .bareCarriageReturn),
        .init("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", .nulByte),
        .init("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", .nulByte),
        .init("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", .nulByte),
        .init("escape character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{1B}c\r\n\r\n", .controlCharacter),
        .init("delete character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{7F}c\r\n\r\n", .controlCharacter),
        .init("vertical tab before chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{0B}chunked\r\n\r\n", .controlCharacter),
        .init("form feed in the target", "GET /\u{0C} HTTP/1.1\r\nHost: a\r\n\r\n", .controlCharacter),

        // Request line.
        .init("leading space", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", .leadingWhitespace),
        .init("leading tab", "\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", .leadingWhitespace),
        .init("two leading empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", .leadingWhitespace),
        .init("leading space behind the forgiven empty line", "\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", .leadingWhitespace),
        .init("leading LF", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", .bareLineFeed),
        .init("leading CR alone", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", .bareCarriageReturn),
        .init("method with a forbidden byte", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", .badMethod),
        .init("TLS in the place of a method", "\u{16}\u{03}\u{01}", .controlCharacter),
        .init("known method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", .methodCase),
        .init("HEAD in mixed case", "Head / HTTP/1.1\r\nHost: a\r\n\r\n", .methodCase),
        .init("method too long", String(repeating: "M", count: 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n", .methodTooLong),
        .init("two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("tab before the target", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("tab before the version", "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("space inside the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", .badVersion),
        .init("request in the target's place", "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", .requestLineSpacing),
        .init("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", .badVersion),
        .init("relative target", "GET index.html HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("fragment in the target", "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("byte above ASCII in the target", "GET /é HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("asterisk without OPTIONS", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("foreign scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("absolute target without authority", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", .badHost),
        .init("user information in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", .badHost),
        .init("bad port in the target", "GET http://a:0/ HTTP/1.1\r\nHost: a\r\n\r\n", .badHost),
        .init("authority form without CONNECT", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("CONNECT with a path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", .badTarget),
        .init("target too long", "GET /" + String(repeating: "x", count: 16 * 1024) + " HTTP/1.1\r\nHost: a\r\n\r\n", .targetTooLong),
        .init("HTTP/0.9", "GET /\r\n", .badVersion),
        .init("lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", .badVersion),
        .init("version with two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", .badVersion),
        .init("version without a point", "GET / HTTP/11.\r\nHost: a\r\n\r\n", .badVersion),
        .init("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .badTarget),
        .init("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", .unsupportedVersion),
        .init("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", .unsupportedVersion),

        // Fields.
        .init(field: "obsolete fold with a space", "X: b\r\n c", .obsoleteFold),
        .init(field: "obsolete fold with a tab", "X: b\r\n\tc", .obsoleteFold),
        .init("set-in first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", .obsoleteFold),
        .init(field: "no colon", "X", .missingColon),
        .init(field: "empty name", ": b", .emptyFieldName),
        .init(field: "space before the colon", "X : b", .spaceBeforeColon),
        .init(field: "tab before the colon", "Transfer-Encoding\t: chunked", .spaceBeforeColon),
        .init(field: "space inside a name", "X Y: b", .badFieldName),
        .init(field: "byte above ASCII in a name", "Xé: b", .badFieldName),
        .init(field: "bracket in a name", "X[0]: b", .badFieldName),
        .init("97 fields", "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: y\r\n", count: 96) + "\r\n", .tooManyFields),
        .init("head of 64 KiB and one", "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "y", count: 65_536) + "\r\n\r\n", .headTooLarge),
        .init(field: "connection option that is no token", "Connection: close;x", .badConnectionOption),
        .init(field: "too many connection options", "Connection: " + String(repeating: "a,", count: 17), .badConnectionOption),

        // Host.
        .init("no Host", "GET / HTTP/1.1\r\n\r\n", .missingHost),
        .init("no Host beside an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n", .missingHost),
        .init("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", .repeatedHost),
        .init("two Hosts of different case", "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", .repeatedHost),
        .init("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", .repeatedHost),
    ] + [
        ("empty", ""), ("user information", "u@a"), ("space inside", "a b"), ("list", "a,b"), ("path", "a/b"), ("query", "a?b"),
        ("backslash", "a\\b"), ("letters for a port", "a:b"), ("empty port", "a:"), ("port 0", "a:0"), ("port beyond 65535", "a:65536"),
        ("port of six digits", "a:000080"), ("signed port", "a:+80"), ("two ports", "a:80:80"), ("port alone", ":80"),
        ("bare IPv6", "::1"), ("open bracket", "[::1"), ("bytes behind the bracket", "[::1]x"), ("empty brackets", "[]"),
        ("name in brackets", "[abcg]"), ("zone", "[fe80::1%eth0]"), ("cut percent code", "a%2"), ("bad percent code", "a%zz"), ("quote", "a\"b"),
        ("byte above ASCII", "é"), ("angle brackets", "<a>"),
    ].map { RefusedShape("Host: \($0.0)", "GET / HTTP/1.1\r\nHost: \($0.1)\r\n\r\n", .badHost) } + [
        // Framing.
        .init(field: "length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked", .lengthAndTransferEncoding),
        .init(field: "chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5", .lengthAndTransferEncoding),
        .init(field: "chunked and length 0", "Transfer-Encoding: chunked\r\nContent-Length: 0", .lengthAndTransferEncoding),
        .init(field: "two lengths that differ", "Content-Length: 5\r\nContent-Length: 6", .repeatedContentLength),
        .init(field: "two lengths that agree", "Content-Length: 5\r\nContent-Length: 5", .repeatedContentLength),
        .init(field: "list of lengths that differ", "Content-Length: 5, 6", .badContentLength),
        .init(field: "list of lengths that agree", "Content-Length: 5, 5", .badContentLength),
        .init(field: "length with plus", "Content-Length: +5", .badContentLength),
        .init(field: "length with minus", "Content-Length: -5", .badContentLength),
        .init(field: "length with a space inside", "Content-Length: 5 5", .badContentLength),
        .init(field: "length in hexadecimal", "Content-Length: 0x5", .badContentLength),
        .init(field: "length with a point", "Content-Length: 5.0", .badContentLength),
        .init(field: "empty length", "Content-Length:", .badContentLength),
        .init(field: "length 2^63", "Content-Length: 9223372036854775808", .badContentLength),
        .init(field: "length of 30 digits", "Content-Length: 100000000000000000000000000005", .badContentLength),
        .init(field: "chunked twice in a list", "Transfer-Encoding: chunked, chunked", .chunkedNotLast),
        .init(field: "chunked twice in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", .repeatedTransferEncoding),
        .init(field: "identity in a second field", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", .repeatedTransferEncoding),
        .init(field: "chunked before identity", "Transfer-Encoding: chunked, identity", .chunkedNotLast),
        .init(field: "gzip before chunked", "Transfer-Encoding: gzip, chunked", .unknownTransferCoding),
        .init(field: "identity alone", "Transfer-Encoding: identity", .unknownTransferCoding),
        .init(field: "gzip alone", "Transfer-Encoding: gzip", .unknownTransferCoding),
        .init(field: "almost chunked", "Transfer-Encoding: xchunked", .unknownTransferCoding),
        .init(field: "chunked with a parameter", "Transfer-Encoding: chunked;q=1", .badTransferEncoding),
        .init(field: "chunked in quotes", "Transfer-Encoding: \"chunked\"", .badTransferEncoding),
        .init(field: "comma behind chunked", "Transfer-Encoding: chunked,", .badTransferEncoding),
        .init(field: "comma before chunked", "Transfer-Encoding: ,chunked", .badTransferEncoding),
        .init(field: "two words", "Transfer-Encoding: x chunked", .badTransferEncoding),
        .init(field: "empty transfer encoding", "Transfer-Encoding:", .badTransferEncoding),
        .init(field: "chunked in HTTP/1.0", "Transfer-Encoding: chunked", .transferEncodingInHTTP10, version: "1.0"),
    ]

    static let responses: [RefusedShape] = [
        .init("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", .badVersion),
        .init("HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", .unsupportedVersion),
        .init("ICY", "ICY 200 OK\r\n\r\n", .badVersion),
        .init("status of two digits", "HTTP/1.1 20 OK\r\n\r\n", .badStatusLine),
        .init("status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", .badStatusLine),
        .init("status 099", "HTTP/1.1 099 OK\r\n\r\n", .badStatusLine),
        .init("signed status", "HTTP/1.1 +20 OK\r\n\r\n", .badStatusLine),
        .init("two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", .badStatusLine),
        .init("tab behind the status", "HTTP/1.1 200\tOK\r\n\r\n", .controlCharacter),
        .init("NUL in the reason phrase", "HTTP/1.1 200 O\0K\r\n\r\n", .nulByte),
        .init("bare LF behind the status line", "HTTP/1.1 200 OK\nX: y\r\n\r\n", .bareLineFeed),
        .init("bare CR in the reason phrase", "HTTP/1.1 200 O\rK\r\n\r\n", .bareCarriageReturn),
        .init("leading empty line", "\r\nHTTP/1.1 200 OK\r\n\r\n", .badVersion),
        .init("unasked upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", .unexpectedUpgrade),
        .init("obsolete fold", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", .obsoleteFold),
        .init("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", .spaceBeforeColon),
        .init("length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", .lengthAndTransferEncoding),
        .init("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", .repeatedContentLength),
        .init("list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", .badContentLength),
        .init("negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", .badContentLength),
        .init("gzip before chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .unknownTransferCoding),
        .init("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncodingInHTTP10),
        .init("value with a control character", "HTTP/1.1 200 OK\r\nX: \u{01}\r\n\r\n", .controlCharacter),
    ]

    /// Chunked bodies.
    static let bodies: [RefusedShape] = [
        .init("empty size", "\r\n", .badChunkSize),
        .init("size with plus", "+5\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size with minus", "-5\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size behind a space", " 5\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size before a space", "5 \r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size before a tab", "5\t;x\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size with an underscore", "1_0\r\nhello\r\n0\r\n\r\n", .badChunkSize),
        .init("size that is no digit", "g\r\n", .badChunkSize),
        .init("size of 16 digits", "0000000000000005\r\nhello\r\n0\r\n\r\n", .chunkSizeTooLarge),
        .init("size that overflows", "ffffffffffffffffff\r\n", .chunkSizeTooLarge),
        .init("size ended by LF", "5\nhello\r\n0\r\n\r\n", .bareLineFeed),
        .init("LF alone", "\n", .bareLineFeed),
        .init("size ended by CR", "5\rhello\r\n0\r\n\r\n", .badChunkEnd),
        .init("data ended by LF", "5\r\nhello\n0\r\n\r\n", .badChunkEnd),
        .init("data ended by CR", "5\r\nhello\r0\r\n\r\n", .badChunkEnd),
        .init("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n", .badChunkEnd),
        .init("extension with LF", "5;a\nhello\r\n0\r\n\r\n", .bareLineFeed),
        .init("extension with NUL", "5;a\0\r\nhello\r\n0\r\n\r\n", .badChunkExtension),
        .init("extension with CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", .badChunkEnd),
        .init("extension of 257 bytes", "5;" + String(repeating: "x", count: 257) + "\r\nhello\r\n0\r\n\r\n", .chunkExtensionTooLong),
        .init("last chunk ended by LF", "0\n\n", .bareLineFeed),
        .init("empty line ended by LF", "0\r\n\n", .bareLineFeed),
        .init("empty line ended by CR", "0\r\n\rx", .bareCarriageReturn),
        .init("length in the trailers", "0\r\nContent-Length: 5\r\n\r\n", .forbiddenTrailer),
        .init("chunked in the trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n", .forbiddenTrailer),
        .init("Host in the trailers", "0\r\nX: y\r\nHost: b\r\n\r\n", .forbiddenTrailer),
        .init("fold in the trailers", "0\r\nX: y\r\n z\r\n\r\n", .obsoleteFold),
        .init("space before a trailer's colon", "0\r\nX : y\r\n\r\n", .spaceBeforeColon),
        .init("bare LF in the trailers", "0\r\nX: y\n\r\n", .bareLineFeed),
        .init("NUL in the trailers", "0\r\nX: \0\r\n\r\n", .nulByte),
        .init("33 trailers", "0\r\n" + String(repeating: "X: y\r\n", count: 33) + "\r\n", .trailersTooLarge),
        .init("trailer of 8 KiB", "0\r\nX: " + String(repeating: "y", count: 8192) + "\r\n\r\n", .trailersTooLarge),
    ]
}
