import AsyncHTTPClient
import Glibc
import NIOCore

/// Asks the agent over its admin socket.
struct AdminClient {
    let socket: String

    /// The body of a page.
    func get(_ page: String) async throws -> [UInt8] { try await ask(page) { _ in } }

    /// Sends JSON, and answers with the reply's body.
    func post(_ page: String, _ body: some Sequence<UInt8> & Sendable) async throws -> [UInt8] {
        let bytes = ByteBuffer(bytes: body)
        return try await ask(page) { request in
            request.method = .POST
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(bytes)
        }
    }

    private func ask(_ page: String, _ change: (inout HTTPClientRequest) -> Void) async throws -> [UInt8] {
        guard let url = HTTPClient.socketURL(path: socket, page: page) else { throw Unreachable(socket: socket, reason: "it is no path of a socket") }
        var request = HTTPClientRequest(url: url)
        change(&request)
        do {
            let response = try await HTTPClient.shared.execute(request, timeout: .seconds(5))
            let body = Array(buffer: try await response.body.collect(upTo: 64 << 20))
            switch response.status {
            case .ok: return body
            case .badRequest: throw Refused(description: String(decoding: body, as: UTF8.self))
            default: throw Unreachable(socket: socket, reason: "it answered \(response.status.code)")
            }
        } catch let error as Unreachable {
            throw error
        } catch let error as Refused {
            throw error
        } catch {
            throw Unreachable(socket: socket, reason: Self.reason(error))
        }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
        return "\(error)"
    }

    /// The agent understood, and has no answer.
    struct Refused: Error, CustomStringConvertible {
        let description: String
    }

    private struct Unreachable: Error, CustomStringConvertible {
        let socket: String
        let reason: String
        var description: String {
            """
            no agent answers on \(socket): \(reason).
            Is weft node running on this machine? If it has another --state-dir, name its socket: --admin <state-dir>/agent/admin.sock
            """
        }
    }
}

extension HTTPClient {
    /// `http+unix` carries the socket's path where the host would be.
    fileprivate static func socketURL(path: String, page: String) -> String? {
        var host = ""
        for byte in path.utf8 {
            let isPlain = (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == UInt8(ascii: "-")
            host += isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
        return host.isEmpty ? nil : "http+unix://\(host)/\(page)"
    }
}
