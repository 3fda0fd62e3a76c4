import Bytes

/// A response that the proxy makes itself.
public struct Reply {
    /// 200 to 599.
    public var status: Int
    /// The value of `x-weft-reason`, and the text of the body.
    public var reason: StaticString
    /// The fault is the upstream's: the reason is written with `upstream-` before it.
    public var isUpstreams: Bool
    /// Whether the downstream connection stays open.
    public var keepsAlive: Bool
    /// The downstream's version.
    public var minorVersion: Int
    /// The request was HEAD: the length is told, the body is not sent.
    public var answersHead: Bool
    /// `retry-after`, in seconds.
    public var retryAfterSeconds: Int?

    public init(
        status: Int, reason: StaticString, isUpstreams: Bool = false, keepsAlive: Bool, minorVersion: Int = 1,
        answersHead: Bool = false, retryAfterSeconds: Int? = nil
    ) {
        precondition(status >= 200 && status <= 599, "a reply is a final response")
        self.status = status
        self.reason = reason
        self.isUpstreams = isUpstreams
        self.keepsAlive = keepsAlive
        self.minorVersion = minorVersion
        self.answersHead = answersHead
        self.retryAfterSeconds = retryAfterSeconds
    }

    /// The answer to a refused request. The connection closes: nobody knows where the next request would start.
    public init(refusing fault: HTTPFault) {
        self.init(status: fault.status, reason: fault.reason, keepsAlive: false)
    }

    /// The answer to a request whose response was refused.
    public init(upstreamFault fault: HTTPFault, keepsAlive: Bool, minorVersion: Int, answersHead: Bool) {
        self.init(
            status: 502, reason: fault.reason, isUpstreams: true, keepsAlive: keepsAlive, minorVersion: minorVersion,
            answersHead: answersHead)
    }

    /// Bytes that `write` may need: fixed text 160, the reason phrase 31, the reason twice with `upstream-`.
    public var bytesMax: Int { 256 + 2 * (reason.utf8CodeUnitCount + 9) }

    /// Bytes of the body: the reason and a line feed.
    var bodyBytes: Int { reason.utf8CodeUnitCount + (isUpstreams ? 9 : 0) + 1 }

    func writeBody(to out: inout ByteWriter) {
        writeReason(to: &out)
        out.write("\n")
    }

    /// Writes head and body. Returns false when `out` is too small.
    public func write(to out: inout ByteWriter) -> Bool {
        out.write("HTTP/1.1 ")
        out.writeDecimal(UInt64(status))
        out.write(" ")
        out.write(reasonPhrase(status))
        out.write("\r\nx-weft-reason: ")
        writeReason(to: &out)
        out.write("\r\ncontent-type: text/plain\r\ncontent-length: ")
        out.writeDecimal(UInt64(bodyBytes))
        if let retryAfterSeconds {
            out.write("\r\nretry-after: ")
            out.writeDecimal(UInt64(max(retryAfterSeconds, 0)))
        }
        if !keepsAlive { out.write("\r\nconnection: close") } else if minorVersion == 0 { out.write("\r\nconnection: keep-alive") }
        out.write("\r\n\r\n")
        if !answersHead { writeBody(to: &out) }
        return !out.overflowed
    }

    func writeReason(to out: inout ByteWriter) {
        if isUpstreams { out.write("upstream-") }
        out.write(reason)
    }

    /// Writes `100 Continue`. Returns false when `out` is too small.
    public static func writeContinue(to out: inout ByteWriter) -> Bool {
        out.write("HTTP/1.1 100 Continue\r\n\r\n")
        return !out.overflowed
    }
}

/// The phrase behind a status (RFC 9110, 15) that the proxy may answer with; empty for any other, as the grammar allows.
func reasonPhrase(_ status: Int) -> StaticString {
    switch status {
    case 200: "OK"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 417: "Expectation Failed"
    case 421: "Misdirected Request"
    case 426: "Upgrade Required"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
}
