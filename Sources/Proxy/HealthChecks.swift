import Balancing
import CLinux
import EventLoop
import Glibc
import MeshModel
import Routing

/// Asks endpoints whether they are well, where their Service's policy says so. On the control thread: it writes the question into one end of a
/// pair of sockets, and a worker carries it from the other.
///
/// Only ports that a pod of this node has used lately are asked about, from that pod's namespace and as that pod.
struct HealthChecks: ~Copyable {
    /// Questions under way at a time; with the usual second of patience, as many a second when nobody answers.
    static let askedAtOnceMax = 128
    /// Endpoints that are asked at all. At 5 s that is 820 questions a second.
    static let endpointsMax = 4_096
    /// A port that no pod has used for so long is not asked about.
    static let usedWithinSeconds: UInt32 = 120
    /// Of an answer, what is read.
    static let answerBytesMax = 4_096

    private struct Check {
        let bucket: Int
        var tally = HealthTally()
        var rules: HealthCheck
        var pod: UInt32
        var address: IPAddress
        var port: UInt16
        var nextAt: UInt64
        /// Our end while a question is under way, and what has been said.
        var descriptor: Int32 = -1
        var until: UInt64 = 0
        var answer: [UInt8] = []
        var isWanted = true
    }

    /// An endpoint about which the conclusion has changed.
    struct Finding {
        var slot: UInt32
        var bucket: Int
        var isWell: Bool
    }

    /// By slot.
    private var checks: [UInt32: Check] = [:]
    private var seenGeneration: UInt64 = 0
    private var buckets: [Int] = []
    private var nextSurvey: UInt64 = 0
    private var asked = 0

    init() {}

    deinit { for check in checks.values where check.descriptor >= 0 { close(check.descriptor) } }

    /// Our ends of the questions under way.
    var descriptors: [Int32] { asked == 0 ? [] : checks.values.compactMap { $0.descriptor >= 0 ? $0.descriptor : nil } }

    /// When to look again at the latest.
    func nextLook(now: UInt64) -> UInt64 {
        guard !buckets.isEmpty else { return .max }
        var next = nextSurvey
        for check in checks.values { next = min(next, check.descriptor >= 0 ? check.until : check.nextAt) }
        return max(next, now)
    }

    /// Reads what was answered, gives up what was not, asks whose turn it is.
    /// - Parameters:
    ///   - now: milliseconds.
    ///   - carry: hands a question to a worker.
    mutating func look(_ tables: TablesView, now: UInt64, isPresent: (UInt32) -> Bool, carry: (HealthProbe) -> Void) -> [Finding] {
        if tables.generation != seenGeneration { tablesChanged(tables) }
        guard !buckets.isEmpty else { return [] }
        if now >= nextSurvey {
            nextSurvey = now + 1_000
            survey(tables, now: now, isPresent: isPresent)
        }
        var findings: [Finding] = []
        for slot in checks.keys {
            guard var check = checks[slot] else { continue }
            if check.descriptor >= 0, case let answer = read(&check, now: now), answer != .undecided {
                close(check.descriptor)
                check.descriptor = -1
                asked -= 1
                if answer != .silent, check.tally.heard(answer == .well, unhealthyAfter: check.rules.unhealthyAfter, healthyAfter: check.rules.healthyAfter) {
                    findings.append(Finding(slot: slot, bucket: check.bucket, isWell: check.tally.isWell))
                }
            }
            if check.descriptor < 0, now >= check.nextAt, asked < Self.askedAtOnceMax { ask(&check, now: now, carry: carry) }
            checks[slot] = check
        }
        return findings
    }

    private mutating func tablesChanged(_ tables: TablesView) {
        seenGeneration = tables.generation
        buckets = (0..<Limits.bucketsPerFamily).filter { bucket in
            var isChecked = false
            tables.eachPort(inBucket: bucket) { if $0.service.policy.healthCheck != nil { isChecked = true } }
            return isChecked
        }
        nextSurvey = 0
        if buckets.isEmpty { keep { _ in false } }
    }

    /// Which endpoints are asked: ready ones of ports in use. Who is asked already goes on as it is.
    private mutating func survey(_ tables: TablesView, now: UInt64, isPresent: (UInt32) -> Bool) {
        for slot in checks.keys { checks[slot]?.isWanted = false }
        let second = UInt32(truncatingIfNeeded: now / 1_000)
        for bucket in buckets {
            tables.eachPort(inBucket: bucket) { port in
                guard let rules = port.service.policy.healthCheck else { return }
                let use = port.portState.lastUse
                guard use.second != 0, second &- use.second <= Self.usedWithinSeconds, isPresent(use.pod) else { return }
                for place in 0..<port.readyCount { want(port, place, bucket, rules, pod: use.pod, now: now) }
            }
        }
        keep { $0.isWanted }
    }

    private mutating func want(_ port: ServiceDestination, _ place: Int, _ bucket: Int, _ rules: HealthCheckView, pod: UInt32, now: UInt64) {
        let slot = port.slot(at: place), endpoint = port.endpoint(at: place)
        let isKnown = checks[slot]?.address == endpoint.address && checks[slot]?.port == endpoint.port
        guard isKnown || checks.count < Self.endpointsMax else { return }
        let rules = HealthCheck(
            kind: rules.kind, path: String(decoding: rules.path, as: UTF8.self), intervalMilliseconds: rules.intervalMilliseconds,
            timeoutMilliseconds: rules.timeoutMilliseconds, unhealthyAfter: rules.unhealthyAfter, healthyAfter: rules.healthyAfter)
        if !isKnown {
            if let old = checks[slot], old.descriptor >= 0 { abandon(old) }
            // Spread over the interval: endpoints that came together are not asked together.
            let offset = ShardHash.of(endpoint.address) % UInt64(max(1, min(rules.intervalMilliseconds, 1_000)))
            checks[slot] = Check(
                bucket: bucket, tally: HealthTally(isWell: !port.state(at: place).isUnwell), rules: rules, pod: pod, address: endpoint.address,
                port: endpoint.port, nextAt: now + offset)
        }
        checks[slot]?.rules = rules
        checks[slot]?.pod = pod
        checks[slot]?.isWanted = true
    }

    private mutating func keep(_ isKept: (Check) -> Bool) {
        for (slot, check) in checks where !isKept(check) {
            if check.descriptor >= 0 { abandon(check) }
            checks[slot] = nil
        }
    }

    private mutating func abandon(_ check: Check) {
        close(check.descriptor)
        asked -= 1
    }

    // MARK: One question

    private mutating func ask(_ check: inout Check, now: UInt64, carry: (HealthProbe) -> Void) {
        check.nextAt = now + UInt64(check.rules.intervalMilliseconds)
        var near: Int32 = -1, far: Int32 = -1
        guard clinux_stream_pair(&near, &far) == 0 else { return }
        let question = Self.question(check)
        // It fits into the empty buffer of a socket.
        if !question.isEmpty { question.withUnsafeBytes { _ = EventLoop.transmit(near, $0.baseAddress!, count: $0.count) } }
        check.descriptor = near
        check.until = now + UInt64(check.rules.timeoutMilliseconds)
        check.answer = []
        asked += 1
        carry(HealthProbe(descriptor: far, podNumber: check.pod, address: check.address, port: check.port, isOpaque: check.rules.kind == .tcp))
    }

    private static func question(_ check: Check) -> [UInt8] {
        let host = check.address.isIPv4 ? "\(check.address):\(check.port)" : "[\(check.address)]:\(check.port)"
        switch check.rules.kind {
        case .tcp: return []
        case .http:
            // What a header line cannot hold is not asked for; whoever wrote it has been told so.
            let path = check.rules.path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } && check.rules.path.hasPrefix("/") ? check.rules.path : "/"
            return Array("GET \(path) HTTP/1.1\r\nhost: \(host)\r\nuser-agent: weft-health\r\nconnection: close\r\n\r\n".utf8)
        case .grpc:
            // HealthCheckRequest: field 1, the service's name (grpc/health/v1/health.proto); before it flag and length of a message.
            let name = Array(check.rules.path.utf8.prefix(127))
            let message = name.isEmpty ? [] : [0x0A, UInt8(name.count)] + name
            let head = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: \(host)\r\nuser-agent: weft-health\r\ncontent-type: application/grpc\r\n"
                + "te: trailers\r\ncontent-length: \(5 + message.count)\r\nconnection: close, te\r\n\r\n"
            return Array(head.utf8) + [0, 0, 0, 0, UInt8(message.count)] + message
        }
    }

    private func read(_ check: inout Check, now: UInt64) -> HealthAnswer {
        var hasEnded = false
        var part = [UInt8](repeating: 0, count: Self.answerBytesMax)
        reading: while check.answer.count < Self.answerBytesMax {
            let room = Self.answerBytesMax - check.answer.count
            switch part.withUnsafeMutableBytes({ EventLoop.receive(check.descriptor, into: $0.baseAddress!, count: room) }) {
            case .moved(let count): check.answer += part[..<count]
            case .wouldBlock: break reading
            case .ended, .failed:
                hasEnded = true
                break reading
            }
        }
        let answer = HealthAnswer(check.answer, to: check.rules.kind, hasEnded: hasEnded || check.answer.count == Self.answerBytesMax)
        return answer == .undecided && now >= check.until ? .unwell : answer
    }
}

/// What an endpoint's answer says about it so far.
enum HealthAnswer: Equatable {
    /// More must come.
    case undecided
    case well
    case unwell
    /// It is about whoever asks, not about the endpoint.
    case silent

    init(_ bytes: [UInt8], to kind: HealthCheck.Kind, hasEnded: Bool) {
        let rest: HealthAnswer = hasEnded ? .unwell : .undecided
        if kind == .tcp {
            self = bytes.isEmpty ? rest : .well
            return
        }
        // "HTTP/1.1 200"
        guard let headEnd = Self.find("\r\n\r\n", in: bytes), headEnd >= 12, let status = Int(String(decoding: bytes[9..<12], as: UTF8.self)) else {
            self = rest
            return
        }
        let head = bytes[..<headEnd].map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }
        // A refusal of our own is about the one who asks, unless it says that nobody could be reached.
        if let reason = Self.find("\r\nx-weft-reason: ", in: head), Self.find("\r\nx-weft-reason: upstream-", in: head) != reason {
            self = .silent
            return
        }
        guard (200...299).contains(status) else {
            self = .unwell
            return
        }
        if kind == .http {
            self = .well
            return
        }
        // HealthCheckResponse: field 1, a status; 1 is SERVING.
        let serving: [UInt8] = [0, 0, 0, 0, 2, 0x08, 1]
        self = bytes.indices.dropLast(serving.count - 1).contains { bytes[$0..<($0 + serving.count)].elementsEqual(serving) } ? .well : rest
    }

    private static func find(_ text: StaticString, in bytes: [UInt8]) -> Int? {
        let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        guard bytes.count >= wanted.count else { return nil }
        return (0...(bytes.count - wanted.count)).first { bytes[$0..<($0 + wanted.count)].elementsEqual(wanted) }
    }
}
