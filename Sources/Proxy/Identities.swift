import EventLoop
import Glibc
import MeshModel
import MutualTLS

/// An identity of a workload on this node, as a worker finds it.
struct Identity {
    /// The same over all rotations, and after a withdrawal.
    var number: UInt32
    /// With what new connections begin. Nil: there is no certificate now, not yet or not any more.
    var credentials: TLSCredentials?
}

/// The identities of this node as one worker knows them. Written by the control thread's letters, read when a connection begins.
struct Identities: ~Copyable {
    /// What the worker's sessions have in common.
    let workspace = TLSWorkspace()
    /// Grows with every letter about an identity.
    private(set) var changed: UInt64 = 0
    /// Grows with every letter about revocations or roots: live sessions may have ended peers now.
    private(set) var revocationsChanged: UInt64 = 0

    /// A name as the hash table compares it: namespace, then service account, in memory that lives as long as the proxy.
    private struct Place {
        var text: UnsafeRawPointer?
        var namespaceCount: UInt16
        var accountCount: UInt16
        var credentials: TLSCredentials?
    }
    private let places = Region<Place>(capacity: Limits.identitiesMax)
    /// Number + 1, or 0. Twice as many as places, so probing ends soon.
    private let slots = Region<UInt32>(capacity: Limits.identitiesMax * 2)
    private static let mask = Limits.identitiesMax * 2 - 1

    deinit {
        // Numbers are dense, so the first that was never given ends them.
        for number in 0..<Limits.identitiesMax {
            guard places[number].text != nil else { break }
            places.base[number].credentials?.release()
            places.base[number].text?.deallocate()
        }
    }

    /// The identity of a workload on this node; nil when nobody has asked for one.
    func find(namespace: UnsafeRawBufferPointer, serviceAccount: UnsafeRawBufferPointer) -> Identity? {
        var slot = Self.hash(namespace, serviceAccount) & Self.mask
        while slots[slot] != 0 {
            let number = slots[slot] - 1
            if isNamed(places.base + Int(number), namespace, serviceAccount) { return Identity(number: number, credentials: places[Int(number)].credentials) }
            slot = (slot + 1) & Self.mask
        }
        return nil
    }

    /// With what new connections of that identity begin.
    func credentials(_ number: UInt32) -> TLSCredentials? {
        Int(number) < Limits.identitiesMax ? places[Int(number)].credentials : nil
    }

    /// A session that began with other credentials than these shall make room for a new one.
    func isCurrent(_ number: UInt32, generation: UInt64) -> Bool { credentials(number)?.generation == generation }

    // MARK: Letters

    /// Becomes an owner of the credentials. Numbers come from the control thread, which never gives one twice.
    mutating func install(_ letter: IdentityLetter) {
        changed &+= 1
        let number = Int(letter.number)
        guard number < Limits.identitiesMax else {
            letter.credentials?.release()
            return
        }
        places.base[number].credentials?.release()
        places.base[number].credentials = letter.credentials
        guard places.base[number].text == nil else { return }
        let text = UnsafeMutableRawBufferPointer.allocate(byteCount: letter.namespace.count + letter.serviceAccount.count, alignment: 1)
        text.copyBytes(from: letter.namespace + letter.serviceAccount)
        places.base[number].text = UnsafeRawPointer(text.baseAddress)
        places.base[number].namespaceCount = UInt16(letter.namespace.count)
        places.base[number].accountCount = UInt16(letter.serviceAccount.count)
        var slot = letter.namespace.withUnsafeBytes { namespace in letter.serviceAccount.withUnsafeBytes { Self.hash(namespace, $0) } } & Self.mask
        while slots[slot] != 0 { slot = (slot + 1) & Self.mask }
        slots[slot] = UInt32(number) + 1
    }

    /// Becomes an owner of the list.
    mutating func install(_ revocations: RevocationList) {
        revocationsChanged &+= 1
        workspace.install(revocations)
    }

    /// Other roots are in force.
    mutating func rootsChanged() { revocationsChanged &+= 1 }

    private func isNamed(_ place: UnsafeMutablePointer<Place>, _ namespace: UnsafeRawBufferPointer, _ serviceAccount: UnsafeRawBufferPointer) -> Bool {
        guard Int(place.pointee.namespaceCount) == namespace.count, Int(place.pointee.accountCount) == serviceAccount.count,
            let text = place.pointee.text, let first = namespace.baseAddress, let second = serviceAccount.baseAddress
        else { return false }
        return memcmp(text, first, namespace.count) == 0 && memcmp(text + namespace.count, second, serviceAccount.count) == 0
    }

    /// FNV-1a over both: names of this cluster's objects, some twenty bytes.
    private static func hash(_ namespace: UnsafeRawBufferPointer, _ serviceAccount: UnsafeRawBufferPointer) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in namespace { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash = (hash ^ 0x2F) &* 0x100_0000_01b3
        for byte in serviceAccount { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return Int(truncatingIfNeeded: (hash ^ hash >> 31) & 0x7FFF_FFFF)
    }
}

/// What a worker is told about one identity. The credentials are counted once for the letter.
struct IdentityLetter: Sendable {
    var number: UInt32
    var namespace: [UInt8]
    var serviceAccount: [UInt8]
    var credentials: TLSCredentials?
}

/// Seconds since 1970, by which certificates are judged.
func unixSeconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    return Int64(now.tv_sec)
}

extension Worker {
    /// Seconds since 1970.
    var unixNow: Int64 { unixSeconds() }
}
