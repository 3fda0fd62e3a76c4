@testable import Agent
import AsyncHTTPClient
@testable import Controller
import Foundation
import Glibc
import Identity
import Logging
import NIOCore
import NIOSSL
import Synchronization
import Testing

/// Goes away with its last user.
final class Place: Sendable {
    let path = "/tmp/weft-controller-\(UUID().uuidString.prefix(13))"
    init() {
        mkdir(path, 0o700)
        mkdir("\(path)/manifests", 0o755)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// A pod of a service account on a node.
    func pod(_ name: String, account: String, node: String) throws {
        try """
        apiVersion: v1
        kind: Pod
        metadata: {name: \(name), namespace: shop, labels: {weft.mesh/mode: enabled}}
        spec: {nodeName: \(node), serviceAccountName: \(account)}
        status: {podIPs: [{ip: 10.1.0.\(name.utf8.reduce(1) { ($0 &* 31 &+ Int($1)) % 250 })}]}
        """.write(toFile: "\(path)/manifests/\(name).yaml", atomically: true, encoding: .utf8)
    }

    func audit() -> [AuditLog.Entry] {
        ((try? String(contentsOfFile: "\(path)/data/ca/audit.log", encoding: .utf8)) ?? "").split(separator: "\n")
            .compactMap { try? JSONDecoder().decode(AuditLog.Entry.self, from: Data($0.utf8)) }
    }

    func write(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
        return "\(path)/\(name)"
    }
}

func identity(_ account: String, trustDomain: String = "cluster.local") -> SPIFFEIdentity {
    SPIFFEIdentity(trustDomain: trustDomain, namespace: "shop", serviceAccount: account)!
}
func node(_ name: String) -> SPIFFEIdentity { SPIFFEIdentity(trustDomain: "cluster.local", node: name)! }
let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
let wallClock: @Sendable () -> Double = { Date().timeIntervalSince1970 }

/// A controller that listens on loopback while `body` runs, with web on node-a and cart on node-b.
func withController(
    kubernetes: KubernetesAddress? = nil, nodeLifetime: Int64 = 86_400, _ body: (Place, Int) async throws -> Void
) async throws {
    let place = Place()
    try place.pod("web-1", account: "web", node: "node-a")
    try place.pod("cart-1", account: "cart", node: "node-b")
    let configuration = ControllerConfiguration(
        manifests: "\(place.path)/manifests", dataDirectory: "\(place.path)/data", listen: ("127.0.0.1", 0), metrics: ("127.0.0.1", 0),
        authority: .init(trustDomain: "cluster.local", nodeLifetimeSeconds: nodeLifetime), kubernetes: kubernetes)
    let (ports, up) = AsyncStream.makeStream(of: Int.self)
    try await during({ try await Controller.run(configuration, logger: quiet) { up.yield($0) } }) {
        try await body(place, try #require(await first(of: ports)))
    }
}

/// Runs a service while `body` runs, and ends it then.
func during(_ service: @escaping @Sendable () async throws -> Void, _ body: () async throws -> Void) async throws {
    try await withThrowingTaskGroup { group in
        group.addTask { try await service() }
        defer { group.cancelAll() }
        try await body()
        group.cancelAll()
        while let result = await group.nextResult() { _ = result }
    }
}

func first(of ports: AsyncStream<Int>) async -> Int? {
    for await port in ports { return port }
    return nil
}

extension Place {
    func token(_ node: String, lifetime: Int64 = 60, at now: Int64? = nil) throws -> String {
        try ControllerData("\(path)/data").makeToken(node: node, lifetimeSeconds: lifetime, at: now ?? Int64(wallClock()))
    }

    func bundle() throws -> Identity.TrustBundle { try CertificateAuthority.bundle(directory: "\(path)/data/ca") }

    /// An agent's door, with a token in its file.
    func door(_ port: Int, node: String, token: String? = nil) throws -> ControllerDoor {
        let file = try token.map { try write("token-\(node)", $0 + "\n") }
        mkdir("\(path)/\(node)", 0o700)
        return try ControllerDoor(
            ControllerAddress(url: "https://127.0.0.1:\(port)", joinTokenFile: file), nodeName: node, trustDomain: "cluster.local", directory: "\(path)/\(node)", now: wallClock)
    }

    /// A question as anybody may put it: status and answer.
    func ask(_ port: Int, _ method: String, _ path: String, _ body: [UInt8] = [], chain: String? = nil, key: String? = nil) async throws -> (status: UInt, body: Data) {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(try bundle().roots.utf8)))
        if let chain, let key {
            tls.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(chain.utf8)).map { .certificate($0) }
            tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem))
        }
        var configuration = HTTPClient.Configuration()
        let name = ControllerWire.serverName(trustDomain: "cluster.local")
        configuration.dnsOverride = [name: "127.0.0.1"]
        configuration.tlsConfiguration = tls
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        do {
            var request = HTTPClientRequest(url: "https://\(name):\(port)\(path)")
            request.method = .init(rawValue: method)
            if !body.isEmpty { request.body = .bytes(body) }
            let response = try await client.execute(request, timeout: .seconds(120))
            let data = Data(buffer: try await response.body.collect(upTo: 1 << 20))
            try await client.shutdown()
            return (response.status.code, data)
        } catch {
            try? await client.shutdown()
            throw error
        }
    }
}

func json(_ value: some Encodable) throws -> [UInt8] { Array(try JSONEncoder().encode(value)) }

/// The reason of a refusal in JSON.
func reason(_ answer: (status: UInt, body: Data)) -> Refusal? { (try? JSONDecoder().decode(ControllerWire.RefusalAnswer.self, from: answer.body))?.reason }

extension ControllerDoor {
    /// Why it does not get the roots; nil when it does.
    func bundleFault() async -> DoorFault? {
        do throws(DoorFault) {
            _ = try await bundle()
            return nil
        } catch {
            return error
        }
    }

    /// Why it does not get a certificate; nil when it does.
    func issueFault(_ identity: SPIFFEIdentity, request: [UInt8]) async -> DoorFault? {
        do throws(DoorFault) {
            _ = try await issue(identity, request: request)
            return nil
        } catch {
            return error
        }
    }
}

func eventually(_ condition: () async -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + .seconds(300)
    while ContinuousClock.now < deadline {
        if await condition() { return true }
        try? await Task.sleep(for: .milliseconds(20))
    }
    return false
}
