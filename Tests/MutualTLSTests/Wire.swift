import Glibc
@testable import MutualTLS

let cartURI = "spiffe://cluster.local/ns/shop/sa/cart"
let frontURI = "spiffe://cluster.local/ns/shop/sa/front"

extension String {
    /// Its bytes in memory of their own, which the caller frees.
    var copied: UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: utf8.count, alignment: 1)
        memory.copyBytes(from: utf8)
        return memory
    }
}

extension UnsafeRawBufferPointer {
    var string: String { String(decoding: self, as: UTF8.self) }
}

/// What two workers have, one on each side.
final class Spaces {
    let client: TLSWorkspace, server: TLSWorkspace

    init() throws {
        _ = try library.get()
        client = TLSWorkspace()
        server = TLSWorkspace()
    }
}

/// Two sessions over a socket pair, moved in turns as two event loops would.
struct Wire: ~Copyable {
    var client: TLSSession
    var server: TLSSession
    let clientEnd: Int32
    let serverEnd: Int32

    struct NoMemory: Error {}

    static func make(
        client clientCredentials: TLSCredentials, server serverCredentials: TLSCredentials, expecting: (String, String) = ("shop", "cart"),
        ticket: borrowing TLSTicket? = nil, in spaces: Spaces
    ) throws -> Wire {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends) == 0 else { throw NoMemory() }
        guard let server = TLSSession(server: serverCredentials, descriptor: ends[1], workspace: spaces.server) else { throw NoMemory() }
        let namespace = expecting.0.copied, account = expecting.1.copied
        defer {
            namespace.deallocate()
            account.deallocate()
        }
        let client = TLSSession(
            client: clientCredentials, descriptor: ends[0], expecting: UnsafeRawBufferPointer(namespace), serviceAccount: UnsafeRawBufferPointer(account),
            ticket: ticket, workspace: spaces.client)
        guard let client else { throw NoMemory() }
        return Wire(client: client, server: server, clientEnd: ends[0], serverEnd: ends[1])
    }

    deinit {
        close(clientEnd)
        close(serverEnd)
    }

    /// Both sides' last steps; the client's is what it learns, also after its own part was done.
    mutating func shakeHands(now: Int64 = testNow) -> (client: TLSStep, server: TLSStep) {
        var clientStep = TLSStep.wantsRead, serverStep = TLSStep.wantsRead
        for _ in 0..<10 {
            if clientStep == .wantsRead || clientStep == .wantsWrite { clientStep = client.handshake(now: now) }
            if clientStep == .done { client.flush() }
            if serverStep == .wantsRead || serverStep == .wantsWrite { serverStep = server.handshake(now: now) }
            if serverStep == .done { server.flush() }
        }
        // What the server has sent after its end of the handshake: a ticket, or why it has refused.
        if clientStep == .done {
            var none: UInt8 = 0
            if case .failed(let fault) = client.receive(into: &none, count: 1) { clientStep = .failed(fault) }
        }
        return (clientStep, serverStep)
    }
}
