/// Why a stream or a connection ended, as RST_STREAM and GOAWAY say it (RFC 9113, 7).
public enum HTTP2Code: UInt32, Sendable {
    case noError, protocolError, internalError, flowControlError, settingsTimeout, streamClosed, frameSizeError, refusedStream
    case cancel, compressionError, connectError, enhanceYourCalm, inadequateSecurity, http11Required

    /// The code a peer sent; an unknown one means the same as INTERNAL_ERROR (RFC 9113, 7).
    public init(wire: UInt32) { self = HTTP2Code(rawValue: wire) ?? .internalError }
}

/// Why a whole HTTP/2 connection was given up: one case per shape, so that counter, log line and GOAWAY name the same thing.
public enum HTTP2Fault: UInt8, Error, CaseIterable, Sendable {
    // MARK: What RFC 9113 forbids
    /// The first bytes are not the client's preface (3.4).
    case badPreface
    /// The first frame is not SETTINGS (3.4).
    case settingsNotFirst
    /// A frame longer than 16,384 bytes, which is all we ever offered (4.2).
    case frameTooLarge
    /// A frame whose length its type does not allow (6).
    case badFrameSize
    /// A frame on stream 0 that belongs to a stream, or the other way round (6).
    case wrongStream
    /// A frame on a stream that nobody has opened (5.1).
    case idleStream
    /// HEADERS or DATA behind the end of the stream (5.1).
    case closedStream
    /// A new stream whose number is of the wrong kind or not above the ones before (5.1.1).
    case badStreamNumber
    /// Another frame inside a header block (6.10).
    case interruptedHead
    /// CONTINUATION without a header block to continue (6.10).
    case strayContinuation
    /// More padding than frame (6.1).
    case badPadding
    /// A setting outside its range (6.5.2).
    case badSetting
    /// SETTINGS_INITIAL_WINDOW_SIZE above 2^31 − 1, or one that pushes a window above it (6.5.2, 6.9.2).
    case badInitialWindow
    /// WINDOW_UPDATE by zero on the connection (6.9).
    case zeroWindowIncrement
    /// The connection's window was pushed above 2^31 − 1 (6.9.1).
    case windowOverflow
    /// More DATA than the connection's window allowed (6.9.1).
    case flowControl
    /// PUSH_PROMISE: from a client never, to us not after SETTINGS_ENABLE_PUSH 0 (8.4).
    case pushPromise
    /// A header block that does not decompress (4.3).
    case compression
    /// A stream on which a frame came depends on itself (RFC 7540, 5.3.1).
    case selfDependency
    /// More streams at once than were advertised and acknowledged (5.1.2).
    case tooManyStreams
    /// A frame that the library refused for a reason of its own.
    case refusedFrame

    // MARK: What no honest peer does
    /// Streams reset faster than `resetsPerSecond`, by the peer or because of it.
    case rapidReset
    /// A header block in more CONTINUATION frames, or of more bytes, than the limits allow.
    case continuationFlood
    /// A head that decompresses to many times `headListBytesMax`.
    case headBomb
    /// SETTINGS, PING or unknown frames beyond any use, or their answers not read.
    case controlFlood
    /// DATA frames that hold nothing.
    case emptyDataFlood
    /// DATA frames of a few bytes, at a rate that no sender of such messages reaches.
    case tinyDataFlood
    /// PRIORITY frames beyond what the streams explain.
    case priorityFlood
    /// WINDOW_UPDATE frames beyond what was sent.
    case windowUpdateFlood

    // MARK: Time and memory; told by whoever holds the clock
    /// PING was not answered.
    case pingTimeout
    /// SETTINGS or preface did not come in time.
    case settingsTimeout
    /// Memory ran out, or a promise of ours was broken.
    case internalError
}

extension HTTP2Fault {
    /// What GOAWAY says.
    public var code: HTTP2Code { answer.code }
    /// The value of the counter's label: a lower-case token that never changes its meaning.
    public var reason: StaticString { answer.reason }

    private var answer: (code: HTTP2Code, reason: StaticString) {
        switch self {
        case .badPreface: (.protocolError, "bad-preface")
        case .settingsNotFirst: (.protocolError, "settings-not-first")
        case .frameTooLarge: (.frameSizeError, "frame-too-large")
        case .badFrameSize: (.frameSizeError, "bad-frame-size")
        case .wrongStream: (.protocolError, "wrong-stream")
        case .idleStream: (.protocolError, "idle-stream")
        case .closedStream: (.streamClosed, "closed-stream")
        case .badStreamNumber: (.protocolError, "bad-stream-number")
        case .interruptedHead: (.protocolError, "interrupted-head")
        case .strayContinuation: (.protocolError, "stray-continuation")
        case .badPadding: (.protocolError, "bad-padding")
        case .badSetting: (.protocolError, "bad-setting")
        case .badInitialWindow: (.flowControlError, "bad-initial-window")
        case .zeroWindowIncrement: (.protocolError, "zero-window-increment")
        case .windowOverflow: (.flowControlError, "window-overflow")
        case .flowControl: (.flowControlError, "flow-control")
        case .pushPromise: (.protocolError, "push-promise")
        case .compression: (.compressionError, "compression")
        case .selfDependency: (.protocolError, "self-dependency")
        case .tooManyStreams: (.protocolError, "too-many-streams")
        case .refusedFrame: (.protocolError, "refused-frame")
        case .rapidReset: (.enhanceYourCalm, "rapid-reset")
        case .continuationFlood: (.enhanceYourCalm, "continuation-flood")
        case .headBomb: (.enhanceYourCalm, "head-bomb")
        case .controlFlood: (.enhanceYourCalm, "control-flood")
        case .emptyDataFlood: (.enhanceYourCalm, "empty-data-flood")
        case .tinyDataFlood: (.enhanceYourCalm, "tiny-data-flood")
        case .priorityFlood: (.enhanceYourCalm, "priority-flood")
        case .windowUpdateFlood: (.enhanceYourCalm, "window-update-flood")
        case .pingTimeout: (.noError, "ping-timeout")
        case .settingsTimeout: (.settingsTimeout, "settings-timeout")
        case .internalError: (.internalError, "internal-error")
        }
    }
}

/// Why a session takes no request; another session, or a new one, may.
public enum HTTP2Refusal: Error, Sendable {
    /// The peer's stream limit is reached, or the stream numbers are used up.
    case noMoreStreams
    /// GOAWAY was sent or received.
    case draining
    /// The head does not fit into the field table or the library's bounds.
    case headTooLarge
    /// An upgrade, and the peer has not announced extended CONNECT (RFC 8441).
    case extendedConnectUnknown
}
