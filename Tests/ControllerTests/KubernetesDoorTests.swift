@testable import Agent
@testable import Controller
import Foundation
import Hummingbird
import Identity
import NIOCore
import Synchronization
import Testing

private final class Heard: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}

/// A small API server: reviews one token, knows one pod. Answers as Kubernetes does.
private func withAPIServer(review: String, pod: String?, _ body: (KubernetesAddress, Heard) async throws -> Void) async throws {
    let place = Place()
    let heard = Heard()
    let router = Router()
    router.post("apis/authentication.k8s.io/v1/tokenreviews") { request, _ in
        let body = try await request.body.collect(upTo: 1 << 20)
        heard.add("\(request.headers[.authorization] ?? "") \(String(buffer: body))")
        return Response(status: .created, headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(string: review)))
    }
    router.get("api/v1/namespaces/weft-system/pods/:name") { _, context in
        heard.add(context.parameters.get("name") ?? "")
        guard let pod else { return Response(status: .notFound) }
        return Response(status: .ok, headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(string: pod)))
    }
    let (ports, up) = AsyncStream.makeStream(of: Int.self)
    let application = Application(
        router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)), onServerRunning: { up.yield($0.localAddress?.port ?? 0) }, logger: quiet)
    let token = try place.write("own-token", "controllers-own\n")
    try await during({ try await application.run() }) {
        let port = try #require(await first(of: ports))
        try await body(KubernetesAddress(url: "http://127.0.0.1:\(port)", tokenFile: token, rootsFile: nil, agentAccount: "weft-system/weft-node"), heard)
    }
}

private func review(
    authenticated: Bool = true, audience: String = "weft", user: String = "system:serviceaccount:weft-system:weft-node", pod: String = "weft-node-x7"
) -> String {
    """
    {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "x"},
     "status": {"authenticated": \(authenticated), "audiences": ["\(audience)"], "user": {"username": "\(user)", "uid": "1", "groups": ["system:serviceaccounts"],
      "extra": {"authentication.kubernetes.io/pod-name": ["\(pod)"], "authentication.kubernetes.io/pod-uid": ["u-1"]}}}}
    """
}
private func pod(node: String = "node-a", uid: String = "u-1") -> String {
    #"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "weft-node-x7", "uid": "\#(uid)"}, "spec": {"nodeName": "\#(node)", "containers": []}}"#
}

@Suite struct KubernetesDoorTests {
    private func outcome(review text: String = review(), pod object: String? = pod(), node: String = "node-a", revokedAt: Int64? = nil) async throws -> (refusal: Refusal?, heard: [String]) {
        var refusal: Refusal?
        var heard: [String] = []
        try await withAPIServer(review: text, pod: object) { address, lines in
            let door = try KubernetesDoor(address)
            do throws(Refusal) {
                try await door.check(ControllerWire.JoinRequest(node: node, kubernetesToken: "nodes-token", request: ""), revokedAt: revokedAt, at: 0)
            } catch {
                refusal = error
            }
            await door.close()
            heard = lines.all
        }
        return (refusal, heard)
    }

    @Test func whoHasARevokedNodeHasItsTokensToo() async throws {
        let (refusal, heard) = try await outcome(revokedAt: 1)
        #expect(refusal == .nodeRevoked && heard.isEmpty)
    }

    @Test func aTokenOfThePodOnThatNodeIsTaken() async throws {
        let (refusal, heard) = try await outcome()
        #expect(refusal == nil)
        try #require(heard.count == 2)
        #expect(heard[0].hasPrefix("Bearer controllers-own ") && heard[0].contains(#""nodes-token""#) && heard[0].contains(#""audiences":["weft"]"#))
        #expect(heard[1] == "weft-node-x7")
    }

    @Test func everythingElseIsRefused() async throws {
        #expect(try await outcome(review: review(authenticated: false)).refusal == .kubernetesTokenRefused)
        #expect(try await outcome(review: review(audience: "https://kubernetes.default.svc")).refusal == .kubernetesTokenRefused)
        #expect(try await outcome(review: review(user: "system:serviceaccount:shop:web")).refusal == .kubernetesTokenRefused)
        #expect(try await outcome(review: review(pod: "../../secrets/x")).refusal == .kubernetesTokenRefused)
        #expect(try await outcome(review: "{}").refusal == .kubernetesTokenRefused)
        #expect(try await outcome(review: "no json").refusal == .kubernetesUnreachable)
        #expect(try await outcome(pod: pod(node: "node-b")).refusal == .podNotOnNode)
        #expect(try await outcome(pod: pod(uid: "u-2")).refusal == .podNotOnNode, "the pod of that name is another one by now")
        #expect(try await outcome(pod: nil).refusal == .podNotOnNode)
        #expect(try await outcome(node: "node-b").refusal == .podNotOnNode)
    }

    /// From the token file to a certificate, over the controller's HTTPS.
    @Test func aNodeJoinsByItsProjectedToken() async throws {
        try await withAPIServer(review: review(), pod: pod()) { address, _ in
            try await withController(kubernetes: address) { place, port in
                mkdir("\(place.path)/node-a", 0o700)
                let controller = ControllerAddress(
                    url: "https://127.0.0.1:\(port)", kubernetesTokenFile: try place.write("projected", "nodes-token"),
                    rootsFile: try place.write("roots.pem", try place.bundle().roots))
                let door = try ControllerDoor(controller, nodeName: "node-a", trustDomain: "cluster.local", directory: "\(place.path)/node-a", now: wallClock)
                #expect(await door.bundleFault() == nil)
                #expect(place.audit().contains { $0.event == .nodeJoined && $0.asker == "node-a" })
                await door.close()
            }
        }
    }
}
