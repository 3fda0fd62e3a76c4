import Agent
import ArgumentParser

struct StatusCommand: ConcurrentCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what Weft does on this node: processes, pods, services, faults, and whether all agree.")

    @Option(help: ArgumentHelp("The agent's admin socket.", valueName: "path"))
    var admin = AgentConfiguration.adminSocket(stateDirectory: "/run/weft")

    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let bytes = try await AdminClient(socket: admin).get("status.json")
        if json {
            print(String(decoding: bytes, as: UTF8.self), terminator: "")
        } else {
            print(StatusText.render(try StatusJSON.decode(bytes)), terminator: "")
        }
    }
}
