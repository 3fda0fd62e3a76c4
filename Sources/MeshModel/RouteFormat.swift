// The records of a routes shard. Its sections:
//
//   A services        which Services of the bucket have routes
//   B tables          what is said about one port, for callers of one namespace or for all
//   C matches         in the order in which they are compared
//   D rules
//   E field patterns  headers, then query parameters, of one match
//   F backends        of one rule, then its mirrors
//   G edits           of one rule's requests, of its replies, then the same of each of its backends
//   H CORS rules
//   I texts           the lists of a CORS rule
//   J path index      per table with many matches: UInt32 × 2^n, by the hash of a path

/// A Service with routes.
@usableFromInline
struct RoutedServiceRecord {
    @usableFromInline var hash: UInt64
    /// `name.namespace`.
    @usableFromInline var key: StringReference
    @usableFromInline var tables: RecordRange
    @usableFromInline var nameByteCount: UInt16
    @usableFromInline var zero: UInt16 = 0
    @usableFromInline var zero2: UInt32 = 0
}

@usableFromInline
struct RouteTableRecord {
    /// Empty: for the callers of every namespace that has no table of its own. Those with a namespace stand before it.
    @usableFromInline var callersNamespace: StringReference
    @usableFromInline var matches: RecordRange
    @usableFromInline var rules: RecordRange
    /// Slots with the number of a match plus one: the first of those with one path. Empty where all matches are compared in turn.
    @usableFromInline var index: RecordRange
    /// Bit n: some prefix in the index has a length of n modulo 64.
    @usableFromInline var prefixLengths: UInt64
    /// The first match that the index does not have, plus one; 0: none.
    @usableFromInline var firstLoose: UInt32
    @usableFromInline var port: UInt16
    /// Bit 0: all rules are a GRPCRoute's.
    @usableFromInline var flags: UInt16
}

@usableFromInline
struct RouteMatchRecord {
    @usableFromInline var hostname: StringReference
    /// A path, or the program of an expression.
    @usableFromInline var path: StringReference
    @usableFromInline var method: StringReference
    @usableFromInline var fields: RecordRange
    /// Within the table.
    @usableFromInline var rule: UInt32
    /// The next match with the same path, or the next that the index does not have, plus one; 0: none.
    @usableFromInline var next: UInt32
    /// Of `fields`, the first so many are headers.
    @usableFromInline var headerCount: UInt32
    @usableFromInline var hostKind: UInt8
    @usableFromInline var pathKind: UInt8
    @usableFromInline var zero: UInt16 = 0

    // Any is 0 in both.
    @usableFromInline static let exactHost: UInt8 = 1, suffixHost: UInt8 = 2
    @usableFromInline static let exactPath: UInt8 = 1, prefixPath: UInt8 = 2, expressionPath: UInt8 = 3
}

@usableFromInline
struct RouteFieldRecord {
    @usableFromInline var name: StringReference
    /// A text, or the program of an expression.
    @usableFromInline var value: StringReference
    @usableFromInline var isExpression: UInt32
}

@usableFromInline
struct RouteRuleRecord {
    @usableFromInline var route: StringReference
    @usableFromInline var rule: StringReference
    @usableFromInline var backends: RecordRange
    @usableFromInline var mirrors: RecordRange
    @usableFromInline var requestHeaders: RecordRange
    @usableFromInline var responseHeaders: RecordRange
    /// Of all backends.
    @usableFromInline var totalWeight: UInt64
    // Of a redirect or a rewrite; empty where it says nothing.
    @usableFromInline var scheme: StringReference
    @usableFromInline var hostname: StringReference
    @usableFromInline var path: StringReference
    /// `notSaid` where the rule says nothing.
    @usableFromInline var requestMilliseconds: UInt32
    @usableFromInline var backendRequestMilliseconds: UInt32
    /// Two bytes each.
    @usableFromInline var retryStatuses: StringReference
    @usableFromInline var sessionName: StringReference
    @usableFromInline var sessionAbsoluteSeconds: UInt32
    @usableFromInline var sessionIdleSeconds: UInt32
    @usableFromInline var backoffMilliseconds: UInt32
    /// The number of the CORS rule, plus one; 0: none.
    @usableFromInline var cors: UInt32
    /// A bit for each.
    @usableFromInline var retryGRPCStatuses: UInt32
    @usableFromInline var zero: UInt32 = 0
    @usableFromInline var port: UInt16
    @usableFromInline var status: UInt16
    @usableFromInline var attempts: UInt8
    @usableFromInline var pathKind: UInt8
    @usableFromInline var flags: UInt16

    @usableFromInline static let notSaid = UInt32.max
    @usableFromInline static let isGRPC: UInt16 = 1, isRedirect: UInt16 = 2, isRewrite: UInt16 = 4, hasRetry: UInt16 = 8
    @usableFromInline static let hasSession: UInt16 = 16, usesCookie: UInt16 = 32, isPermanent: UInt16 = 64
    // No path is 0.
    @usableFromInline static let fullPath: UInt8 = 1, prefixPath: UInt8 = 2
}

/// A backend, or the target of a mirror.
@usableFromInline
struct RouteBackendRecord {
    @usableFromInline var hash: UInt64
    /// `name.namespace`; empty: the reference leads nowhere.
    @usableFromInline var key: StringReference
    @usableFromInline var requestHeaders: RecordRange
    @usableFromInline var responseHeaders: RecordRange
    /// A backend's weight; of a mirror: so many of …
    @usableFromInline var weight: UInt32
    /// … so many requests are copied.
    @usableFromInline var denominator: UInt32
    @usableFromInline var nameByteCount: UInt16
    @usableFromInline var port: UInt16
    @usableFromInline var zero: UInt32 = 0
}

@usableFromInline
struct FieldEditRecord {
    @usableFromInline var name: StringReference
    @usableFromInline var value: StringReference
    /// `FieldEditKind`.
    @usableFromInline var kind: UInt32
}

@usableFromInline
struct CORSRecord {
    @usableFromInline var origins: RecordRange
    @usableFromInline var methods: RecordRange
    @usableFromInline var headers: RecordRange
    @usableFromInline var exposedHeaders: RecordRange
    @usableFromInline var maxAgeSeconds: UInt32
    /// Bit 0: credentials are allowed.
    @usableFromInline var flags: UInt32
}
