import Agent
import ArgumentParser
import AsyncHTTPClient
import Glibc
import NIOCore

struct StatusCommand: ConcurrentCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what Weft does on this node: processes, pods, services, faults, and whether all agree.")

    @Option(help: ArgumentHelp("The agent's admin socket.", valueName: "path"))
    var admin = AgentConfiguration.adminSocket(stateDirectory: "/run/weft")

    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let bytes = try await fetch()
        if json {
            print(String(decoding: bytes, as: UTF8.self), terminator: "")
        } else {
            print(StatusText.render(try StatusJSON.decode(bytes)), terminator: "")
        }
    }

    private func fetch() async throws -> [UInt8] {
        guard let url = HTTPClient.socketURL(path: admin) else { throw ValidationError("“\(admin)” is no path of a socket") }
        do {
            let response = try await HTTPClient.shared.execute(HTTPClientRequest(url: url), timeout: .seconds(5))
            guard response.status == .ok else { throw Unreachable(socket: admin, reason: "it answered \(response.status.code)") }
            return Array(buffer: try await response.body.collect(upTo: 64 << 20))
        } catch let error as Unreachable {
            throw error
        } catch {
            throw Unreachable(socket: admin, reason: Self.reason(error))
        }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
        return "\(error)"
    }

    private struct Unreachable: Error, CustomStringConvertible {
        let socket: String
        let reason: String
        var description: String {
            """
            no agent answers on \(socket): \(reason).
            Is weft node running on this machine? If it has another --state-dir, name its socket: weft status --admin <state-dir>/agent/admin.sock
            """
        }
    }
}

extension HTTPClient {
    /// `http+unix` carries the socket's path where the host would be.
    fileprivate static func socketURL(path: String) -> String? {
        var host = ""
        for byte in path.utf8 {
            let isPlain = (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == UInt8(ascii: "-")
            host += isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
        return host.isEmpty ? nil : "http+unix://\(host)/status.json"
    }
}
