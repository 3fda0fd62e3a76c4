import MeshModel
import Routing

/// When a request is tried once more, as its route or its service's policy says. Numbers only, copied when the head is judged: the rule may
/// be another when the reply comes.
struct RetryPlan {
    /// Of replies.
    var statuses = StatusSet()
    /// Of calls that end with their head; a bit for each.
    var grpcStatuses: UInt32 = 0
    /// Before the second attempt; doubled before each further one.
    var backoffMilliseconds: UInt32 = 0
    /// After the first; 0: nobody asks for any.
    var attempts: UInt8 = 0
    /// Of the service that the request goes to.
    var budgetPercent: UInt8 = TrafficPolicy.default.retryBudgetPercent
    var budgetPerSecondMin: UInt16 = TrafficPolicy.default.retryBudgetPerSecondMin

    /// A route has said it, if only that there are none: then the service's policy is not asked.
    var isRoutes = false

    var isSet: Bool { attempts > 0 }

    init() {}

    init(_ rule: RetryView) {
        for place in 0..<rule.statusCount { statuses.insert(rule.status(at: place)) }
        grpcStatuses = rule.grpcStatuses
        backoffMilliseconds = rule.backoffMilliseconds
        attempts = rule.attempts
        isRoutes = true
    }

    init(_ policy: PolicyView) {
        statuses = policy.retryStatuses
        grpcStatuses = policy.retryGRPCStatuses
        backoffMilliseconds = policy.retryBackoffMilliseconds
        attempts = policy.retryAttempts
    }

    func wants(status: UInt16, grpcStatus: UInt8?) -> Bool {
        guard isSet else { return false }
        if let grpcStatus, grpcStatus < 32, grpcStatuses >> UInt32(grpcStatus) & 1 != 0 { return true }
        return statuses.contains(status)
    }
}

/// A request's place among those of its service, and the duty to leave it. Whatever becomes of an exchange, its end settles it.
struct ServiceLease: ~Copyable {
    let state: ServiceState
    private var isRetrying = false
    private var isPending = false
    private var holdsConnection = false

    /// Counts as in flight already.
    init(begun state: ServiceState) { self.state = state }

    /// Whether it may be tried again; a request that already is gives back its right to that first.
    mutating func beginRetry(_ plan: RetryPlan, now: UInt64) -> Bool {
        if isRetrying { state.finish(.retries) }
        isRetrying = state.beginRetry(percent: plan.budgetPercent, perSecondMin: plan.budgetPerSecondMin, now: now)
        return isRetrying
    }

    /// Waits for a connection. False: too many do.
    mutating func beginPending(max: UInt32) -> Bool {
        if isPending { return true }
        guard state.begin(.pending, max: max == 0 ? .max : max) else { return false }
        isPending = true
        return true
    }

    mutating func finishPending() {
        if isPending { state.finish(.pending) }
        isPending = false
    }

    /// The right to open a connection. False: there are as many as may be.
    mutating func beginConnection(max: UInt32) -> Bool {
        if holdsConnection { return true }
        holdsConnection = state.begin(.connections, max: max)
        return holdsConnection
    }

    /// The connection is there, and has the duty to give the right back when it closes. Nil: it needs none.
    mutating func passConnection() -> ServiceState? {
        guard holdsConnection else { return nil }
        holdsConnection = false
        return state
    }

    deinit {
        if holdsConnection { state.finish(.connections) }
        if isRetrying { state.finish(.retries) }
        if isPending { state.finish(.pending) }
        state.finish(.requests)
    }
}
