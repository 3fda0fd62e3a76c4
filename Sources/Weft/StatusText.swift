import Agent
import Discovery
import Foundation

/// The status for people: what is wrong first, then tables.
enum StatusText {
    static func render(_ status: Status) -> String {
        var text = "node \(status.nodeName): \(status.isReady ? "ready" : "NOT READY")\n"
        for reason in status.notReady { text += "  - \(reason)\n" }

        let generations = status.generations
        text += "\nsnapshot: agent published \(generations.published), node accepted \(generations.accepted), proxy applied \(generations.applied)"
        text += generations.agree ? " - all agree" : " - NOT IN AGREEMENT"
        text += " (\(age(generations.ageSeconds)) old)\n"
        if let refusal = generations.refusal { text += "  refused: \(refusal)\n" }

        text += section("processes", ["NAME", "PID", "STATE", "INCARNATION", "RESTARTS", "HEARTBEAT"], status.processes.map { process in
            [
                process.name, "\(process.pid)", process.state, process.incarnation == 0 ? "-" : "\(process.incarnation)", "\(process.restarts)",
                process.heartbeatAgeMilliseconds.map { "\($0) ms ago" } ?? "-",
            ]
        })
        text += section("pods", ["POD", "STATE", "MTLS", "ADDRESSES", "LISTENERS", "OLDER", "COOKIE", "WHY"], status.pods.map { pod in
            [
                "\(pod.namespace)/\(pod.name)", pod.state, pod.isStrict.map { $0 ? "strict" : "permissive" } ?? "-", list(pod.addresses), "\(pod.listeners)", "\(pod.olderConnections)",
                pod.namespaceCookie == 0 ? "-" : "\(pod.namespaceCookie)", pod.reason.isEmpty ? "-" : pod.reason,
            ]
        })
        if let identities = status.identities { text += self.identities(identities) }
        if let policies = status.policies, !policies.isEmpty {
            text += section("policies", ["POLICY", "STRENGTH", "ACTION", "MODE", "RULES", "PODS HERE"], policies.map { policy in
                ["\(policy.namespace)/\(policy.name)", policy.strength, policy.action.isEmpty ? "-" : policy.action, policy.mode, "\(policy.rules)", "\(policy.podsHere)"]
            })
        }
        if let routes = status.routes, !routes.isEmpty { text += self.routes(routes) }
        text += section("services", ["SERVICE", "ADDRESSES", "PORT", "PROTOCOL", "READY"], status.services.flatMap { service in
            let name = "\(service.namespace)/\(service.name)"
            let addresses = service.isHeadless ? "headless" : list(service.addresses)
            guard !service.ports.isEmpty else { return [[name, addresses, "-", "-", "-"]] }
            return service.ports.map { port in
                [
                    name, addresses, port.name.isEmpty ? "\(port.port)" : "\(port.port) \(port.name)", port.protocolHint,
                    "\(port.endpointsReady)/\(port.endpointsTotal)",
                ]
            }
        })
        text += section("protocols", ["SERVICE", "PORT", "DECLARED", "SPOKEN", "WHY", "CONNECTIONS", "LAST"], status.protocols.map { decision in
            [
                decision.service.isEmpty ? "unknown" : "\(decision.namespace)/\(decision.service)", "\(decision.port)",
                decision.declared.isEmpty ? "-" : decision.declared, decision.spoken, decision.reason, "\(decision.connections)",
                decision.ageSeconds.map { "\(age($0)) ago" } ?? "-",
            ]
        })
        let kubelet = status.kubeletCgroup
        text += "\nkubelet: \(kubelet.isEmpty ? "no cgroup of it is known; strict pods refuse its probes (weft node --kubelet-cgroup)" : kubelet)\n"
        // Some fifty verdicts exist; those that never fell only hide the others.
        text += section("capture verdicts", ["VERDICT", "COUNT"], status.verdicts.filter { $0.count > 0 }.map { [$0.name, "\($0.count)"] })

        let configuration = status.configuration
        text += "\nconfiguration: \(configuration.directory), changed \(age(configuration.ageSeconds)) ago, "
        text += configuration.faults.isEmpty ? "no faults\n" : "\(configuration.faults.count) faults\n"
        for fault in configuration.faults {
            text += "  \(fault)\n"
            switch fault.consequence {
            case .previousKept: text += "    (the last good version stays in force)\n"
            case .leftOut: text += "    (left out)\n"
            case .restInForce: text += "    (the rest of the object is in force)\n"
            }
        }
        for note in configuration.notes { text += "  note: \(note)\n" }
        return text
    }

    private static func identities(_ identities: Status.Identities) -> String {
        var text = section("identities", ["IDENTITY", "STATE", "UNTIL", "RENEWED IN", "WHY"], identities.workloads.map { workload in
            [
                workload.identity, workload.state, workload.notAfter.map(time) ?? "-", workload.renewalSeconds.map(age) ?? "-",
                workload.reason.isEmpty ? "-" : workload.reason + (workload.failures > 1 ? " (\(workload.failures) times)" : ""),
            ]
        })
        let since = identities.sinceSeconds.map { " for \(age($0))" } ?? ""
        text += "  signed by: \(identities.source), \(identities.isReachable ? "reachable" : "NOT REACHABLE")\(since)"
        text += identities.reason.isEmpty ? "\n" : ": \(identities.reason)\n"
        text += "  trust bundle: generation \(identities.bundleGeneration), \(identities.roots.count) roots of \(identities.trustDomain)\n"
        return text
    }

    private static func routes(_ routes: [RouteStatus]) -> String {
        section("routes", ["ROUTE", "PARENT", "ACCEPTED", "REFS", "WHY"], routes.flatMap { route in
            route.parents.map { parent in
                func word(_ type: RouteCondition.Kind) -> String { parent.conditions.first { $0.type == type }?.status.rawValue ?? "-" }
                let trouble = parent.conditions.filter(\.isTrouble).map { "\($0.reason.rawValue): \($0.message)" }
                return [
                    "\(route.kind) \(route.namespace)/\(route.name)", "\(parent.parentRef)", word(.accepted), word(.resolvedRefs),
                    trouble.isEmpty ? "-" : trouble.joined(separator: "; "),
                ]
            }
        })
    }

    private static func time(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
    }

    private static func list(_ items: [String]) -> String { items.isEmpty ? "-" : items.joined(separator: ",") }

    private static func age(_ seconds: Double) -> String {
        switch seconds {
        case ..<120: "\(Int(seconds)) s"
        case ..<7200: "\(Int(seconds / 60)) min"
        default: "\(Int(seconds / 3600)) h"
        }
    }

    /// A table whose columns are as wide as their widest cell.
    static func section(_ title: String, _ head: [String], _ rows: [[String]]) -> String {
        guard !rows.isEmpty else { return "\n\(title): none\n" }
        let lines = [head] + rows
        let widths = head.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        let body = lines.map { line in
            let cells = line.enumerated().map { column, cell in
                column == head.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
            }
            return "  " + cells.joined(separator: "  ") + "\n"
        }
        return "\n\(title):\n" + body.joined()
    }
}
