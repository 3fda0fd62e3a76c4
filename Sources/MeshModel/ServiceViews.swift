// Reading a services shard in place. Each view is two words, owns nothing, and lives as long as its shard's bytes.

/// A service inside a shard.
public struct ServiceView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<ServiceRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<ServiceRecord>) {
        self.shard = shard
        self.record = record
    }

    /// `name.namespace.svc.cluster.local`, the value of Istio's `destination_service` label.
    @inlinable public var host: UnsafeRawBufferPointer { shard.text(record.pointee.host) }

    @inlinable public var name: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: host.baseAddress, count: Int(record.pointee.nameByteCount))
    }

    @inlinable public var namespace: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: host.baseAddress.map { $0 + Int(record.pointee.nameByteCount) + 1 }, count: Int(record.pointee.namespaceByteCount))
    }

    /// `ShardHash.of(namespace:name:)`.
    @inlinable public var hash: UInt64 { record.pointee.hash }
    @inlinable public var nameByteCount: Int { Int(record.pointee.nameByteCount) }
    /// Bytes of `name.namespace`, with which the host starts.
    @inlinable public var keyByteCount: Int { nameByteCount + 1 + Int(record.pointee.namespaceByteCount) }
    @inlinable public var isHeadless: Bool { record.pointee.flags & 1 != 0 }
    @inlinable public var portCount: Int { Int(record.pointee.ports.count) }

    /// The port at a place in 0 ..< `portCount`.
    @inlinable
    public func port(at place: Int) -> PortView {
        precondition(place >= 0 && place < portCount, "no such port")
        let ports = shard.records(shard.header.pointee.b, of: PortRecord.self)
        return PortView(shard: shard, record: ports + Int(record.pointee.ports.start) + place)
    }

    /// The port with a number, as clients name it.
    @inlinable
    public func port(numbered number: UInt16) -> PortView? {
        for place in 0..<portCount {
            let port = port(at: place)
            if port.number == number { return port }
        }
        return nil
    }
}

/// One port of a service, with its endpoints: the ready ones first.
public struct PortView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<PortRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<PortRecord>) {
        self.shard = shard
        self.record = record
    }

    @inlinable public var number: UInt16 { record.pointee.port }
    @inlinable public var name: UnsafeRawBufferPointer { shard.text(record.pointee.name) }
    // Validated.
    @inlinable public var protocolHint: ProtocolHint { ProtocolHint(rawValue: record.pointee.protocolHint).unsafelyUnwrapped }
    @inlinable public var endpointCount: Int { Int(record.pointee.endpoints.count) }
    /// Endpoints 0 ..< `readyCount` take requests.
    @inlinable public var readyCount: Int { Int(record.pointee.readyCount) }
    /// Endpoints 0 ..< `firstTierCount` are preferred; all that are ready where nothing was said about places.
    @inlinable public var firstTierCount: Int { Int(record.pointee.firstTierCount) }
    /// Next come so many of the second tier; the other ready ones are of the third.
    @inlinable public var secondTierCount: Int { Int(record.pointee.secondTierCount) }
    /// Endpoints and ports of the whole shard.
    @inlinable public var shardEndpointCount: Int { Int(shard.header.pointee.c.count) }
    @inlinable public var shardPortCount: Int { Int(shard.header.pointee.b.count) }
    /// Its place among all ports of the shard.
    @inlinable public var placeInShard: Int { record - shard.records(shard.header.pointee.b, of: PortRecord.self) }
    /// The number, within the shard, of this port's first endpoint.
    @inlinable public var firstEndpoint: Int { Int(record.pointee.endpoints.start) }

    /// The endpoint at a place in 0 ..< `endpointCount`.
    @inlinable
    public func endpoint(at place: Int) -> EndpointView {
        precondition(place >= 0 && place < endpointCount, "no such endpoint")
        return EndpointView(record: shard.records(shard.header.pointee.c, of: EndpointRecord.self) + firstEndpoint + place)
    }

    /// The place of the endpoint with an address and port; binary search in each tier of the ready part, then in the rest.
    public func place(of address: IPAddress, port: UInt16) -> Int? {
        let second = firstTierCount + secondTierCount
        return search(0..<firstTierCount, address, port) ?? search(firstTierCount..<second, address, port)
            ?? search(second..<readyCount, address, port) ?? search(readyCount..<endpointCount, address, port)
    }

    private func search(_ part: Range<Int>, _ address: IPAddress, _ port: UInt16) -> Int? {
        var low = part.lowerBound, high = part.upperBound
        while low < high {
            let middle = low + (high - low) / 2
            let here = endpoint(at: middle)
            if here.address == address && here.port == port { return middle }
            if here.address < address || (here.address == address && here.port < port) { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}

/// One address of a service port.
public struct EndpointView: @unchecked Sendable {
    @usableFromInline let record: UnsafePointer<EndpointRecord>

    @inlinable
    init(record: UnsafePointer<EndpointRecord>) { self.record = record }

    @inlinable public var address: IPAddress { record.pointee.address }
    @inlinable public var port: UInt16 { record.pointee.port }
    @inlinable public var isReady: Bool { record.pointee.flags & EndpointRecord.isReady != 0 }
    @inlinable public var isTerminating: Bool { record.pointee.flags & EndpointRecord.isTerminating != 0 }
    /// It runs on the snapshot's own node.
    @inlinable public var isSameNode: Bool { record.pointee.flags & EndpointRecord.isSameNode != 0 }
    /// It runs in the snapshot's own zone, and that zone has a name.
    @inlinable public var isSameZone: Bool { record.pointee.flags & EndpointRecord.isSameZone != 0 }
}

extension ShardView {
    /// Services in this shard; 0 in a shard of another family.
    public var serviceCount: Int { header.pointee.family == ShardFamily.services.rawValue ? Int(header.pointee.a.count) : 0 }
    /// Endpoints in this shard; 0 in a shard of another family.
    public var endpointCount: Int { header.pointee.family == ShardFamily.services.rawValue ? Int(header.pointee.c.count) : 0 }
    /// Ports of all services in this shard; 0 in a shard of another family.
    public var portCount: Int { header.pointee.family == ShardFamily.services.rawValue ? Int(header.pointee.b.count) : 0 }

    /// The service at a place in 0 ..< `serviceCount`, in the writer's order.
    public func service(at place: Int) -> ServiceView {
        precondition(place >= 0 && place < serviceCount, "no such service")
        return ServiceView(shard: self, record: records(header.pointee.a, of: ServiceRecord.self) + place)
    }

    /// Finds the service that a reference of an addresses shard means.
    @inlinable
    public func service(_ reference: ServiceReferenceView) -> ServiceView? {
        let key = reference.key
        return service(hash: reference.hash) { service in
            // `name.namespace` is how the host starts; the name's length tells `a-b.c` from another split.
            service.nameByteCount == reference.nameByteCount && service.keyByteCount == key.count
                && ASCIIText.equal(UnsafeRawBufferPointer(start: service.host.baseAddress, count: key.count), key)
        }
    }

    /// Finds a service by name and namespace, each without regard to case. `hash` is `ShardHash.of(namespace:name:)`.
    @inlinable
    public func service(hash: UInt64, namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) -> ServiceView? {
        service(hash: hash) { ASCIIText.equal($0.name, name) && ASCIIText.equal($0.namespace, namespace) }
    }

    @inlinable @inline(__always)
    func service(hash: UInt64, where isMeant: (ServiceView) -> Bool) -> ServiceView? {
        let header = header.pointee
        guard header.family == 1 else { return nil }
        let table = records(header.table, of: UInt32.self)
        let services = records(header.a, of: ServiceRecord.self)
        let mask = Int(header.table.count) - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while true {
            let entry = table[slot]
            if entry == 0 { return nil }
            let record = services + Int(entry - 1)
            if record.pointee.hash == hash {
                let service = ServiceView(shard: self, record: record)
                if isMeant(service) { return service }
            }
            slot = (slot + 1) & mask
        }
    }
}

/// Comparison of names whose first side is lower case, as Kubernetes keeps them.
public enum ASCIIText {
    /// Whether `asked` equals `lower` but for the case of its letters A–Z. Eight bytes at a time while they are the same.
    @inlinable
    public static func equal(_ lower: UnsafeRawBufferPointer, _ asked: UnsafeRawBufferPointer) -> Bool {
        let count = lower.count
        guard asked.count == count, let left = lower.baseAddress, let right = asked.baseAddress else { return asked.count == count }
        var offset = 0
        while offset < count {
            if offset + 8 <= count,
                left.loadUnaligned(fromByteOffset: offset, as: UInt64.self) == right.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            {
                offset += 8
                continue
            }
            let byte = right.load(fromByteOffset: offset, as: UInt8.self)
            let folded = byte &- 0x41 < 26 ? byte | 0x20 : byte
            if folded != left.load(fromByteOffset: offset, as: UInt8.self) { return false }
            offset += 1
        }
        return true
    }
}
