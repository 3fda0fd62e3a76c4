// The bytes of a shard. One shard holds one bucket of one family:
//
//     header │ index: UInt32 × 2^n │ records A │ records B │ … │ records J │ strings
//
//   family     index finds by                  A         B                   C          D …
//   services   hash of namespace and name      services  ports               endpoints
//   addresses  hash of the IP address          addresses service references  workloads
//   policies   hash of the workload's uid      workloads rules               terms
//   routes     hash of namespace and name      services  tables              matches    see RouteFormat
//
// Every place is an offset from the shard's own start or a number within a section of the same shard; nothing points
// outside, so a shard can be mapped anywhere and exchanged alone. Numbers are native-endian: writer and reader are
// processes of one machine. Records are laid out without padding (ShardFormatTests holds the sizes).

/// What a shard is about; the raw value is the family on the control channel.
public enum ShardFamily: UInt8, Sendable, CaseIterable {
    /// Services by namespace and name, with ports and endpoints.
    case services = 1
    /// IP addresses: which workload has it, which services are behind it.
    case addresses = 2
    /// Access rules in force at the workloads of this node, by the workload's uid.
    case policies = 3
    /// What routes say about ports of services, by the service's namespace and name.
    case routes = 4
}

/// Which shard: family and bucket.
public struct ShardID: Sendable, Hashable {
    public var family: ShardFamily
    /// 0 ..< `Limits.bucketsPerFamily`.
    public var index: UInt16

    public init(family: ShardFamily, index: UInt16) {
        self.family = family
        self.index = index
    }

    /// All shards' count, over all families.
    public static let count = ShardFamily.allCases.count * Limits.bucketsPerFamily
    /// 0 ..< `count`.
    public var ordinal: Int { (Int(family.rawValue) - 1) * Limits.bucketsPerFamily + Int(index) }

    // The ordinals that the families begin with; that of services is 0.
    @inlinable public static var firstAddresses: Int { Limits.bucketsPerFamily }
    @inlinable public static var firstPolicies: Int { 2 * Limits.bucketsPerFamily }
    @inlinable public static var firstRoutes: Int { 3 * Limits.bucketsPerFamily }

    public init(ordinal: Int) {
        precondition((0..<ShardID.count).contains(ordinal), "no such shard")
        family = ShardFamily.allCases[ordinal / Limits.bucketsPerFamily]
        index = UInt16(ordinal % Limits.bucketsPerFamily)
    }
}

/// A section's place: bytes from the shard's start, and how many elements.
@usableFromInline
struct ShardSection {
    @usableFromInline var offset: UInt32 = 0
    @usableFromInline var count: UInt32 = 0
}

/// 128 bytes at the start of each shard.
@usableFromInline
struct ShardHeader {
    static let magic: UInt32 = 0x6873_6677  // "wfsh"
    static let version: UInt16 = 3
    /// Bytes before those that the checksum covers.
    static let checksumEnd = 24

    @usableFromInline var magic = ShardHeader.magic
    @usableFromInline var version = ShardHeader.version
    @usableFromInline var family: UInt8
    @usableFromInline var zero: UInt8 = 0
    @usableFromInline var byteCount: UInt32 = 0
    @usableFromInline var index: UInt16
    @usableFromInline var zero2: UInt16 = 0
    @usableFromInline var checksum: UInt64 = 0
    @usableFromInline var table = ShardSection()     // section 0
    @usableFromInline var a = ShardSection()         // section 1
    @usableFromInline var b = ShardSection()         // section 2
    @usableFromInline var c = ShardSection()         // section 3
    @usableFromInline var d = ShardSection()         // section 4, and so on
    @usableFromInline var e = ShardSection()
    @usableFromInline var f = ShardSection()
    @usableFromInline var g = ShardSection()
    @usableFromInline var h = ShardSection()
    @usableFromInline var i = ShardSection()
    @usableFromInline var j = ShardSection()         // section 10
    @usableFromInline var strings = ShardSection()   // section 11; its elements are bytes
    /// In every shard, so that any of them tells it.
    @usableFromInline var trustDomain = StringReference()

    /// The number of the strings in faults.
    static let stringsNumber = 11

    init(id: ShardID) {
        family = id.family.rawValue
        index = id.index
    }
}

/// Text inside the strings section.
@usableFromInline
struct StringReference {
    @usableFromInline var offset: UInt32 = 0
    @usableFromInline var byteCount: UInt32 = 0
}

/// Elements `start ..< start + count` of another section.
@usableFromInline
struct RecordRange {
    @usableFromInline var start: UInt32 = 0
    @usableFromInline var count: UInt32 = 0
}

@usableFromInline
struct ServiceRecord {
    @usableFromInline var hash: UInt64
    /// `name.namespace.svc.cluster.local`: every shorter name of the service is a prefix of it.
    @usableFromInline var host: StringReference
    @usableFromInline var ports: RecordRange
    @usableFromInline var nameByteCount: UInt16
    @usableFromInline var namespaceByteCount: UInt16
    /// Bit 0: headless.
    @usableFromInline var flags: UInt32
    /// A `PolicyRecord` and what belongs to it; empty: nobody wrote a policy.
    @usableFromInline var policy: StringReference
}

@usableFromInline
struct PortRecord {
    @usableFromInline var name: StringReference
    /// Ready endpoints first, by tier; each part sorted by address and port.
    @usableFromInline var endpoints: RecordRange
    @usableFromInline var readyCount: UInt32
    @usableFromInline var port: UInt16
    @usableFromInline var protocolHint: UInt8
    @usableFromInline var zero: UInt8 = 0
    /// Ready endpoints of the first tier, and of the second; the others are of the third.
    @usableFromInline var firstTierCount: UInt32
    @usableFromInline var secondTierCount: UInt32
}

@usableFromInline
struct EndpointRecord {
    @usableFromInline var address: IPAddress
    @usableFromInline var port: UInt16
    @usableFromInline var flags: UInt16
    @usableFromInline var zero: UInt32 = 0

    @usableFromInline static let isReady: UInt16 = 1, isTerminating: UInt16 = 2, isSameNode: UInt16 = 4, isSameZone: UInt16 = 8
    /// What a preference goes by: the slices' hints where there are any, else the place itself.
    @usableFromInline static let isForNode: UInt16 = 16, isForZone: UInt16 = 32
}

@usableFromInline
struct AddressRecord {
    @usableFromInline var address: IPAddress
    @usableFromInline var references: RecordRange
    /// Number of the workload in this shard, plus one; 0 when the address is not a workload's.
    @usableFromInline var workload: UInt32
    /// Bit 0: the address is a service's cluster IP, and `references` has exactly that service.
    @usableFromInline var flags: UInt32
}

/// A service behind an address: by key, not by place, so that a change of the service leaves the address's shard alone.
@usableFromInline
struct ServiceReferenceRecord {
    @usableFromInline var hash: UInt64
    /// `name.namespace`, a prefix of the service's host.
    @usableFromInline var key: StringReference
    @usableFromInline var nameByteCount: UInt16
    /// The service's port; 0 with a cluster IP, whose port is the one asked for.
    @usableFromInline var servicePort: UInt16
    @usableFromInline var endpointPort: UInt16
    /// Bit 0: the service is headless.
    @usableFromInline var flags: UInt16
}

@usableFromInline
struct WorkloadRecord {
    @usableFromInline var uid: StringReference
    @usableFromInline var name: StringReference
    @usableFromInline var namespace: StringReference
    @usableFromInline var serviceAccount: StringReference
    @usableFromInline var nodeName: StringReference
    @usableFromInline var workloadName: StringReference
    @usableFromInline var app: StringReference
    @usableFromInline var version: StringReference
    @usableFromInline var canonicalService: StringReference
    @usableFromInline var canonicalRevision: StringReference
    @usableFromInline var cluster: StringReference
    @usableFromInline var flags: UInt32
    @usableFromInline var zero: UInt32 = 0

    @usableFromInline static let isMeshed: UInt32 = 1, isReady: UInt32 = 2, isSameNode: UInt32 = 4, isStrict: UInt32 = 8, failsOpen: UInt32 = 16
    /// The string references at the record's start.
    static let stringCount = 11
}

/// One workload that rules select.
@usableFromInline
struct AccessSubjectRecord {
    @usableFromInline var hash: UInt64
    @usableFromInline var uid: StringReference
    @usableFromInline var rules: RecordRange
    @usableFromInline var flags: UInt32
    @usableFromInline var zero: UInt32 = 0

    @usableFromInline static let hasAudit: UInt32 = 1
}

@usableFromInline
struct AccessRuleRecord {
    @usableFromInline var policy: StringReference
    @usableFromInline var field: StringReference
    @usableFromInline var terms: RecordRange
    @usableFromInline var step: UInt8
    @usableFromInline var isAudit: UInt8
    @usableFromInline var zero: UInt16 = 0
    @usableFromInline var zero2: UInt32 = 0
}

@usableFromInline
struct AccessTermRecord {
    @usableFromInline var text: StringReference
    @usableFromInline var number: UInt16
    @usableFromInline var alternative: UInt16
    @usableFromInline var group: UInt16
    @usableFromInline var subject: UInt8
    @usableFromInline var comparison: UInt8
}
