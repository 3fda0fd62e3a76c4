import ControlChannel

/// A pod the agent spoke of.
///
/// absent ──open, inspect──▶ settingUp ──▶ enrolled ──unenrolled──▶ leaving ──grace over──▶ tearingDown ──▶ absent
///    ▲──────refused────────────┘             ▲────wished again───────┘
final class Pod {
    let uid: String
    /// What the agent wants; nil: that it goes.
    var wish: PodEnrol?
    /// Incarnation of the agent that said so last.
    var wishedBy: UInt32
    var stage = Stage.absent(nil, retry: 0)
    /// Logged already: a pod that waits is tried every second, and says so once.
    var lastRefusal: PodRefusal?
    /// What the running agent was told last.
    var reported: PodState?
    /// Snapshots that were complete when it was first wished, and when that was: the next one tells of it.
    let snapshotsBefore: UInt64, wishedAt: UInt64

    enum Stage {
        /// Nothing of it is in the kernel. With a refusal, and when to look again (0: only at a new wish).
        case absent(PodRefusal?, retry: UInt64)
        /// The namespace thread prepares its namespace.
        case settingUp
        /// Captured.
        case enrolled(Enrolment)
        /// Taken out of capture: new connections go direct, the running ones may finish until then.
        case leaving(Enrolment, until: UInt64)
        /// The namespace thread puts its namespace back.
        case tearingDown
    }

    init(uid: String, wish: PodEnrol, wishedBy: UInt32, snapshotsBefore: UInt64, now: UInt64) {
        self.uid = uid; self.wish = wish; self.wishedBy = wishedBy
        self.snapshotsBefore = snapshotsBefore; wishedAt = now
    }

    /// What the agent is told.
    var report: PodState {
        switch stage {
        case .absent(nil, _), .settingUp: PodState(uid: uid, state: .pending)
        case .absent(let refusal?, _): PodState(uid: uid, state: refusal.mayPass ? .pending : .refused, reason: refusal.reason)
        case .enrolled(let enrolment):
            PodState(
                uid: uid, state: .enrolled, pod: enrolment.number, namespaceCookie: enrolment.before.namespaceCookie,
                listeners: UInt8(enrolment.listeners.all.count), olderConnections: enrolment.olderConnections)
        case .leaving(let enrolment, _):
            PodState(
                uid: uid, state: .pending, pod: enrolment.number, namespaceCookie: enrolment.before.namespaceCookie,
                listeners: UInt8(enrolment.listeners.all.count), reason: "leaving: connections that run may finish")
        case .tearingDown: PodState(uid: uid, state: .pending, reason: "leaving")
        }
    }

    /// The enrolment while its listeners exist.
    var enrolment: Enrolment? {
        switch stage {
        case .enrolled(let enrolment), .leaving(let enrolment, _): enrolment
        case .absent, .settingUp, .tearingDown: nil
        }
    }
}

/// What exists in the kernel for one pod.
struct Enrolment {
    /// Number of the pod towards the proxy; never used twice in node's life.
    let number: UInt32
    let namespace: NamespaceFile
    let path: String
    let before: PodNetworkBefore
    let listeners: PodListeners
    let olderConnections: UInt32
    /// The wish that is in force.
    var applied: PodEnrol
    /// Stock sockets handed out in the current second: see `Limits.stockSocketsPerPodAndSecondMax`.
    let stock = StockBudget(perSecond: Limits.stockSocketsPerPodAndSecondMax)

    var stateEntry: StateFile.Entry { StateFile.Entry(namespacePath: path, identity: namespace.identity, before: before) }
}

/// Counts what somebody got in the current second. Time is an argument, in milliseconds.
final class StockBudget {
    private let perSecond: UInt32
    private var second: UInt64 = 0
    private var given: UInt32 = 0

    init(perSecond: UInt32) { self.perSecond = perSecond }

    /// How many of `wanted` may be given now.
    func take(_ wanted: UInt32, now: UInt64) -> UInt32 {
        if now / 1_000 != second { second = now / 1_000; given = 0 }
        let granted = min(wanted, perSecond - given)
        given += granted
        return granted
    }
}
