internal import CaptureABI

// The records of bpf/abi, made from Swift values.

extension capture_address {
    /// - Parameter bytes: 16 in network order, which is how the words lie in memory.
    init(mapped bytes: [UInt8]) {
        precondition(bytes.count == 16, "an address is 16 bytes here")
        self.init()
        withUnsafeMutableBytes(of: &self) { $0.copyBytes(from: bytes) }
    }

    /// `::ffff:a.b.c.d`.
    init(ipv4 bytes: [UInt8]) {
        precondition(bytes.count == 4, "an IPv4 address is four bytes")
        self.init(mapped: [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + bytes)
    }
}

extension capture_pod {
    init(_ pod: PodCapture) {
        self.init()
        self.pod = pod.pod
        if pod.outbound { flags |= UInt32(CAPTURE_POD_OUTBOUND) }
        if pod.inbound { flags |= UInt32(CAPTURE_POD_INBOUND) }
        if pod.failClosed { flags |= UInt32(CAPTURE_POD_FAIL_CLOSED) }
        if let address = pod.ipv4 { ipv4 = capture_address(ipv4: address) }
        if let address = pod.ipv6 { ipv6 = capture_address(mapped: address) }
    }
}

/// Ports and prefixes as sets: what a pod no longer excludes is found by subtraction.
struct ExcludedPort: Hashable {
    var direction: UInt16
    var port: UInt16

    static func all(of pod: PodCapture) -> Set<ExcludedPort> {
        Set(pod.excludedOutboundPorts.map { ExcludedPort(direction: UInt16(CAPTURE_DIRECTION_OUTBOUND.rawValue), port: $0) })
            .union(pod.excludedInboundPorts.map { ExcludedPort(direction: UInt16(CAPTURE_DIRECTION_INBOUND.rawValue), port: $0) })
    }

    init(direction: UInt16, port: UInt16) {
        self.direction = direction
        self.port = port
    }

    init(_ key: capture_port_key) { self.init(direction: key.direction, port: key.port) }

    func key(_ namespaceCookie: UInt64) -> capture_port_key {
        capture_port_key(network_namespace: namespaceCookie, port: port, direction: direction, zero: 0)
    }
}

extension capture_prefix_key {
    private static let namespaceBits = UInt32(CAPTURE_PREFIX_KEY_NAMESPACE_BITS)

    /// The kernel stores a prefix as given, so bits past it are cleared: equal prefixes then are equal keys.
    init(_ prefix: PodCapture.Prefix, _ namespaceCookie: UInt64) {
        precondition((0...128).contains(prefix.bits) && prefix.address.count == 16, "a prefix of 16 bytes has 0 to 128 bits")
        var bytes = prefix.address
        for index in bytes.indices {
            let significant = min(max(prefix.bits - index * 8, 0), 8)
            bytes[index] &= ~UInt8(truncatingIfNeeded: 0xff >> significant)
        }
        self.init()
        prefix_bits = Self.namespaceBits + UInt32(prefix.bits)
        network_namespace = (UInt32(truncatingIfNeeded: namespaceCookie), UInt32(truncatingIfNeeded: namespaceCookie >> 32))
        address = capture_address(mapped: bytes)
    }

    var namespaceCookie: UInt64 { UInt64(network_namespace.0) | UInt64(network_namespace.1) << 32 }

    var prefix: PodCapture.Prefix {
        PodCapture.Prefix(address: withUnsafeBytes(of: address) { Array($0) }, bits: Int(prefix_bits - Self.namespaceBits))
    }
}
