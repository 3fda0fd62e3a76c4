import CLinux

/// One end of an `AF_UNIX` `SOCK_SEQPACKET` pair: whole packets, in order, with descriptors beside them.
///
/// Owns its descriptor. Blocking or not is the descriptor's own mode; a non-blocking one answers `wouldBlock` and nil.
public struct ControlSocket: ~Copyable {
    /// The descriptor, for epoll. It stays the socket's own.
    public let descriptor: Int32
    /// True once the other side was seen to be gone.
    public private(set) var isClosed = false
    /// Messages of kinds this release does not know; their descriptors were closed.
    public private(set) var unknownKinds: UInt64 = 0

    /// Takes over a descriptor; it is closed when the socket goes away.
    public init(adopting descriptor: Int32) { self.descriptor = descriptor }

    deinit { clinux_close(descriptor) }

    /// Makes a connected pair, both ends close-on-exec. `nonBlocking` speaks of the first end only: the second is usually another process's.
    public static func pair(nonBlocking: Bool) throws(ControlFault) -> (Int32, Int32) {
        var ends: (Int32, Int32) = (-1, -1)
        let result = clinux_seqpacket_pair(&ends.0, &ends.1, nonBlocking)
        guard result == 0 else { throw .system(errno: -result) }
        return ends
    }

    /// Sends one packet. The message's descriptors are duplicated by the kernel; the caller still owns its own.
    public mutating func send(_ message: ControlMessage) throws(ControlFault) {
        let bytes = message.encodedBytes
        guard bytes <= ControlLimits.packetBytesMax else { throw .packetTooLarge(bytes: bytes) }
        guard message.descriptors.count <= ControlLimits.descriptorsMax else { throw .tooManyDescriptors(message.descriptors.count) }
        let wire = message.encode()
        let result = clinux_send_packet(descriptor, wire, wire.count, message.descriptors, message.descriptors.count)
        if result < 0 { throw fault(of: Int32(-result)) }
    }

    /// Sends a typed message.
    public mutating func send(_ payload: some ControlPayload) throws(ControlFault) { try send(payload.message()) }

    /// Receives the next packet of a kind this release knows; nil when the socket is non-blocking and nothing is there.
    /// Throws `closed` at the end. A malformed packet throws after its descriptors were closed; the next packet can still be received.
    public mutating func receive() throws(ControlFault) -> ControlMessage? {
        while true {
            var descriptors = [Int32](repeating: -1, count: receivedDescriptorsMax)
            var descriptorCount = 0, isTruncated = false
            var outcome = 0
            let wire = [UInt8](unsafeUninitializedCapacity: ControlLimits.packetBytesMax) { buffer, initialized in
                outcome = clinux_receive_packet(
                    descriptor, buffer.baseAddress, buffer.count, &descriptors, descriptors.count, &descriptorCount, &isTruncated)
                initialized = max(0, outcome)
            }
            if outcome < 0 {
                if -outcome == Int(EAGAIN) { return nil }
                throw fault(of: Int32(-outcome))
            }
            descriptors.removeLast(descriptors.count - descriptorCount)
            if outcome == 0 && descriptors.isEmpty { isClosed = true; throw .closed }
            do throws(ControlFault) {
                guard !isTruncated else { throw .packetTooLarge(bytes: ControlLimits.packetBytesMax + 1) }
                guard descriptors.count <= ControlLimits.descriptorsMax else { throw .tooManyDescriptors(descriptors.count) }
                var message = try ControlMessage(decoding: wire)
                message.descriptors = descriptors
                if message.kind != nil { return message }
                unknownKinds += 1
                message.closeDescriptors()
            } catch {
                for descriptor in descriptors { clinux_close(descriptor) }
                throw error
            }
        }
    }

    private mutating func fault(of number: Int32) -> ControlFault {
        switch number {
        case EAGAIN: return .wouldBlock
        case EPIPE, ECONNRESET, ENOTCONN: isClosed = true; return .closed
        default: return .system(errno: number)
        }
    }
}

/// `SCM_MAX_FD` of the kernel: with room for that many, none can be lost unseen.
private let receivedDescriptorsMax = 253
