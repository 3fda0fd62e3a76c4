import MeshModel

/// Why a call is refused. Which rule said so stands in the log; the caller is not told.
public enum AccessFault: Sendable {
    /// A rule denies it.
    case rule
    /// Calls must be allowed here, and no rule allows this one.
    case noRule
    /// A rule asks for something that only HTTP has, and this is not HTTP.
    case notHTTP
    /// A rule asks for the path, and this one may mean another to the application.
    case ambiguousPath
    /// The identity was revoked.
    case revoked
}

/// What the rules of a workload say about a call.
public enum AccessDecision: Sendable {
    /// Allowed; by no rule where none has a word to say.
    case allow(AccessRuleView?)
    case deny(AccessRuleView, AccessFault)
    /// A rule must see the request; nil was given for it. What is not HTTP is denied.
    case needsRequest(AccessRuleView)
}

/// What the rules may ask about an HTTP request. Borrowed for the call.
public struct AccessRequest {
    public var method: UnsafeRawBufferPointer
    /// As it came: escapes, query and all.
    public var path: UnsafeRawBufferPointer
    /// The host asked for, without its port.
    public var host: UnsafeRawBufferPointer

    @inlinable
    public init(method: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, host: UnsafeRawBufferPointer) {
        self.method = method
        self.path = path
        self.host = host
    }
}

/// The value of the next field of a request that has this name (lower case), from a row on; nil when there is none. Moves the row behind it.
public typealias FieldLookup = (_ name: UnsafeRawBufferPointer, _ row: inout Int) -> UnsafeRawBufferPointer?

extension AccessRulesView {
    /// Whether the caller may use a port, without a word about the request: an opaque connection, or a request whose rules need not see it.
    public func judge(_ caller: Caller, port: UInt16, withAudit: Bool = false) -> AccessDecision {
        judge(caller, port: port, request: nil, withAudit: withAudit) { _, _ in nil }
    }

    /// Asks the rules in order; each is asked once at most, and allocates nothing.
    ///
    /// - Parameters:
    ///   - port: the destination's own port, not its Service's.
    ///   - withAudit: rules in audit count as if they were enforced.
    public func judge(
        _ caller: Caller, port: UInt16, request: AccessRequest?, withAudit: Bool = false, field: FieldLookup
    ) -> AccessDecision {
        var question = AccessQuestion(caller: caller, port: port, request: request)
        var allowedBy: AccessRuleView?
        var isMandatorilyAllowed = false
        var asksPresets = true
        // Rules that would perhaps have allowed it, had it been HTTP, or had its path been plain.
        var missing: AccessRuleView?
        var missingMandatory: AccessRuleView?
        var ambiguous: AccessRuleView?
        var place = 0
        while place < ruleCount {
            let rule = rule(at: place)
            place += 1
            if rule.isAudit && !withAudit { continue }
            let step = rule.step
            switch step {
            case .mandatoryAllow, .mandatoryDenyRest: if isMandatorilyAllowed { continue }
            case .presetDeny, .presetAllow, .presetGate, .presetDenyRest: if !asksPresets { continue }
            default: break
            }
            switch question.answer(of: rule, isDenying: step.isDenying, field) {
            case .no: continue
            case .unknown:
                guard step.isAllowing else { return .needsRequest(rule) }
                if step == .mandatoryAllow { missingMandatory = missingMandatory ?? rule } else { missing = missing ?? rule }
                continue
            case .ambiguous:
                guard step.isAllowing else { return .deny(rule, .ambiguousPath) }
                ambiguous = ambiguous ?? rule
                continue
            case .yes: break
            }
            switch step {
            case .revoked: return .deny(rule, .revoked)
            case .mandatoryDeny, .deny, .presetDeny:
                // An allow rule before it would have been the end of the matter.
                if let missing { return .needsRequest(missing) }
                return .deny(rule, .rule)
            case .allow, .presetAllow: return .allow(rule)
            case .mandatoryAllow:
                isMandatorilyAllowed = true
                allowedBy = rule
            case .allowRest:
                asksPresets = false
                allowedBy = rule
            case .mandatoryGate where isMandatorilyAllowed: continue
            case .mandatoryGate, .gate, .presetGate, .denyRest, .presetDenyRest, .mandatoryDenyRest:
                if let missing { return .needsRequest(missing) }
                if let missingMandatory, step == .mandatoryGate || step == .mandatoryDenyRest { return .needsRequest(missingMandatory) }
                if let ambiguous { return .deny(ambiguous, .ambiguousPath) }
                return .deny(rule, .noRule)
            }
        }
        return .allow(allowedBy)
    }
}

extension AccessRuleView {
    /// Whether this rule by itself holds for a call; nil where the request would have to be seen, or its path is ambiguous. For people who ask why.
    public func holds(for caller: Caller, port: UInt16, request: AccessRequest?, field: FieldLookup) -> Bool? {
        var question = AccessQuestion(caller: caller, port: port, request: request)
        return switch question.answer(of: self, isDenying: step.isDenying, field) {
        case .yes: true
        case .no: false
        case .unknown, .ambiguous: nil
        }
    }
}

extension AccessStep {
    /// A match lets the call pass, so what cannot be told counts as none.
    @inlinable
    public var isAllowing: Bool {
        switch self {
        case .mandatoryAllow, .allow, .presetAllow: true
        default: false
        }
    }

    /// A match refuses the call, so what cannot be told counts as a match.
    @inlinable
    public var isDenying: Bool {
        switch self {
        case .revoked, .mandatoryDeny, .deny, .presetDeny: true
        default: false
        }
    }
}
