import EventLoop
import MutualTLS

/// Who is at the other end, as the certificate of a handshake has proven it. A copy: whoever speaks for it may outlive the TLS session.
struct ProvenCaller: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    /// Ends of the texts in `memory`, in their order.
    private let ends: (Int, Int, Int, Int, Int)
    private let start: Int
    /// When its certificate ends, in unix seconds.
    let notAfter: Int64
    /// Connections that speak for it.
    fileprivate(set) var references: UInt32 = 1

    /// - Parameter own: the URI that we have shown it.
    init(_ peer: PeerCertificate, own: UnsafeRawBufferPointer) {
        let by: StaticString = "By=", uri: StaticString = ";URI="
        let head = by.utf8CodeUnitCount + own.count + uri.utf8CodeUnitCount
        let total = head + peer.uri.count + peer.trustDomain.count + peer.namespace.count + peer.serviceAccount.count + peer.serial.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: total, alignment: 8)
        var place = 0
        func add(_ text: UnsafeRawBufferPointer) -> Int {
            if let base = text.baseAddress { (memory + place).copyMemory(from: base, byteCount: text.count) }
            place += text.count
            return place
        }
        func add(_ text: StaticString) { _ = add(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }
        add(by)
        _ = add(own)
        add(uri)
        start = place
        ends = (add(peer.uri), add(peer.trustDomain), add(peer.namespace), add(peer.serviceAccount), add(peer.serial))
        self.memory = memory
        notAfter = peer.notAfter
    }

    deinit { memory.deallocate() }

    private func text(_ from: Int, _ to: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory + from, count: to - from) }

    /// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    var uri: UnsafeRawBufferPointer { text(start, ends.0) }
    var trustDomain: UnsafeRawBufferPointer { text(ends.0, ends.1) }
    var namespace: UnsafeRawBufferPointer { text(ends.1, ends.2) }
    var serviceAccount: UnsafeRawBufferPointer { text(ends.2, ends.3) }
    /// The certificate's serial number, as its bytes stand in it.
    var serial: UnsafeRawBufferPointer { text(ends.3, ends.4) }
    /// The value of `x-forwarded-client-cert` for the application (Envoy's form).
    var forwarded: UnsafeRawBufferPointer { text(0, ends.0) }
}

extension Worker {
    /// One more connection speaks for this caller.
    mutating func shareCaller(_ place: UInt32) -> UInt32 {
        if place != nobody { callers.at(place).pointee.references += 1 }
        return place
    }

    mutating func forgetCaller(_ connection: ConnectionPlace) {
        let place = connection.pointee.caller
        guard place != nobody else { return }
        connection.pointee.caller = nobody
        callers.at(place).pointee.references -= 1
        if callers.at(place).pointee.references == 0 { callers.remove(at: place) }
    }
}
