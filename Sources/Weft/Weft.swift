import ArgumentParser
import Dispatch

/// Where every `weft` command begins.
///
/// `weft node` enters pod namespaces and drops capabilities per thread, so nothing may have started a thread before it
/// runs: the command line is parsed here, synchronously, and only commands that ask for it get the concurrency runtime.
@main
enum Entry {
    static func main() {
        do {
            var command = try Weft.parseAsRoot()
            if let concurrent = command as? any ConcurrentCommand { start(concurrent) }
            try command.run()
        } catch {
            Weft.exit(withError: error)
        }
    }

    private static func start(_ command: some ConcurrentCommand) -> Never {
        Task {
            var command = command
            do {
                try await command.run()
                Weft.exit()
            } catch {
                Weft.exit(withError: error)
            }
        }
        dispatchMain()
    }
}

/// A command that runs on the concurrency runtime.
protocol ConcurrentCommand: AsyncParsableCommand, Sendable {}

struct Weft: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weft",
        abstract: "A service mesh for the node: BPF captures the pods' connections, one shared proxy carries them.",
        discussion: """
            Start with `make demo`, or `weft node --help`. The configuration is Kubernetes YAML; `weft config check` finds what is \
            wrong with it, `weft status` shows what is in force, `weft explain` who may call what.
            """,
        subcommands: [NodeCommand.self, AgentCommand.self, ControllerCommand.self, StatusCommand.self, ExplainCommand.self, ConfigCommand.self])
}
