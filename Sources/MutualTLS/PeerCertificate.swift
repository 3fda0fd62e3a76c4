import Glibc

/// What a verified leaf says, kept in one piece of memory: this record, then the URI, then the serial number. Counted by hand; one worker's own.
struct PeerRecord {
    var references: Int32
    var uriCount: UInt16
    var trustDomainCount: UInt16
    var namespaceCount: UInt8
    var serialCount: UInt8
    /// From when until when every certificate of its chain holds.
    var validFrom: Int64
    var validUntil: Int64

    static func make(_ name: WorkloadName, serial: UnsafeRawBufferPointer, validFrom: Int64, validUntil: Int64) -> UnsafeMutablePointer<PeerRecord>? {
        guard serial.count <= TLSLimits.serialBytesMax else { return nil }
        let head = MemoryLayout<PeerRecord>.stride
        let memory = UnsafeMutableRawPointer.allocate(byteCount: head + name.uri.count + serial.count, alignment: 8)
        let record = memory.bindMemory(to: PeerRecord.self, capacity: 1)
        record.initialize(to: PeerRecord(
            references: 1, uriCount: UInt16(name.uri.count), trustDomainCount: UInt16(name.trustDomain.count),
            namespaceCount: UInt8(name.namespace.count), serialCount: UInt8(serial.count), validFrom: validFrom, validUntil: validUntil))
        UnsafeMutableRawBufferPointer(start: memory + head, count: name.uri.count).copyMemory(from: name.uri)
        UnsafeMutableRawBufferPointer(start: memory + head + name.uri.count, count: serial.count).copyMemory(from: serial)
        return record
    }
}

extension UnsafeMutablePointer<PeerRecord> {
    func retain() { pointee.references += 1 }

    func release() {
        pointee.references -= 1
        if pointee.references == 0 { UnsafeMutableRawPointer(self).deallocate() }
    }

    var certificate: PeerCertificate { PeerCertificate(record: UnsafePointer(self)) }

    /// What time says about it: nil while it holds, within the tolerated skew.
    func fault(at now: Int64) -> TLSFault? {
        if now > pointee.validUntil + TLSLimits.clockSkewSeconds { return .expired }
        if now < pointee.validFrom - TLSLimits.clockSkewSeconds { return .notYetValid }
        return nil
    }
}

/// Who is at the other end, as its certificate proves. Its texts live as long as the session it was read from.
public struct PeerCertificate {
    let record: UnsafePointer<PeerRecord>

    private func text(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(record) + MemoryLayout<PeerRecord>.stride + offset, count: count)
    }

    /// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    public var uri: UnsafeRawBufferPointer { text(0, Int(record.pointee.uriCount)) }
    public var trustDomain: UnsafeRawBufferPointer { text(9, Int(record.pointee.trustDomainCount)) }
    public var namespace: UnsafeRawBufferPointer { text(9 + Int(record.pointee.trustDomainCount) + 4, Int(record.pointee.namespaceCount)) }
    public var serviceAccount: UnsafeRawBufferPointer {
        let start = 9 + Int(record.pointee.trustDomainCount) + 4 + Int(record.pointee.namespaceCount) + 4
        return text(start, Int(record.pointee.uriCount) - start)
    }
    /// The leaf's serial number, big endian, without leading zeros.
    public var serial: UnsafeRawBufferPointer { text(Int(record.pointee.uriCount), Int(record.pointee.serialCount)) }
    /// When the first certificate of its chain ends; unix seconds.
    public var notAfter: Int64 { record.pointee.validUntil }
}
