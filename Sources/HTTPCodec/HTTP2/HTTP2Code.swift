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
    /// SETTINGS or preface did not come in time.
    case settingsTimeout
    /// A header block that began did not end in time; nothing else may pass on the connection meanwhile (4.3).
    case headTimeout
    /// Memory ran out, or a promise of ours was broken.
    case internalError
}

extension HTTP2Fault {
    /// What GOAWAY says.
    public var code: HTTP2Code {
        switch self {
        case .badPreface: .protocolError
        case .settingsNotFirst: .protocolError
        case .frameTooLarge: .frameSizeError
        case .badFrameSize: .frameSizeError
        case .wrongStream: .protocolError
        case .idleStream: .protocolError
        case .closedStream: .streamClosed
        case .badStreamNumber: .protocolError
        case .interruptedHead: .protocolError
        case .strayContinuation: .protocolError
        case .badPadding: .protocolError
        case .badSetting: .protocolError
        case .badInitialWindow: .flowControlError
        case .zeroWindowIncrement: .protocolError
        case .windowOverflow: .flowControlError
        case .flowControl: .flowControlError
        case .pushPromise: .protocolError
        case .compression: .compressionError
        case .selfDependency: .protocolError
        case .tooManyStreams: .protocolError
        case .refusedFrame: .protocolError
        case .rapidReset: .enhanceYourCalm
        case .continuationFlood: .enhanceYourCalm
        case .headBomb: .enhanceYourCalm
        case .controlFlood: .enhanceYourCalm
        case .emptyDataFlood: .enhanceYourCalm
        case .tinyDataFlood: .enhanceYourCalm
        case .priorityFlood: .enhanceYourCalm
        case .windowUpdateFlood: .enhanceYourCalm
        case .settingsTimeout: .settingsTimeout
        case .headTimeout: .enhanceYourCalm
        case .internalError: .internalError
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
    /// An upgrade that has no like on a stream: not to WebSocket, or the peer has not announced extended CONNECT (RFC 8441).
    case extendedConnectUnknown
}
