import COpenSSL

/// What the sessions of one worker have in common. Made before its first session; outlives the last one.
public struct TLSWorkspace: ~Copyable {
    struct State: ~Copyable {
        var leaves = VerifiedLeaves()
        var revocations: RevocationList?
        /// Fetched once: by name it costs a lookup under a lock per use.
        let sha256 = EVP_MD_fetch(nil, "SHA256", nil)
        /// Where pieces become one record.
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: TLSLimits.recordBytesMax, alignment: 64)
        /// Where records become one send.
        let outlet: UnsafeMutablePointer<copenssl_outlet>
        var leavesKnown: UInt64 = 0
        var leavesVerified: UInt64 = 0

        init() {
            let room = (TLSLimits.recordBytesMax + TLSLimits.sealBytesMax) * Int(copenssl_outlet_records)
            outlet = .allocate(capacity: 1)
            outlet.initialize(to: copenssl_outlet())
            outlet.pointee.bytes = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64).assumingMemoryBound(to: UInt8.self)
            outlet.pointee.capacity = UInt32(room)
        }

        deinit {
            EVP_MD_free(sha256)
            scratch.deallocate()
            outlet.pointee.bytes.deallocate()
            outlet.deallocate()
            revocations?.release()
        }
    }

    let state: UnsafeMutablePointer<State>

    public init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    deinit {
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// What is revoked from now on; becomes an owner of the list.
    public func install(_ revocations: RevocationList) {
        state.pointee.revocations?.release()
        state.pointee.revocations = revocations
        state.pointee.leaves.removeAll(rootsGeneration: state.pointee.leaves.rootsGeneration)
    }

    /// Peers that were known by their leaf, and peers whose chain was verified.
    public var leavesKnown: UInt64 { state.pointee.leavesKnown }
    public var leavesVerified: UInt64 { state.pointee.leavesVerified }
}

extension UnsafeMutablePointer<TLSWorkspace.State> {
    func isRevoked(_ peer: PeerCertificate) -> Bool {
        guard let revocations = pointee.revocations, revocations.count > 0 else { return false }
        return revocations.contains(serial: peer.serial) || revocations.contains(identity: peer.uri)
    }
}
