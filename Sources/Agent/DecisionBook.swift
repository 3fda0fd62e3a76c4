import Telemetry

/// What the proxy took connections for, as its counters tell it: when each decision last fell, and which of them is news.
struct DecisionBook {
    /// One decision of one port.
    struct Key: Hashable {
        var namespace: String
        var service: String
        var port: UInt16
        var spoken: String
        var reason: String

        init(_ decision: ProtocolDecision) {
            (namespace, service, port) = (decision.serviceNamespace, decision.serviceName, decision.port)
            (spoken, reason) = (decision.spoken, decision.reason)
        }

        /// `namespace/service:port`.
        var servicePort: String { "\(namespace)/\(service):\(port)" }
    }

    struct Entry {
        var connections: UInt64
        /// When the count was last seen to have grown; nil for what was there before this agent.
        var lastFell: ContinuousClock.Instant?
    }

    private(set) var entries: [Key: Entry] = [:]

    /// Takes what an earlier agent has told about already.
    init(before decisions: [ProtocolDecision] = []) {
        for decision in decisions { entries[Key(decision)] = Entry(connections: decision.connections) }
    }

    /// Takes a reading. What it returns is news: a decision that fell for the first time in `AgentLimits.decisionNewsSeconds`. One that
    /// falls again and again, or two that take turns, are told once.
    mutating func take(_ decisions: [ProtocolDecision], at now: ContinuousClock.Instant) -> [Key] {
        var news: [Key] = []
        var kept: [Key: Entry] = [:]
        for decision in decisions {
            let key = Key(decision)
            var entry = entries[key] ?? Entry(connections: 0)
            // A count that fell is one that started anew: its memory was found damaged.
            if decision.connections != entry.connections {
                let silence = entry.lastFell.map { now - $0 } ?? .seconds(AgentLimits.decisionNewsSeconds)
                if silence >= .seconds(AgentLimits.decisionNewsSeconds) { news.append(key) }
                entry.lastFell = now
            }
            entry.connections = decision.connections
            kept[key] = entry
        }
        entries = kept
        return news.sorted { ($0.namespace, $0.service, $0.port, $0.spoken, $0.reason) < ($1.namespace, $1.service, $1.port, $1.spoken, $1.reason) }
    }
}
