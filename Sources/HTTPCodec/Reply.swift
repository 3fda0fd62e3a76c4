import Bytes

/// A field of a response that the proxy makes itself. Its texts are the caller's memory and are read only while the response is written.
public struct ReplyField {
    /// In lower case.
    public var name: UnsafeRawBufferPointer
    public var value: UnsafeRawBufferPointer

    public init(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        self.name = name
        self.value = value
    }
}

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
    /// What it says besides; the caller's memory.
    public var fields = UnsafeBufferPointer<ReplyField>(start: nil, count: 0)
    /// It has no content (`content-length: 0`).
    public var isEmpty = false
    /// What a policy says in place of the reason, and its type; the caller's memory.
    public var content: (type: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer)?

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

    /// Bytes that `write` may need: fixed text 160, the reason phrase 31, the reason twice with `upstream-`; the fields with their framing, the content.
    public var bytesMax: Int {
        let own = 256 + 2 * (reason.utf8CodeUnitCount + 9) + (content.map { $0.type.count + $0.body.count } ?? 0)
        return fields.reduce(own) { $0 + $1.name.count + $1.value.count + 4 }
    }

    /// Bytes of the body: what a policy says, or the reason and a line feed.
    var bodyBytes: Int { isEmpty ? 0 : content?.body.count ?? reason.utf8CodeUnitCount + (isUpstreams ? 9 : 0) + 1 }

    func writeBody(to out: inout ByteWriter) {
        if let content { return out.write(content.body) }
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
        if let content {
            out.write("\r\ncontent-type: ")
            out.write(content.type)
        } else if !isEmpty {
            out.write("\r\ncontent-type: text/plain")
        }
        out.write("\r\ncontent-length: ")
        out.writeDecimal(UInt64(bodyBytes))
        for field in fields {
            out.write("\r\n")
            out.write(field.name)
            out.write(": ")
            out.write(field.value)
        }
        if let retryAfterSeconds {
            out.write("\r\nretry-after: ")
            out.writeDecimal(UInt64(max(retryAfterSeconds, 0)))
        }
        if !keepsAlive { out.write("\r\nconnection: close") } else if minorVersion == 0 { out.write("\r\nconnection: keep-alive") }
        out.write("\r\n\r\n")
        if !answersHead && !isEmpty { writeBody(to: &out) }
        return !out.overflowed
    }

    func writeReason(to out: inout ByteWriter) {
        if isUpstreams { out.write("upstream-") }
        out.write(reason)
    }
}

/// The phrase behind a registered status (RFC 9110, 15, and those that extend it); empty for any other, as the grammar allows.
func reasonPhrase(_ status: Int) -> StaticString {
    switch status {
    case 100: "Continue"
    case 101: "Switching Protocols"
    case 102: "Processing"
    case 103: "Early Hints"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 203: "Non-Authoritative Information"
    case 204: "No Content"
    case 205: "Reset Content"
    case 206: "Partial Content"
    case 207: "Multi-Status"
    case 208: "Already Reported"
    case 226: "IM Used"
    case 300: "Multiple Choices"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 304: "Not Modified"
    case 305: "Use Proxy"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 402: "Payment Required"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 406: "Not Acceptable"
    case 407: "Proxy Authentication Required"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 410: "Gone"
    case 411: "Length Required"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 416: "Range Not Satisfiable"
    case 417: "Expectation Failed"
    case 421: "Misdirected Request"
    case 422: "Unprocessable Content"
    case 423: "Locked"
    case 424: "Failed Dependency"
    case 425: "Too Early"
    case 426: "Upgrade Required"
    case 428: "Precondition Required"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 451: "Unavailable For Legal Reasons"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    case 506: "Variant Also Negotiates"
    case 507: "Insufficient Storage"
    case 508: "Loop Detected"
    case 511: "Network Authentication Required"
    default: ""
    }
}
