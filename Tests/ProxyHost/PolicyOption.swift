import MeshModel

/// `--policy FIELD=NUMBER[:NUMBER…]`: what a MeshPolicy would say of every service of the host.
enum PolicyOption {
    static func read(_ text: String, into policy: inout TrafficPolicy) throws(HostOptions.UsageFault) {
        let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
        let words = parts.count == 2 ? parts[1].split(separator: ":", omittingEmptySubsequences: false) : []
        let numbers = words.compactMap { UInt32($0) }
        guard !numbers.isEmpty, numbers.count == words.count else { throw HostOptions.UsageFault(message: "--policy: '\(text)' is not FIELD=NUMBER[:NUMBER…]") }
        func number(_ place: Int) -> UInt32 { place < numbers.count ? numbers[place] : 0 }
        switch parts[0] {
        // Attempts after the first, pause in milliseconds, statuses; below 100 they are gRPC's.
        case "retry":
            let statuses = numbers.dropFirst(2)
            policy.retry = RetryRule(
                statuses: statuses.filter { $0 >= 100 }.map { UInt16(clamping: $0) }, grpcStatuses: statuses.filter { $0 < 100 }.map { UInt8(clamping: $0) },
                attempts: UInt8(clamping: number(0)), backoffMilliseconds: number(1))
        // Percent, least per second.
        case "budget":
            policy.retryBudgetPercent = UInt8(clamping: number(0))
            policy.retryBudgetPerSecondMin = UInt16(clamping: number(1))
        case "requests": policy.requestsInFlightMax = number(0)
        case "pending": policy.pendingRequestsMax = number(0)
        case "connections": policy.connectionsMax = number(0)
        // Requests, milliseconds, burst.
        case "rate": policy.rateLimits.append(RateLimit(requests: number(0), intervalMilliseconds: number(1), burst: number(2)))
        // The same for each value of the header x-user.
        case "user-rate":
            policy.rateLimits.append(RateLimit(requests: number(0), intervalMilliseconds: number(1), burst: number(2), key: .header, keyName: "x-user"))
        // Milliseconds, of a million.
        case "delay": policy.faults.append(FaultInjection(delayMilliseconds: number(0), delayPerMillion: number(1)))
        // Status, of a million; where x-break says yes.
        case "abort":
            policy.faults.append(
                FaultInjection(
                    abortStatus: UInt16(clamping: number(0)), abortPerMillion: number(1), match: TrafficMatch(headers: [.init(name: "x-break", value: "yes")])))
        // Status of a reply with the body "later".
        case "fallback": policy.fallback = .reply(status: UInt16(clamping: number(0)), contentType: "text/plain", body: "later")
        default: throw HostOptions.UsageFault(message: "--policy: no field '\(parts[0])'")
        }
    }
}
