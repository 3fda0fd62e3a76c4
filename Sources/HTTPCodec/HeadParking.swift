import Bytes

/// What a head says beside its fields, as it lies in parked memory.
private struct ParkedFacts {
    var fieldCount = 0, byteCount = 0, minorVersion = 1
    var method = HTTPMethod.get
    var methodName = ByteSpan()
    var targetForm = TargetForm.origin
    var target = ByteSpan(), path = ByteSpan(), authority = ByteSpan(), host = ByteSpan()
    var port: UInt16?
    var expectsContinue = false, acceptsTrailers = false
    var status = 0
    var reasonPhrase = ByteSpan()
    var framing = BodyFraming.none
    var contentLength: Int?
    var keepsAlive = true, asksForUpgrade = false, isHTTP2 = false, isExtendedConnect = false
    var hostRow = -1, upgradeRow = -1, requestIDRow = -1, traceparentRow = -1, forwardedForRow = -1, forwardedProtoRow = -1
    var requestIDCount = 0, traceparentCount = 0, forwardedProtoCount = 0
}

/// A head that must outlive its turn: a request that waits for its upstream, or may be sent a second time. What was decoded is copied
/// out and back, so that nothing is written and parsed again.
extension Head {
    private func parkedCount(_ bytes: UnsafeRawBufferPointer) -> Int {
        MemoryLayout<ParkedFacts>.size &+ fieldCount &* MemoryLayout<HeadField>.stride &+ byteCount
    }

    /// Copies the head and the bytes it was parsed from.
    /// - Returns: the bytes of `memory` that it takes; 0 when there is no room for it.
    public func park(_ bytes: UnsafeRawBufferPointer, into memory: UnsafeMutableRawBufferPointer) -> Int {
        precondition(byteCount <= bytes.count, "these are not the bytes the head was parsed from")
        let count = parkedCount(bytes)
        guard count <= memory.count, let start = memory.baseAddress, let source = bytes.baseAddress else { return 0 }
        let facts = ParkedFacts(
            fieldCount: fieldCount, byteCount: byteCount, minorVersion: minorVersion, method: method, methodName: methodName,
            targetForm: targetForm, target: target, path: path, authority: authority, host: host, port: port, expectsContinue: expectsContinue,
            acceptsTrailers: acceptsTrailers, status: status, reasonPhrase: reasonPhrase, framing: framing, contentLength: contentLength,
            keepsAlive: keepsAlive, asksForUpgrade: asksForUpgrade, isHTTP2: isHTTP2, isExtendedConnect: isExtendedConnect, hostRow: hostRow,
            upgradeRow: upgradeRow, requestIDRow: requestIDRow, traceparentRow: traceparentRow, forwardedForRow: forwardedForRow,
            forwardedProtoRow: forwardedProtoRow, requestIDCount: requestIDCount, traceparentCount: traceparentCount,
            forwardedProtoCount: forwardedProtoCount)
        withUnsafeBytes(of: facts) { start.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        let rows = start + MemoryLayout<ParkedFacts>.size
        rows.copyMemory(from: fields.base, byteCount: fieldCount &* MemoryLayout<HeadField>.stride)
        (rows + fieldCount &* MemoryLayout<HeadField>.stride).copyMemory(from: source, byteCount: byteCount)
        return count
    }

    /// The same onto the end of a queue. False when its cap forbids it.
    public func park(_ bytes: UnsafeRawBufferPointer, into queue: inout ByteQueue) -> Bool {
        guard queue.reserve(parkedCount(bytes)) else { return false }
        let count = park(bytes, into: queue.writable)
        queue.commit(count)
        return count > 0
    }

    /// Makes this the head that was parked at the start of `memory`.
    /// - Returns: the bytes it refers to, which stand in `memory`; nil when no head was parked there.
    public mutating func unpark(from memory: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard memory.count >= MemoryLayout<ParkedFacts>.size, let start = memory.baseAddress else { return nil }
        var facts = ParkedFacts()
        withUnsafeMutableBytes(of: &facts) { $0.baseAddress!.copyMemory(from: start, byteCount: $0.count) }
        let rowsCount = facts.fieldCount &* MemoryLayout<HeadField>.stride
        guard facts.fieldCount >= 0, facts.fieldCount <= HeadLimits.fieldsCapacity + HeadLimits.fieldsAddedMax, facts.byteCount >= 0,
            memory.count >= MemoryLayout<ParkedFacts>.size + rowsCount + facts.byteCount
        else { return nil }
        reset()
        fieldCount = facts.fieldCount
        byteCount = facts.byteCount
        minorVersion = facts.minorVersion
        method = facts.method
        methodName = facts.methodName
        targetForm = facts.targetForm
        target = facts.target
        path = facts.path
        authority = facts.authority
        host = facts.host
        port = facts.port
        expectsContinue = facts.expectsContinue
        acceptsTrailers = facts.acceptsTrailers
        status = facts.status
        reasonPhrase = facts.reasonPhrase
        framing = facts.framing
        contentLength = facts.contentLength
        keepsAlive = facts.keepsAlive
        asksForUpgrade = facts.asksForUpgrade
        isHTTP2 = facts.isHTTP2
        isExtendedConnect = facts.isExtendedConnect
        hostRow = facts.hostRow
        upgradeRow = facts.upgradeRow
        requestIDRow = facts.requestIDRow
        traceparentRow = facts.traceparentRow
        forwardedForRow = facts.forwardedForRow
        forwardedProtoRow = facts.forwardedProtoRow
        requestIDCount = facts.requestIDCount
        traceparentCount = facts.traceparentCount
        forwardedProtoCount = facts.forwardedProtoCount
        let rows = start + MemoryLayout<ParkedFacts>.size
        UnsafeMutableRawPointer(fields.base).copyMemory(from: rows, byteCount: rowsCount)
        return UnsafeRawBufferPointer(start: rows + rowsCount, count: facts.byteCount)
    }
}
