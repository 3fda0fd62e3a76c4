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
    /// The addresses that it has, 16 bytes each.
    var addresses: Set<[UInt8]> {
        Set([ipv4, ipv6].map { withUnsafeBytes(of: $0) { Array($0) } }.filter { address in address.contains { $0 != 0 } })
    }

    init(_ pod: PodCapture) {
        self.init()
        self.pod = pod.pod
        if pod.outbound { flags |= UInt32(CAPTURE_POD_OUTBOUND) }
        if pod.inbound { flags |= UInt32(CAPTURE_POD_INBOUND) }
        if pod.failClosed { flags |= UInt32(CAPTURE_POD_FAIL_CLOSED) }
        if pod.isStrict { flags = UInt32(CAPTURE_POD_STRICT | CAPTURE_POD_FAIL_CLOSED | CAPTURE_POD_OUTBOUND | CAPTURE_POD_INBOUND) }
        if let address = pod.ipv4 { ipv4 = capture_address(ipv4: address) }
        if let address = pod.ipv6 { ipv6 = capture_address(mapped: address) }
    }
}

/// Ports and prefixes as sets: what a pod no longer lists is found by subtraction.
struct ListedPort: Hashable {
    var list: UInt16
    var port: UInt16

    static func all(of pod: PodCapture) -> Set<ListedPort> {
        let lists = [
            (CAPTURE_PORTS_EXCLUDED_OUTBOUND, pod.excludedOutboundPorts), (CAPTURE_PORTS_EXCLUDED_INBOUND, pod.excludedInboundPorts),
            (CAPTURE_PORTS_PROBED, pod.probePorts), (CAPTURE_PORTS_UDP_EXCEPTIONS, pod.udpExceptionPorts),
        ]
        return Set(lists.flatMap { list, ports in ports.map { ListedPort(list: UInt16(list.rawValue), port: $0) } })
    }

    init(list: UInt16, port: UInt16) {
        self.list = list
        self.port = port
    }

    init(_ key: capture_port_key) { self.init(list: key.list, port: key.port) }

    func key(_ namespaceCookie: UInt64) -> capture_port_key {
        capture_port_key(network_namespace: namespaceCookie, port: port, list: list, zero: 0)
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
