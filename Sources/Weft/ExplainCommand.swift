import Agent
import ArgumentParser
import Foundation

struct ExplainCommand: ConcurrentCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say whether a call would be allowed, and which rule decides, without sending anything.",
        discussion: """
            Asks the agent of this node, which knows all policies. With METHOD and PATH an HTTP request, without them opaque bytes. \
            Exits with 1 when the call would be refused.

              weft explain --from shop/web --to shop/cart GET /items
              weft explain --from unauthenticated --to shop/db:5432
            """)

    @Option(help: ArgumentHelp("Who calls: a pod, an identity (spiffe://…), or “unauthenticated”.", valueName: "namespace/pod"))
    var from: String

    @Option(help: ArgumentHelp("Who is called: a Service, or a pod with a port.", valueName: "namespace/service[:port]"))
    var to: String

    @Argument(help: "The request's method.")
    var method: String?

    @Argument(help: "The request's path, as the client would write it.")
    var path: String?

    @Option(help: ArgumentHelp("A header of the request; may be repeated.", valueName: "name: value"))
    var header: [String] = []

    @Option(help: ArgumentHelp("The host that the request names (default: the Service's).", valueName: "name"))
    var host: String?

    @Option(help: ArgumentHelp("The agent's admin socket.", valueName: "path"))
    var admin = AgentConfiguration.adminSocket(stateDirectory: "/run/weft")

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        if method != nil, path == nil { throw ValidationError("a method needs a path: weft explain … GET /items") }
        if method == nil, !header.isEmpty || host != nil { throw ValidationError("headers and a host need a request: weft explain … GET /items") }
        if let path, !path.hasPrefix("/"), path != "*" { throw ValidationError("“\(path)” is no path; begin it with “/”") }
        for line in header where !line.contains(":") { throw ValidationError("“\(line)” is no header; write name: value") }
    }

    func run() async throws {
        let headers = header.map { line in
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            return AccessInquiry.Header(name: String(parts[0]), value: parts[1].trimmingCharacters(in: .whitespaces))
        }
        let inquiry = AccessInquiry(from: from, to: to, method: method, path: path, host: host, headers: headers)
        let bytes = try await AdminClient(socket: admin).post("explain.json", try JSONEncoder().encode(inquiry))
        let explanation = try JSONDecoder().decode(Explanation.self, from: Data(bytes))
        print(json ? String(decoding: bytes, as: UTF8.self) : ExplanationText.render(explanation), terminator: "")
        if !explanation.isAllowed { throw ExitCode.failure }
    }
}

/// The explanation for people: the decision first, then why.
enum ExplanationText {
    static func render(_ explanation: Explanation) -> String {
        let inquiry = explanation.inquiry
        let what = [inquiry.method, inquiry.path].compactMap { $0 }.joined(separator: " ")
        var text = "\(inquiry.from) -> \(inquiry.to) \(what.isEmpty ? "(opaque bytes)" : what)\n"
        text += "caller: \(explanation.caller) (\(explanation.callerReason))\n"
        for destination in explanation.destinations {
            text += "\n\(destination.isAllowed ? "ALLOWED" : "DENIED") at \(destination.pod.isEmpty ? destination.address : destination.pod) port \(destination.port)\n"
            text += "  \(destination.reason)\n"
            if let policy = destination.policy, let field = destination.field { text += "  AccessPolicy \(policy), \(field)\n" }
            if let audit = destination.audit { text += "  in audit, AccessPolicy \(audit.policy), \(audit.field) would refuse it\n" }
            text += StatusText.section("  rules asked", ["POLICY", "FIELD", "STEP", "HOLDS"], destination.rules.map { rule in
                [rule.policy, rule.field, rule.isAudit ? "\(rule.step) (audit)" : rule.step, rule.holds.map { $0 ? "yes" : "no" } ?? "cannot tell"]
            })
            text += StatusText.section("  policies considered", ["POLICY", "SELECTS", "STRENGTH", "ACTION", "WHY"], destination.policies.map { policy in
                [
                    policy.policy, policy.selects ? "yes" : "no", policy.strength, (policy.action.isEmpty ? "-" : policy.action) + (policy.isAudit ? " (audit)" : ""),
                    policy.reason,
                ]
            })
        }
        return text
    }
}
