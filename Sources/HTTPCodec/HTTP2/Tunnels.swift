import Bytes
import CNGHTTP2

// CONNECT by ourselves (RFC 9113, 8.5): a stream that carries a TCP connection, each end of which is passed on as what it is.
extension HTTP2Session {
    /// Asks the peer for a connection with `authority`, as `address:port`. Its answer is a `.head`; content may follow a status of 200.
    /// - Parameter destination: the value of `x-weft-destination`; empty: the field is not sent.
    /// - Returns: the stream's number.
    public mutating func submitConnect(
        authority: UnsafeRawBufferPointer, destination: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0), owner: UInt32
    ) throws(HTTP2Refusal) -> Int32 {
        guard !isDraining else { throw .draining }
        guard canOpenStream else { throw .noMoreStreams }
        state.pointee.workspace.pointee.gatherer.gatherConnect(authority, destination)
        let record = try state.pointee.submitRequest(ends: false, owner: owner)
        record.pointee.isConnect = true
        return record.pointee.id
    }

    /// As `reset`, but behind what is queued, heads and content: what was said before it reaches the peer. Nothing more is told of the stream.
    public mutating func resetBehindQueue(_ stream: Int32, _ code: HTTP2Code) {
        guard let record = state.pointee.live(stream) else { return }
        guard record.pointee.hasWaiting else { return state.pointee.reset(record, code) }
        record.pointee.owner = 0
        record.pointee.wantsRoom = false
        record.pointee.resetBehindQueue = code
    }
}

extension FieldGatherer {
    mutating func gatherConnect(_ authority: UnsafeRawBufferPointer, _ destination: UnsafeRawBufferPointer) {
        begin()
        add(":method", "CONNECT")
        add(":authority", authority)
        if !destination.isEmpty { add("x-weft-destination", destination) }
    }
}
