// Access policy as the snapshot carries it: per workload of this node the rules that select it, in the order in which they are asked.
// Who may write which rule, and what its words mean, was decided by whoever made these values.

/// The rules in force at one workload.
public struct WorkloadAccess: Sendable, Equatable {
    /// The workload's `uid`.
    public var uid: String
    public var rules: [AccessRule]

    /// Puts the rules into the order of their steps; within a step they keep theirs.
    public init(uid: String, rules: [AccessRule]) {
        self.uid = uid
        self.rules = AccessStep.allCases.flatMap { step in rules.filter { $0.step == step } }
    }
}

/// When a rule is asked, and what it says when it matches. Rules are asked in this order.
///
/// *Mandatory* and *preset* rules come from mesh-wide policies (strength `mandatory` and `default`), the others from the workload's own
/// namespace. A *gate* stands behind the rules that allow: what none of them has let through ends there.
public enum AccessStep: UInt8, Sendable, CaseIterable {
    /// Denies: the identity was revoked.
    case revoked
    case mandatoryDeny
    /// Lets pass the mandatory gate and the mandatory last word; the namespace may still refuse.
    case mandatoryAllow
    case mandatoryGate
    case deny
    /// Allows.
    case allow
    case gate
    /// The namespace's word for what no rule matched: denied.
    case denyRest
    /// The namespace's word for what no rule matched: presets are not asked.
    case allowRest
    case presetDeny
    case presetAllow
    case presetGate
    case presetDenyRest
    /// Denies what no rule has allowed.
    case mandatoryDenyRest
}

/// One rule of one policy, or what follows from the policy as a whole.
public struct AccessRule: Sendable, Equatable {
    public var step: AccessStep
    /// Counted and told, but not acted on.
    public var isAudit: Bool
    /// `namespace/name` of the AccessPolicy.
    public var policy: String
    /// The field that says so: `spec.rules[0]`.
    public var field: String
    /// What must hold; no terms hold always.
    public var terms: [AccessTerm]

    public init(_ step: AccessStep, isAudit: Bool = false, policy: String, field: String, terms: [AccessTerm] = []) {
        self.step = step
        self.isAudit = isAudit
        self.policy = policy
        self.field = field
        self.terms = terms
    }
}

/// One comparison.
///
/// Terms of a rule form *parts* (who calls; which port; which request), all of which must hold. A part holds when one of its *alternatives*
/// does, an alternative when all of its *groups* do, a group when one of its terms does. Parts, alternatives and groups stand together, in order.
public struct AccessTerm: Sendable, Equatable {
    /// What is compared.
    public enum Subject: UInt8, Sendable, CaseIterable {
        /// The destination's port; where a policy selects a Service, only that Service's.
        case scopePort
        /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` of an authenticated caller.
        case identity
        case namespace
        /// `<namespace>/<service account>`.
        case serviceAccount
        /// Nothing is proven about the caller.
        case unauthenticated
        case anyCaller
        /// The destination's port.
        case port
        case method
        /// The path, percent-decoded, without its query.
        case path
        /// The host asked for, without its port; lower case.
        case host
        /// A field's value; `number` bytes of the text are its name in lower case.
        case header
        case anyRequest

        /// Subjects of one part have the same.
        @inlinable public var part: UInt8 {
            switch self {
            case .scopePort: 0
            case .identity, .namespace, .serviceAccount, .unauthenticated, .anyCaller: 1
            case .port: 2
            case .method, .path, .host, .header, .anyRequest: 3
            }
        }
    }

    /// How a text is compared.
    public enum Comparison: UInt8, Sendable, CaseIterable {
        case exact, prefix, suffix
        /// Present, whatever it is.
        case any
    }

    public var subject: Subject
    public var comparison: Comparison
    public var alternative: UInt16
    public var group: UInt16
    public var text: String
    /// A port, or with `header` the bytes of the name.
    public var number: UInt16

    public init(_ subject: Subject, _ comparison: Comparison = .exact, text: String = "", number: UInt16 = 0, alternative: UInt16 = 0, group: UInt16 = 0) {
        self.subject = subject
        self.comparison = comparison
        self.alternative = alternative
        self.group = group
        self.text = text
        self.number = number
    }
}
