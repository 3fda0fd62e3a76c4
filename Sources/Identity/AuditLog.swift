import Foundation
import Glibc
import Synchronization

/// What the authority did and refused, one JSON object a line, never rewritten.
///
/// A line is one `write` to a descriptor opened with O_APPEND: lines of several processes do not mix, and a line is in the kernel's hands before
/// the certificate leaves the process. `sync` brings lines to the disk; whoever runs the authority calls it once a second, so a power cut loses a second at
/// most and a crash of the process nothing. A file that was renamed away (logrotate) is opened anew at the next sync.
public final class AuditLog: Sendable {
    public let path: String
    private struct State {
        var descriptor: Int32
        var isDirty = false
    }
    private let state: Mutex<State>

    /// One line. Fields that do not apply are left out.
    public struct Entry: Codable, Sendable, Equatable {
        /// RFC 3339, UTC.
        public var time: String
        public var event: Event
        /// Who asked: a node's name; `embedded` for the authority's own agent.
        public var asker: String
        public var identity: String?
        public var serial: String?
        /// Unix seconds.
        public var notBefore: Int64?
        public var notAfter: Int64?
        public var key: SigningRequest.KeyKind?
        /// Fingerprint of the root that vouches for it, or that the event is about.
        public var root: String?
        public var reason: Refusal?
        /// What a refusal was about; a quotation of at most `AuthorityLimits.quotedBytesMax` bytes.
        public var detail: String?

        public init(
            at now: Int64, _ event: Event, asker: String, identity: String? = nil, serial: String? = nil, notBefore: Int64? = nil, notAfter: Int64? = nil,
            key: SigningRequest.KeyKind? = nil, root: String? = nil, reason: Refusal? = nil, detail: String? = nil
        ) {
            time = Self.time(now)
            self.event = event
            self.asker = Self.quoted(asker)
            self.identity = identity.map(Self.quoted)
            (self.serial, self.notBefore, self.notAfter, self.key, self.root, self.reason) = (serial, notBefore, notAfter, key, root, reason)
            self.detail = detail.map(Self.quoted)
        }

        private static func quoted(_ text: String) -> String { String(decoding: text.utf8.prefix(AuthorityLimits.quotedBytesMax), as: UTF8.self) }

        private static func time(_ now: Int64) -> String {
            var seconds = time_t(now)
            var parts = tm()
            gmtime_r(&seconds, &parts)
            func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
            return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
        }
    }

    public enum Event: String, Codable, Sendable {
        case issued, refused
        case authorityCreated = "authority_created"
        case issuerRenewed = "issuer_renewed"
        case rootAnnounced = "root_announced"
        case rootActivated = "root_activated"
        case rootRemoved = "root_removed"
        case tokenMade = "token_made"
        case nodeJoined = "node_joined"
        case nodeRevoked = "node_revoked"
    }

    /// Opens or makes the file, 0600.
    init(_ path: String) throws {
        self.path = path
        state = Mutex(State(descriptor: try Self.open(path)))
    }

    deinit { state.withLock { _ = close($0.descriptor) } }

    /// Appends; throws when the line is not wholly written, and then whatever it tells of must not happen.
    public func append(_ entry: Entry) throws(Refusal) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard var line = try? Array(encoder.encode(entry)) else { throw .auditUnavailable }
        line.append(UInt8(ascii: "\n"))
        let isWritten = state.withLock { state in
            state.isDirty = true
            var count = 0
            repeat { count = line.withUnsafeBytes { write(state.descriptor, $0.baseAddress, $0.count) } } while count < 0 && errno == EINTR
            // Half a line (a disk that just became full) must not swallow the next one.
            if count > 0, count < line.count { _ = write(state.descriptor, "\n", 1) }
            return count == line.count
        }
        guard isWritten else { throw .auditUnavailable }
    }

    /// Brings what was appended to the disk.
    public func sync() {
        let descriptor: Int32? = state.withLock { state in
            var named = stat(), held = stat()
            if fstat(state.descriptor, &held) == 0, stat(path, &named) != 0 || named.st_ino != held.st_ino, let fresh = try? Self.open(path) {
                fsync(state.descriptor)
                close(state.descriptor)
                state.descriptor = fresh
            }
            guard state.isDirty else { return nil }
            state.isDirty = false
            return dup(state.descriptor)
        }
        // Outside the lock: a slow disk must not hold up who appends.
        guard let descriptor, descriptor >= 0 else { return }
        fdatasync(descriptor)
        close(descriptor)
    }

    private static func open(_ path: String) throws -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SecretDirectory.Fault(step: "cannot open", path: path, code: errno) }
        try? SecretDirectory.giveToOwner(of: (path as NSString).deletingLastPathComponent, path)
        return descriptor
    }
}
