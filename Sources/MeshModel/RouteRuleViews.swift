// What becomes of a request that a match has taken.

/// One rule inside a shard.
public struct RouteRuleView: @unchecked Sendable {
    public let shard: ShardView
    /// Within the shard.
    public let number: Int

    @inlinable
    init(shard: ShardView, number: Int) {
        self.shard = shard
        self.number = number
    }

    /// The rule with a number that `number` gave; nil when the shard has no such rule.
    public init?(numbered number: Int, in shard: ShardView) {
        guard shard.header.pointee.family == ShardFamily.routes.rawValue, number >= 0, number < Int(shard.header.pointee.d.count) else { return nil }
        self.init(shard: shard, number: number)
    }

    @inlinable var record: UnsafePointer<RouteRuleRecord> { shard.records(shard.header.pointee.d, of: RouteRuleRecord.self) + number }

    /// `HTTPRoute shop/cart`.
    @inlinable public var route: UnsafeRawBufferPointer { shard.text(record.pointee.route) }
    /// The rule's name, or else its field: `spec.rules[2]`.
    @inlinable public var rule: UnsafeRawBufferPointer { shard.text(record.pointee.rule) }
    /// Own answers are a gRPC status.
    @inlinable public var isGRPC: Bool { has(RouteRuleRecord.isGRPC) }
    @inlinable func has(_ flag: UInt16) -> Bool { record.pointee.flags & flag != 0 }

    // MARK: Where it goes

    /// Nil: the request is forwarded.
    @inlinable public var redirect: RedirectView? { has(RouteRuleRecord.isRedirect) ? RedirectView(rule: self) : nil }
    @inlinable public var rewrite: RewriteView? { has(RouteRuleRecord.isRewrite) ? RewriteView(rule: self) : nil }
    @inlinable public var backendCount: Int { Int(record.pointee.backends.count) }

    /// The backend at a place in 0 ..< `backendCount`.
    @inlinable
    public func backend(at place: Int) -> RouteBackendView {
        precondition(place >= 0 && place < backendCount, "no such backend")
        return RouteBackendView(shard: shard, number: Int(record.pointee.backends.start) + place)
    }

    /// One of the backends, each as often as its weight says; nil: there is none, or all have weight 0.
    ///
    /// - Parameter chance: a random number; or a hash, and what has the same hash goes to the same backend.
    @inlinable
    public func backend(chance: UInt64) -> RouteBackendView? {
        let total = record.pointee.totalWeight
        guard total > 0 else { return nil }
        var rest = chance.multipliedFullWidth(by: total).high
        var place = 0
        while place < backendCount {
            let backend = backend(at: place)
            let weight = UInt64(backend.weight)
            if rest < weight { return backend }
            rest -= weight
            place += 1
        }
        return nil
    }

    @inlinable public var mirrorCount: Int { Int(record.pointee.mirrors.count) }

    /// The mirror at a place in 0 ..< `mirrorCount`.
    @inlinable
    public func mirror(at place: Int) -> RouteMirrorView {
        precondition(place >= 0 && place < mirrorCount, "no such mirror")
        return RouteMirrorView(backend: RouteBackendView(shard: shard, number: Int(record.pointee.mirrors.start) + place))
    }

    // MARK: What is changed

    @inlinable public var requestHeaders: FieldEditsView { FieldEditsView(shard: shard, range: record.pointee.requestHeaders) }
    @inlinable public var responseHeaders: FieldEditsView { FieldEditsView(shard: shard, range: record.pointee.responseHeaders) }
    @inlinable public var cors: CORSView? { record.pointee.cors == 0 ? nil : CORSView(shard: shard, number: Int(record.pointee.cors) - 1) }
    @inlinable public var session: SessionView? { has(RouteRuleRecord.hasSession) ? SessionView(rule: self) : nil }
    /// Whoever writes the reply's head must ask this rule again.
    @inlinable public var isNeededByReply: Bool {
        record.pointee.responseHeaders.count != 0 || record.pointee.cors != 0 || has(RouteRuleRecord.hasSession | RouteRuleRecord.hasRetry)
    }

    // MARK: Time and tries

    @inlinable public var timeouts: RouteTimeouts {
        let request = record.pointee.requestMilliseconds, backend = record.pointee.backendRequestMilliseconds
        return RouteTimeouts(
            requestMilliseconds: request == RouteRuleRecord.notSaid ? nil : request,
            backendRequestMilliseconds: backend == RouteRuleRecord.notSaid ? nil : backend)
    }
    @inlinable public var retry: RetryView? { has(RouteRuleRecord.hasRetry) ? RetryView(rule: self) : nil }
}

/// A backend of a rule.
public struct RouteBackendView: @unchecked Sendable {
    public let shard: ShardView
    /// Within the shard.
    public let number: Int

    @inlinable
    init(shard: ShardView, number: Int) {
        self.shard = shard
        self.number = number
    }

    /// The backend with a number that `number` gave; nil when the shard has no such backend.
    public init?(numbered number: Int, in shard: ShardView) {
        guard shard.header.pointee.family == ShardFamily.routes.rawValue, number >= 0, number < Int(shard.header.pointee.f.count) else { return nil }
        self.init(shard: shard, number: number)
    }

    @inlinable var record: UnsafePointer<RouteBackendRecord> { shard.records(shard.header.pointee.f, of: RouteBackendRecord.self) + number }

    /// The reference leads nowhere, or may not.
    @inlinable public var isUnresolved: Bool { record.pointee.key.byteCount == 0 }
    /// `ShardHash.of(namespace:name:)` of its Service.
    @inlinable public var hash: UInt64 { record.pointee.hash }
    @inlinable var key: UnsafeRawBufferPointer { shard.text(record.pointee.key) }
    @inlinable public var name: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: key.baseAddress, count: isUnresolved ? 0 : Int(record.pointee.nameByteCount))
    }
    @inlinable public var namespace: UnsafeRawBufferPointer {
        isUnresolved ? key : UnsafeRawBufferPointer(rebasing: key[(Int(record.pointee.nameByteCount) + 1)...])
    }
    /// The Service's port.
    @inlinable public var port: UInt16 { record.pointee.port }
    @inlinable public var weight: UInt32 { record.pointee.weight }
    @inlinable public var requestHeaders: FieldEditsView { FieldEditsView(shard: shard, range: record.pointee.requestHeaders) }
    @inlinable public var responseHeaders: FieldEditsView { FieldEditsView(shard: shard, range: record.pointee.responseHeaders) }
}

/// Where copies of requests go.
public struct RouteMirrorView: @unchecked Sendable {
    public let backend: RouteBackendView

    @inlinable
    init(backend: RouteBackendView) { self.backend = backend }

    /// Whether a request is copied.
    /// - Parameter chance: a random number.
    @inlinable
    public func takes(chance: UInt64) -> Bool {
        let denominator = UInt64(backend.record.pointee.denominator)
        return chance.multipliedFullWidth(by: denominator).high < UInt64(backend.record.pointee.weight)
    }
}

/// What an edit does.
public enum FieldEditKind: UInt8, Sendable, CaseIterable {
    /// All fields of this name go.
    case remove = 0
    /// The field stands in place of all of this name.
    case set = 1
    /// The field is added to those that are there.
    case add = 2
}

/// Changes to the header fields of a message, in the order in which they are made: what is removed, set, added.
public struct FieldEditsView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let range: RecordRange

    @inlinable
    init(shard: ShardView, range: RecordRange) {
        self.shard = shard
        self.range = range
    }

    @inlinable public var isEmpty: Bool { range.count == 0 }
    @inlinable public var count: Int { Int(range.count) }

    /// The edit at a place in 0 ..< `count`.
    @inlinable
    public subscript(_ place: Int) -> FieldEditView {
        precondition(place >= 0 && place < count, "no such edit")
        return FieldEditView(shard: shard, record: shard.records(shard.header.pointee.g, of: FieldEditRecord.self) + Int(range.start) + place)
    }
}

/// One change.
public struct FieldEditView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<FieldEditRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<FieldEditRecord>) {
        self.shard = shard
        self.record = record
    }

    // Validated.
    @inlinable public var kind: FieldEditKind { FieldEditKind(rawValue: UInt8(truncatingIfNeeded: record.pointee.kind)).unsafelyUnwrapped }
    /// A token.
    @inlinable public var name: UnsafeRawBufferPointer { shard.text(record.pointee.name) }
    /// Without control characters; empty with `remove`.
    @inlinable public var value: UnsafeRawBufferPointer { shard.text(record.pointee.value) }
}

/// A new path, or a new beginning of it.
public struct PathEditView: @unchecked Sendable {
    /// In place of the prefix that has matched; otherwise of the whole path.
    public let isPrefix: Bool
    /// A prefix has no slash at its end.
    public let text: UnsafeRawBufferPointer

    @inlinable
    init?(_ rule: RouteRuleView) {
        guard rule.record.pointee.pathKind != 0 else { return nil }
        isPrefix = rule.record.pointee.pathKind == RouteRuleRecord.prefixPath
        text = rule.shard.text(rule.record.pointee.path)
    }
}

/// The answer that sends the client elsewhere. What is nil stays as it was asked for.
public struct RedirectView: @unchecked Sendable {
    @usableFromInline let rule: RouteRuleView

    @inlinable
    init(rule: RouteRuleView) { self.rule = rule }

    @inlinable public var scheme: UnsafeRawBufferPointer? { rule.said(rule.record.pointee.scheme) }
    @inlinable public var hostname: UnsafeRawBufferPointer? { rule.said(rule.record.pointee.hostname) }
    @inlinable public var path: PathEditView? { PathEditView(rule) }
    @inlinable public var port: UInt16? { rule.record.pointee.port == 0 ? nil : rule.record.pointee.port }
    /// 3xx.
    @inlinable public var status: UInt16 { rule.record.pointee.status }
}

/// What the backend sees instead of what was asked for.
public struct RewriteView: @unchecked Sendable {
    @usableFromInline let rule: RouteRuleView

    @inlinable
    init(rule: RouteRuleView) { self.rule = rule }

    @inlinable public var hostname: UnsafeRawBufferPointer? { rule.said(rule.record.pointee.hostname) }
    @inlinable public var path: PathEditView? { PathEditView(rule) }
}

extension RouteRuleView {
    @inlinable
    func said(_ text: StringReference) -> UnsafeRawBufferPointer? { text.byteCount == 0 ? nil : shard.text(text) }
}

/// When a request is sent once more.
public struct RetryView: @unchecked Sendable {
    @usableFromInline let rule: RouteRuleView

    @inlinable
    init(rule: RouteRuleView) { self.rule = rule }

    /// Attempts after the first.
    @inlinable public var attempts: UInt8 { rule.record.pointee.attempts }
    @inlinable public var backoffMilliseconds: UInt32 { rule.record.pointee.backoffMilliseconds }

    /// A bit for each gRPC status that calls for another attempt.
    @inlinable public var grpcStatuses: UInt32 { rule.record.pointee.retryGRPCStatuses }

    @inlinable public var statusCount: Int { Int(rule.record.pointee.retryStatuses.byteCount) / 2 }

    /// The status at a place in 0 ..< `statusCount`.
    @inlinable
    public func status(at place: Int) -> UInt16 {
        precondition(place >= 0 && place < statusCount, "no such status")
        return rule.shard.text(rule.record.pointee.retryStatuses).loadUnaligned(fromByteOffset: 2 * place, as: UInt16.self)
    }

    /// Whether a reply's status calls for another attempt.
    @inlinable
    public func takes(status: UInt16) -> Bool {
        var place = 0
        while place < statusCount {
            if self.status(at: place) == status { return true }
            place += 1
        }
        return false
    }
}

/// Requests of one session go to one endpoint.
public struct SessionView: @unchecked Sendable {
    @usableFromInline let rule: RouteRuleView

    @inlinable
    init(rule: RouteRuleView) { self.rule = rule }

    @inlinable public var usesCookie: Bool { rule.has(RouteRuleRecord.usesCookie) }
    /// Of the cookie or header; a token.
    @inlinable public var name: UnsafeRawBufferPointer { rule.shard.text(rule.record.pointee.sessionName) }
    /// 0: no such end.
    @inlinable public var absoluteTimeoutSeconds: UInt32 { rule.record.pointee.sessionAbsoluteSeconds }
    /// 0: no such end.
    @inlinable public var idleTimeoutSeconds: UInt32 { rule.record.pointee.sessionIdleSeconds }
    @inlinable public var isPermanent: Bool { rule.has(RouteRuleRecord.isPermanent) }
}

/// Cross-origin requests that browsers may make.
public struct CORSView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let number: Int

    @inlinable
    init(shard: ShardView, number: Int) {
        self.shard = shard
        self.number = number
    }

    @inlinable var record: UnsafePointer<CORSRecord> { shard.records(shard.header.pointee.h, of: CORSRecord.self) + number }

    @inlinable public var origins: TextsView { TextsView(shard: shard, range: record.pointee.origins) }
    @inlinable public var methods: TextsView { TextsView(shard: shard, range: record.pointee.methods) }
    @inlinable public var headers: TextsView { TextsView(shard: shard, range: record.pointee.headers) }
    @inlinable public var exposedHeaders: TextsView { TextsView(shard: shard, range: record.pointee.exposedHeaders) }
    @inlinable public var allowsCredentials: Bool { record.pointee.flags & 1 != 0 }
    @inlinable public var maxAgeSeconds: UInt32 { record.pointee.maxAgeSeconds }
}

/// A list of texts.
public struct TextsView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let range: RecordRange

    @inlinable
    init(shard: ShardView, range: RecordRange) {
        self.shard = shard
        self.range = range
    }

    @inlinable public var isEmpty: Bool { range.count == 0 }
    @inlinable public var count: Int { Int(range.count) }

    /// The text at a place in 0 ..< `count`.
    @inlinable
    public subscript(_ place: Int) -> UnsafeRawBufferPointer {
        precondition(place >= 0 && place < count, "no such text")
        return shard.text(shard.records(shard.header.pointee.i, of: StringReference.self)[Int(range.start) + place])
    }
}
