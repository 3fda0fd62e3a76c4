import ArgumentParser
import Discovery

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Work with the configuration.", subcommands: [CheckCommand.self])
}

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check Kubernetes manifests as Weft would read them.",
        discussion: """
            Takes all files and directories together, as one configuration. Prints one line per fault, file:line: object: field: reason; remedy, \
            then the conditions of each route at each of its parents; exits with 1 if there is any fault.
            """)

    @Argument(help: ArgumentHelp("Manifests, or directories of them.", valueName: "files"))
    var paths: [String]

    @Flag(help: "Also say what Weft leaves alone on purpose.")
    var notes = false

    func run() throws {
        let report = ManifestCheck.check(paths: paths)
        for fault in report.faults { print(fault) }
        if notes { for note in report.notes { print(note) } }
        for route in report.routes where !route.parents.isEmpty { print(route) }
        if !report.faults.isEmpty { throw ExitCode.failure }
        print("\(report.objectCount) objects, no faults")
    }
}
