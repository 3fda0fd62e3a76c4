@testable import Agent
import ControlChannel
import Glibc
import Identity
import Logging
import Synchronization
import Testing

/// A ledger with a clock that is only a number and dice that always fall in the middle.
private struct Book {
    var ledger = IdentityLedger(dice: { 0.5 })
    var now = 1_000_000.0
    static let web = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")!
    static let cart = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart")!

    mutating func wanted(_ commands: [IdentityLedger.Command]) throws -> IdentityWanted {
        try #require(commands.messages.compactMap { try? IdentityWanted($0) }.first)
    }

    /// One way through: asked, requested, signed, in force.
    mutating func issue(lifetime: Int64 = 100) throws -> UInt64 {
        let asked = try wanted(ledger.tick(at: now))
        let job = try #require(ledger.requested(IdentityRequested(identity: asked.identity, number: asked.number, request: [1], key: nil)).jobs.first)
        let issued = CertificateAuthority.Issued(chain: "chain", notBefore: Int64(now) - 300, notAfter: Int64(now) + lifetime, serial: "01")
        let sent = ledger.signed(job, .success(issued), at: now)
        #expect(sent.messages.compactMap { try? IdentityIssued($0) }.map(\.number) == [asked.number])
        ledger.heard(IdentityState(identity: asked.identity, number: asked.number, state: .active, notAfter: UInt64(issued.notAfter)), at: now)
        return asked.number
    }

    func state(_ identity: SPIFFEIdentity = web) -> String? { ledger.entries[identity].map { Status.Identity(identity, $0, at: now).state } }
}

extension [IdentityLedger.Command] {
    fileprivate var messages: [ControlMessage] { compactMap { if case .send(let outgoing) = $0 { outgoing.message } else { nil } } }
    fileprivate var jobs: [IdentityLedger.SigningJob] { compactMap { if case .sign(let job) = $0 { job } else { nil } } }
}

@Suite struct IdentityLedgerTests {
    @Test func anIdentityIsAskedForIssuedAndRenewedAtHalfItsLife() throws {
        var book = Book()
        #expect(book.ledger.want([Book.web], isFromFiles: false, at: book.now).isEmpty)
        #expect(book.state() == "pending")
        let first = try book.issue(lifetime: 100)
        #expect(book.state() == "active")
        book.now += 49
        #expect(book.ledger.tick(at: book.now).isEmpty)
        book.now += 2
        let second = try book.wanted(book.ledger.tick(at: book.now))
        #expect(second.number > first)
        #expect(book.state() == "rotating")
        #expect(book.ledger.tick(at: book.now + 1).isEmpty, "one at a time")
    }

    @Test func whatComesForAnOlderKeyIsVoid() throws {
        var book = Book()
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        let asked = try book.wanted(book.ledger.tick(at: book.now))
        #expect(book.ledger.requested(IdentityRequested(identity: asked.identity, number: asked.number - 1, request: [1], key: nil)).isEmpty)
        #expect(book.ledger.requested(IdentityRequested(identity: "spiffe://cluster.local/ns/other/sa/x", number: asked.number, request: [1], key: nil)).isEmpty)
        #expect(book.ledger.requested(IdentityRequested(identity: "nonsense", number: asked.number, request: [1], key: nil)).isEmpty)
    }

    @Test func aSilentProxyIsAskedAgain() throws {
        var book = Book()
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        let first = try book.wanted(book.ledger.tick(at: book.now))
        book.now += 5
        _ = book.ledger.tick(at: book.now)
        #expect(book.ledger.entries[Book.web]?.failure?.reason == "the proxy has not made a key yet")
        book.now += 1
        #expect(try book.wanted(book.ledger.tick(at: book.now)).number > first.number)
    }

    @Test func anAuthorityThatIsGoneLeavesWhatIsInForce() throws {
        var book = Book()
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        _ = try book.issue(lifetime: 100)
        book.now += 60
        for _ in 0..<3 {
            let asked = try book.wanted(book.ledger.tick(at: book.now))
            let job = try #require(book.ledger.requested(IdentityRequested(identity: asked.identity, number: asked.number, request: [1], key: nil)).jobs.first)
            #expect(book.ledger.signed(job, .failure(.init(reason: "gone", isFinal: false)), at: book.now).isEmpty)
            #expect(book.state() == "active")
            book.now += 5
        }
        book.now += 30
        #expect(book.state() == "expired")
        _ = try book.issue(lifetime: 100)
        #expect(book.state() == "active", "it recovers by itself")
        #expect(book.ledger.entries[Book.web]?.failure == nil)
    }

    @Test func aRefusalThatWillNotChangeIsSaidSo() throws {
        var book = Book()
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        let asked = try book.wanted(book.ledger.tick(at: book.now))
        let job = try #require(book.ledger.requested(IdentityRequested(identity: asked.identity, number: asked.number, request: [1], key: nil)).jobs.first)
        _ = book.ledger.signed(job, .failure(.init(reason: "no", isFinal: true)), at: book.now)
        #expect(book.state() == "refused")
    }

    @Test func theProxysRefusalIsHeard() throws {
        var book = Book()
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        let asked = try book.wanted(book.ledger.tick(at: book.now))
        book.ledger.heard(IdentityState(identity: asked.identity, number: asked.number, state: .refused, reason: "the key does not fit"), at: book.now)
        #expect(book.ledger.entries[Book.web]?.failure?.reason == "the key does not fit")
        #expect(book.state() == "pending")
    }

    @Test func identitiesThatNoPodNeedsAreWithdrawn() throws {
        var book = Book()
        _ = book.ledger.want([Book.web, Book.cart], isFromFiles: false, at: book.now)
        let commands = book.ledger.want([Book.cart], isFromFiles: false, at: book.now)
        #expect(commands.messages.compactMap { try? IdentityWithdrawn($0) }.map(\.identity) == [Book.web.description])
        #expect(book.ledger.entries[Book.web] == nil)
    }

    @Test func aNewAgentGoesOnWithWhatNodeHolds() throws {
        var book = Book()
        let held = IdentityIssued(
            identity: Book.web.description, number: 9_000_000_000_000, chain: Array("c".utf8), notBefore: UInt64(book.now) - 300 - 20, notAfter: UInt64(book.now) + 80)
        let foreign = IdentityIssued(identity: Book.cart.description, number: 3, chain: [], notBefore: 0, notAfter: 1)
        book.ledger.found(held)
        book.ledger.found(foreign)
        let commands = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        #expect(commands.messages.compactMap { try? IdentityWithdrawn($0) }.map(\.identity) == [Book.cart.description], "what nobody needs any more")
        #expect(book.state() == "active")
        #expect(book.ledger.tick(at: book.now + 29).isEmpty, "issued 20 s ago for 100 s: due in 30")
        #expect(try book.wanted(book.ledger.tick(at: book.now + 31)).number > held.number)
    }

    @Test func anotherAuthoritysCertificatesAreReplacedAtOnce() throws {
        var book = Book()
        book.ledger.found(IdentityIssued(identity: Book.web.description, number: 1, chain: Array("old".utf8), notBefore: UInt64(book.now), notAfter: UInt64(book.now) + 1_000))
        _ = book.ledger.want([Book.web], isFromFiles: false, at: book.now)
        #expect(book.ledger.tick(at: book.now).isEmpty)
        book.ledger.roots(.init(trustDomain: "cluster.local", generation: 1, roots: ""), at: book.now)
        _ = try book.wanted(book.ledger.tick(at: book.now))
    }

    @Test func aFewAtATime() {
        var book = Book()
        let many = (0..<100).map { SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "a\($0)")! }
        _ = book.ledger.want(Set(many), isFromFiles: false, at: book.now)
        #expect(book.ledger.tick(at: book.now).count == AgentLimits.identitiesUnderWayMax)
    }
}

/// A directory of identity files with certificates of an authority of its own.
private struct FilesScene {
    let directory = TemporaryDirectory()
    let authority: CertificateAuthority
    var root: String { "\(directory.path)/ids" }

    init() throws {
        authority = try CertificateAuthority(directory: "\(directory.path)/ca", settings: .init(trustDomain: "cluster.local"), now: Int64(time(nil)))
        for path in [root, "\(root)/shop", "\(root)/shop/web"] { mkdir(path, 0o755) }
        try authority.bundle.roots.write(toFile: "\(root)/ca.crt", atomically: true, encoding: .utf8)
    }

    /// Renames both files into place, as an issuer does.
    func write(_ identity: SPIFFEIdentity = Book.web) throws {
        let pair = NodeKeyPair()
        let issued = try authority.issue(pair.request(for: identity), entitled: identity, asker: "test", at: Int64(time(nil)))
        try pair.pem.write(toFile: "\(root)/shop/web/tls.key", atomically: true, encoding: .utf8)
        try issued.chain.write(toFile: "\(root)/shop/web/tls.crt", atomically: true, encoding: .utf8)
    }
}

@Suite struct IdentityFilesTests {
    @Test func filesAreFoundOnceAndAgainWhenTheyChange() throws {
        let scene = try FilesScene()
        var door = IdentityFilesDoor(directory: scene.root)
        guard case .missing(let reason) = door.look(at: Book.web, again: false) else {
            Issue.record("nothing is there yet")
            return
        }
        #expect(reason.contains("do not exist"))
        for _ in 0..<2 {
            try scene.write()
            guard case .changed(let chain, let key, let notAfter) = door.look(at: Book.web, again: false) else {
                Issue.record("new files")
                return
            }
            #expect(lseek(chain, 0, SEEK_CUR) == 0 && lseek(key, 0, SEEK_CUR) == 0, "whoever gets them reads from the start")
            #expect(fcntl(key, F_GETFL) & O_ACCMODE == O_RDONLY)
            #expect(notAfter > Int64(time(nil)) + 86_000)
            close(chain)
            close(key)
            if case .unchanged = door.look(at: Book.web, again: false) {} else { Issue.record("nothing changed") }
        }
        #expect(door.roots([Book.web])?.contains("BEGIN CERTIFICATE") == true)
    }

    @Test func aForeignCertificateIsNotTaken() throws {
        let scene = try FilesScene()
        try scene.write(Book.cart)
        var door = IdentityFilesDoor(directory: scene.root)
        guard case .missing(let reason) = door.look(at: Book.web, again: false) else {
            Issue.record("it is another's")
            return
        }
        #expect(reason.contains("is a certificate for \(Book.cart)"))
    }

    /// Through the desk: inotify, the message with two descriptors, the bundle; then a renewal.
    @Test func renewedFilesReachNode() async throws {
        let scene = try FilesScene()
        try scene.write()
        let sent = Sent()
        let desk = try IdentityDesk(
            IdentityConfiguration(trustDomain: "cluster.local", dataDirectory: scene.directory.path, source: .files(directory: scene.root)), door: nil,
            logger: .init(label: "test") { _ in SwiftLogNoOpLogHandler() }) { sent.add($0) }
        let running = Task { await desk.run() }
        defer { running.cancel() }
        await desk.want([Book.web])
        let first = sent.take()
        #expect(first.kinds == [.trustBundle, .identityFiles])
        let number = try #require(first.last?.fileNumber)
        await desk.take(.identityState(IdentityState(identity: Book.web.description, number: number, state: .active, notAfter: UInt64(time(nil)) + 1_000)))
        #expect(await desk.status.workloads.map(\.state) == ["active"])

        try scene.write()
        var later: [ControlMessage] = []
        let deadline = ContinuousClock.now + .seconds(300)
        while later.isEmpty, ContinuousClock.now < deadline {
            later += sent.take()
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(later.kinds.contains(.identityFiles))
        #expect(try #require(later.compactMap(\.fileNumber).first) > number)
    }
}

extension ControlMessage {
    /// The number of an IdentityFiles message, whose descriptors are closed already.
    fileprivate var fileNumber: UInt64? {
        guard kind == .identityFiles else { return nil }
        var message = self
        message.descriptors = [-1, -1]
        return try? IdentityFiles(message).number
    }
}

/// A key in the proxy's place, and node's.
@Suite struct IdentityDeskTests {
    @Test func theEmbeddedAuthorityCertifiesWhatTheProxyMade() async throws {
        let directory = TemporaryDirectory()
        let time = Mutex(1_800_000_000.0)
        let now: @Sendable () -> Double = { time.withLock { $0 } }
        let settings = CertificateAuthority.Settings(trustDomain: "cluster.local", workloadLifetimeSeconds: 100, nodeLifetimeSeconds: 100)
        let sent = Sent()
        let desk = try IdentityDesk(
            IdentityConfiguration(trustDomain: "cluster.local", dataDirectory: directory.path, source: .embedded(certificateLifetimeSeconds: 100)),
            door: EmbeddedDoor(directory: directory.path, settings: settings, now: now), logger: .init(label: "test") { _ in SwiftLogNoOpLogHandler() }, now: now, dice: { 0.5 }) { sent.add($0) }
        let running = Task { await desk.run() }
        defer { running.cancel() }
        await desk.want([Book.web])
        let wanted = try await IdentityWanted(sent.wait(for: .identityWanted))
        await desk.take(.identityRequested(IdentityRequested(identity: wanted.identity, number: wanted.number, request: try NodeKeyPair().request(for: Book.web), key: nil)))
        let issued = try await IdentityIssued(sent.wait(for: .identityIssued))
        #expect(issued.number == wanted.number && issued.notAfter == UInt64(now()) + 100)
        #expect(try CertificateAuthority.bundle(directory: "\(directory.path)/ca").vouches(forChain: String(decoding: issued.chain, as: UTF8.self)))
        await desk.take(.identityState(IdentityState(identity: wanted.identity, number: wanted.number, state: .active, notAfter: issued.notAfter)))
        #expect(await desk.status.workloads.map(\.state) == ["active"])

        time.withLock { $0 += 51 }
        let again = try await IdentityWanted(sent.wait(for: .identityWanted))
        #expect(again.number > wanted.number)
        // A request for somebody else's name is refused, and said.
        await desk.take(.identityRequested(IdentityRequested(identity: again.identity, number: again.number, request: try NodeKeyPair().request(for: Book.cart), key: nil)))
        let deadline = ContinuousClock.now + .seconds(300)
        while await desk.status.workloads[0].reason.isEmpty, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(5)) }
        #expect(await desk.status.workloads[0].reason == "the authority refused: other_identity")
        #expect(await desk.status.workloads[0].state == "active")
    }
}

@Suite struct BrokenDoorTests {
    /// The agent is there all the same, says what is wrong, and goes on by itself when it is put right.
    @Test func aDataDirectoryThatCannotBeUsedIsAReasonToTell() async throws {
        let directory = TemporaryDirectory()
        let blocked = "\(directory.path)/agent-data"
        try "a file where a directory should be".write(toFile: blocked, atomically: true, encoding: .utf8)
        let sent = Sent()
        let desk = try IdentityDesk(
            IdentityConfiguration(trustDomain: "cluster.local", dataDirectory: directory.path, source: .embedded(certificateLifetimeSeconds: 100)),
            door: EmbeddedDoor(directory: blocked, settings: .init(trustDomain: "cluster.local"), now: IdentityDesk.wallClock),
            logger: .init(label: "test") { _ in SwiftLogNoOpLogHandler() }) { sent.add($0) }
        let running = Task { await desk.run() }
        defer { running.cancel() }
        let deadline = ContinuousClock.now + .seconds(300)
        while await !desk.status.reason.contains(blocked), ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(5)) }
        #expect(await desk.status.isReachable == false)
        #expect(await desk.status.reason.contains(blocked))
        unlink(blocked)
        while await !desk.status.isReachable, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(5)) }
        #expect(await desk.status.isReachable)
        #expect(await desk.status.bundleGeneration == 1)
    }
}

extension Sent {
    private struct NothingCame: Error { let kind: ControlKind }

    /// The next message of this kind; what came before it is dropped.
    func wait(for kind: ControlKind) async throws -> ControlMessage {
        // Long: beside the fuzzers, which keep every thread of the pool busy for seconds, a task waits its turn.
        let deadline = ContinuousClock.now + .seconds(300)
        while ContinuousClock.now < deadline {
            if let found = take().first(where: { $0.kind == kind }) { return found }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw NothingCame(kind: kind)
    }
}
