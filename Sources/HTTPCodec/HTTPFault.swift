/// Why a message was refused: one case per shape, so that a counter, a log line and the answer all name the same thing.
///
/// A fault of a request is answered with `status` and `x-weft-reason: <reason>`, and the connection is closed, for
/// nobody knows where the next request would start. A fault of a response is the upstream's: the downstream gets 502
/// and `x-weft-reason: upstream-<reason>`.
public enum HTTPFault: UInt8, Error, CaseIterable, Sendable {
    // MARK: Lines (RFC 9112, 2.2)
    /// A line ended in LF without CR.
    case bareLineFeed
    /// A CR that no LF follows.
    case bareCarriageReturn
    /// A NUL byte in the head.
    case nulByte
    /// A control character other than a tab in a field value or reason phrase, or any in a name or target.
    case controlCharacter

    // MARK: Request line (RFC 9112, 3)
    /// Space, tab or more than one empty line before the request line.
    case leadingWhitespace
    /// The method is empty or holds a byte that is no token character.
    case badMethod
    /// A known method in other letter case: the next server may take it for the known one and answer without a body.
    case methodCase
    /// The method is longer than `HeadLimits.methodBytesMax`.
    case methodTooLong
    /// The parts of the request line are not parted by exactly one space.
    case requestLineSpacing
    /// The request target is empty, holds a forbidden byte, or its form does not fit the method.
    case badTarget
    /// The request target is longer than `HeadLimits.targetBytesMax`.
    case targetTooLong
    /// What stands in the version's place is no HTTP version.
    case badVersion
    /// An HTTP version other than 1.0 and 1.1.
    case unsupportedVersion

    // MARK: Status line (RFC 9112, 4)
    /// The status is not three digits from 100 to 599, or is not set off by single spaces.
    case badStatusLine
    /// 101 to a request that asked for no upgrade.
    case unexpectedUpgrade

    // MARK: Fields (RFC 9112, 5)
    /// A line that starts with a space or a tab: an obsolete line fold, or a first field set in.
    case obsoleteFold
    /// A field line without a colon.
    case missingColon
    /// A field line that starts with a colon.
    case emptyFieldName
    /// Space or tab between the field name and the colon.
    case spaceBeforeColon
    /// A byte in a field name that is no token character.
    case badFieldName
    /// More fields than `HeadLimits.fieldsMax`.
    case tooManyFields
    /// The head is longer than `HeadLimits.headBytesMax`.
    case headTooLarge
    /// `Connection` is no list of tokens, or a longer one than `HeadLimits.connectionOptionsMax`.
    case badConnectionOption

    // MARK: Host (RFC 9110, 7.2; RFC 9112, 3.2)
    /// HTTP/1.1 without Host.
    case missingHost
    /// More than one Host.
    case repeatedHost
    /// Host, or the authority of the target, is no `host [":" port]`: empty, user information, space, bad port, bad byte.
    case badHost

    // MARK: Framing (RFC 9112, 6)
    /// Content-Length is not digits alone (a sign, a space, a list) or exceeds 2^63 − 1.
    case badContentLength
    /// Content-Length twice, even if both agree.
    case repeatedContentLength
    /// Content-Length and Transfer-Encoding together.
    case lengthAndTransferEncoding
    /// Transfer-Encoding is no list of coding names.
    case badTransferEncoding
    /// Transfer-Encoding in two fields.
    case repeatedTransferEncoding
    /// `chunked` twice, or before another coding.
    case chunkedNotLast
    /// A transfer coding other than `chunked`.
    case unknownTransferCoding
    /// Transfer-Encoding in an HTTP/1.0 message.
    case transferEncodingInHTTP10

    // MARK: HTTP/2 heads (RFC 9113, 8)
    /// A pseudo-header field that is missing, repeated, unknown, out of place, or does not fit the method.
    case badPseudoField
    /// An upper-case letter in a field name.
    case upperCaseFieldName
    /// A space or a tab before or behind a field value.
    case blankAroundValue
    /// A field that speaks of the connection: Connection, Transfer-Encoding, Upgrade and their like, or TE with more than `trailers`.
    case connectionField
    /// `:authority` and Host name different things.
    case authorityMismatch
    /// Content-Length and the sum of the DATA frames differ.
    case lengthMismatch
    /// Trailers that do not end the stream.
    case trailersNotLast

    // MARK: Body (RFC 9112, 7.1)
    /// The chunk size is empty, or holds another byte than a hexadecimal digit (a sign, a space, `0x`).
    case badChunkSize
    /// The chunk size has more than 15 digits.
    case chunkSizeTooLarge
    /// A chunk extension with a control character.
    case badChunkExtension
    /// Chunk extensions longer than `BodyLimits.extensionBytesMax`.
    case chunkExtensionTooLong
    /// No CRLF after a chunk's data or its size.
    case badChunkEnd
    /// A trailer field that would govern framing, routing or the connection.
    case forbiddenTrailer
    /// The trailer section is longer than `BodyLimits.trailerBytesMax` or has more fields than `BodyLimits.trailerFieldsMax`.
    case trailersTooLarge
    /// The body is longer than `BodyLimits.bodyBytesMax`.
    case bodyTooLarge
    /// The peer closed before the end of the body.
    case bodyCutShort

    // MARK: Time; thrown by whoever holds the clock
    /// The head did not arrive in time.
    case headTimeout
    /// The body did not arrive in time.
    case bodyTimeout
}

extension HTTPFault {
    /// The status a request with this fault is answered with.
    public var status: Int { answer.status }

    /// The value of `x-weft-reason`: a lower-case token that never changes its meaning.
    public var reason: StaticString { answer.reason }

    /// Every answer to a refused request can be read off this one switch.
    private var answer: (status: Int, reason: StaticString) {
        switch self {
        case .bareLineFeed: (400, "bare-line-feed")
        case .bareCarriageReturn: (400, "bare-carriage-return")
        case .nulByte: (400, "nul-byte")
        case .controlCharacter: (400, "control-character")
        case .leadingWhitespace: (400, "leading-whitespace")
        case .badMethod: (400, "bad-method")
        case .methodCase: (400, "method-case")
        case .methodTooLong: (400, "method-too-long")
        case .requestLineSpacing: (400, "request-line-spacing")
        case .badTarget: (400, "bad-target")
        case .targetTooLong: (414, "target-too-long")
        case .badVersion: (400, "bad-version")
        case .unsupportedVersion: (505, "unsupported-version")
        case .badStatusLine: (400, "bad-status-line")
        case .unexpectedUpgrade: (400, "unexpected-upgrade")
        case .obsoleteFold: (400, "obsolete-fold")
        case .missingColon: (400, "missing-colon")
        case .emptyFieldName: (400, "empty-field-name")
        case .spaceBeforeColon: (400, "space-before-colon")
        case .badFieldName: (400, "bad-field-name")
        case .tooManyFields: (431, "too-many-fields")
        case .headTooLarge: (431, "head-too-large")
        case .badConnectionOption: (400, "bad-connection-option")
        case .missingHost: (400, "missing-host")
        case .repeatedHost: (400, "repeated-host")
        case .badHost: (400, "bad-host")
        case .badContentLength: (400, "bad-content-length")
        case .repeatedContentLength: (400, "repeated-content-length")
        case .lengthAndTransferEncoding: (400, "length-and-transfer-encoding")
        case .badTransferEncoding: (400, "bad-transfer-encoding")
        case .repeatedTransferEncoding: (400, "repeated-transfer-encoding")
        case .chunkedNotLast: (400, "chunked-not-last")
        case .unknownTransferCoding: (501, "unknown-transfer-coding")
        case .transferEncodingInHTTP10: (400, "transfer-encoding-in-http10")
        case .badPseudoField: (400, "bad-pseudo-field")
        case .upperCaseFieldName: (400, "upper-case-field-name")
        case .blankAroundValue: (400, "blank-around-value")
        case .connectionField: (400, "connection-field")
        case .authorityMismatch: (400, "authority-mismatch")
        case .lengthMismatch: (400, "length-mismatch")
        case .trailersNotLast: (400, "trailers-not-last")
        case .badChunkSize: (400, "bad-chunk-size")
        case .chunkSizeTooLarge: (400, "chunk-size-too-large")
        case .badChunkExtension: (400, "bad-chunk-extension")
        case .chunkExtensionTooLong: (400, "chunk-extension-too-long")
        case .badChunkEnd: (400, "bad-chunk-end")
        case .forbiddenTrailer: (400, "forbidden-trailer")
        case .trailersTooLarge: (431, "trailers-too-large")
        case .bodyTooLarge: (413, "body-too-large")
        case .bodyCutShort: (400, "body-cut-short")
        case .headTimeout: (408, "head-timeout")
        case .bodyTimeout: (408, "body-timeout")
        }
    }
}
