import HTTPCodec
import Telemetry

extension Ledger {
    /// An HTTP/2 connection that was given up.
    func countFault(_ fault: HTTP2Fault, isUpstream: Bool) {
        let counter = Self.counter(of: fault)
        count(isUpstream ? counter.ofUpstream : counter)
    }

    private static func counter(of fault: HTTP2Fault) -> Counter {
        switch fault {
        case .badPreface: .http2FaultBadPreface
        case .settingsNotFirst: .http2FaultSettingsNotFirst
        case .frameTooLarge: .http2FaultFrameTooLarge
        case .badFrameSize: .http2FaultBadFrameSize
        case .wrongStream: .http2FaultWrongStream
        case .idleStream: .http2FaultIdleStream
        case .closedStream: .http2FaultClosedStream
        case .badStreamNumber: .http2FaultBadStreamNumber
        case .interruptedHead: .http2FaultInterruptedHead
        case .strayContinuation: .http2FaultStrayContinuation
        case .badPadding: .http2FaultBadPadding
        case .badSetting: .http2FaultBadSetting
        case .badInitialWindow: .http2FaultBadInitialWindow
        case .zeroWindowIncrement: .http2FaultZeroWindowIncrement
        case .windowOverflow: .http2FaultWindowOverflow
        case .flowControl: .http2FaultFlowControl
        case .pushPromise: .http2FaultPushPromise
        case .compression: .http2FaultCompression
        case .selfDependency: .http2FaultSelfDependency
        case .tooManyStreams: .http2FaultTooManyStreams
        case .refusedFrame: .http2FaultRefusedFrame
        case .rapidReset: .http2FaultRapidReset
        case .continuationFlood: .http2FaultContinuationFlood
        case .headBomb: .http2FaultHeadBomb
        case .controlFlood: .http2FaultControlFlood
        case .emptyDataFlood: .http2FaultEmptyDataFlood
        case .tinyDataFlood: .http2FaultTinyDataFlood
        case .priorityFlood: .http2FaultPriorityFlood
        case .windowUpdateFlood: .http2FaultWindowUpdateFlood
        case .settingsTimeout: .http2FaultSettingsTimeout
        case .headTimeout: .http2FaultHeadTimeout
        case .internalError: .http2FaultInternalError
        }
    }
}
