import Glibc
import Identity

/// Certificates that somebody else issues and renews (cert-manager, a SPIRE agent, an operator), as a directory holds them:
///
///     <directory>/ca.crt                                      roots
///     <directory>/<namespace>/<service account>/tls.crt       leaf and intermediates
///                                              /tls.key
///                                              /ca.crt        roots, as cert-manager writes them beside
///
/// `svid.pem`, `svid_key.pem` and `svid_bundle.pem`, the names of SPIRE's spiffe-helper, do as well; so does a directory that is swapped as a whole (a mounted
/// Secret). A key is opened and its descriptor passed on; the agent never reads it.
struct IdentityFilesDoor {
    let directory: String

    /// What a look at one identity's files found new.
    enum Finding {
        /// Whoever takes it owns the descriptors.
        case changed(chain: Int32, key: Int32, notAfter: Int64)
        case unchanged
        case missing(String)
    }

    private static let layouts = [(chain: "tls.crt", key: "tls.key"), (chain: "svid.pem", key: "svid_key.pem")]
    private static let rootNames = ["ca.crt", "svid_bundle.pem", "bundle.pem"]

    /// What tells a file from the one that stood there before.
    private struct Stamp: Equatable {
        var device: UInt64, inode: UInt64, size: Int64, seconds: Int, nanoseconds: Int

        init?(_ descriptor: Int32) {
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
            (device, inode, size) = (UInt64(status.st_dev), UInt64(status.st_ino), Int64(status.st_size))
            (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
        }
    }
    private var known: [SPIFFEIdentity: [Stamp]] = [:]

    init(directory: String) { self.directory = directory }

    /// Where an identity's files are; nil for one that is no workload's.
    func place(of identity: SPIFFEIdentity) -> String? {
        guard case .workload(let namespace, let serviceAccount) = identity.party else { return nil }
        return "\(directory)/\(namespace)/\(serviceAccount)"
    }

    /// Directories whose changes matter: down to each identity's, and where links in them lead.
    func watched(_ identities: some Sequence<SPIFFEIdentity>) -> Set<String> {
        var paths: Set<String> = [directory]
        for identity in identities {
            guard let place = place(of: identity), case .workload(let namespace, _) = identity.party else { continue }
            paths.formUnion(["\(directory)/\(namespace)", place])
        }
        return paths
    }

    /// Looks at one identity's files.
    /// - Parameter again: take them for changed even when they are not: the proxy could not use them, or never said so.
    mutating func look(at identity: SPIFFEIdentity, again: Bool) -> Finding {
        guard let place = place(of: identity) else { return .missing("it is not a workload's identity") }
        var reason = "\(place)/tls.crt and tls.key do not exist"
        for layout in Self.layouts {
            let chain = open("\(place)/\(layout.chain)", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            if chain < 0, errno == ENOENT { continue }
            guard chain >= 0 else { return missing(identity, Self.cannotOpen("\(place)/\(layout.chain)")) }
            let key = open("\(place)/\(layout.key)", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            guard key >= 0 else {
                reason = Self.cannotOpen("\(place)/\(layout.key)")
                close(chain)
                return missing(identity, reason)
            }
            let finding = judge(identity, chain: chain, key: key, place: "\(place)/\(layout.chain)", again: again)
            if case .changed = finding { return finding }
            close(chain)
            close(key)
            if case .missing(let reason) = finding { return missing(identity, reason) }
            return finding
        }
        return missing(identity, reason)
    }

    mutating func forget(_ identity: SPIFFEIdentity) { known[identity] = nil }

    private mutating func judge(_ identity: SPIFFEIdentity, chain: Int32, key: Int32, place: String, again: Bool) -> Finding {
        guard let chainStamp = Stamp(chain), let keyStamp = Stamp(key) else { return .missing("\(place) or its key is not a regular file") }
        if known[identity] == [chainStamp, keyStamp], !again { return .unchanged }
        guard let text = Self.text(chain) else { return .missing("\(place) cannot be read, or has more than \(AuthorityLimits.chainBytesMax) bytes") }
        guard let leaf = try? PEMChain(text).leaf else { return .missing("\(place) is no chain of certificates in PEM") }
        guard leaf.identity == identity else { return .missing("\(place) is a certificate for \(leaf.identity?.description ?? "something else")") }
        known[identity] = [chainStamp, keyStamp]
        lseek(chain, 0, SEEK_SET)
        return .changed(chain: chain, key: key, notAfter: leaf.notAfter)
    }

    private mutating func missing(_ identity: SPIFFEIdentity, _ reason: String) -> Finding {
        known[identity] = nil
        return .missing(reason)
    }

    /// All roots that the directory and the identities' own directories hold; nil when there is none.
    func roots(_ identities: some Sequence<SPIFFEIdentity>) -> String? {
        var texts: [String] = []
        for place in [directory] + identities.sorted().compactMap({ self.place(of: $0) }) {
            for name in Self.rootNames {
                let descriptor = open("\(place)/\(name)", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                guard descriptor >= 0 else { continue }
                if let text = Self.text(descriptor) { texts.append(text) }
                close(descriptor)
            }
        }
        return Identity.TrustBundle.union(texts)
    }

    private static func cannotOpen(_ path: String) -> String {
        let code = errno
        let remedy = code == EACCES ? "; make it readable for weft agent (uid 15020)" : ""
        return "\(path): \(String(cString: strerror(code)))\(remedy)"
    }

    /// Nil when it cannot be read or is too large.
    private static func text(_ descriptor: Int32) -> String? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
            guard bytes.count <= AuthorityLimits.bundleBytesMax else { return nil }
        }
    }
}
