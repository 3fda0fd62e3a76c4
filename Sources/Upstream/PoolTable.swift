import EventLoop

/// How what is sent to an endpoint travels.
public enum Wire: UInt8, Sendable {
    /// As it is: on this node, or to somebody without a proxy.
    case plain
    /// As a stream of a session over mutual TLS with the proxy that guards the endpoint.
    case secure
    /// On a connection of its own that is led through such a stream: HTTP towards a proxy that knows CONNECT and nothing else.
    case bridged
}

/// Which idle connections may serve which requests: equal keys, and nothing less.
public struct PoolKey: Equatable, Sendable {
    /// The pod in whose namespace the socket lives.
    public var namespacePod: UInt32
    /// The pod that caused the connection; its identity goes with the connection, so pods never share one.
    public var callingPod: UInt32
    /// The address the upstream sees, for transparent sockets; zero for plain ones.
    public var sourceHigh: UInt64 = 0, sourceLow: UInt64 = 0
    public var addressHigh: UInt64, addressLow: UInt64
    public var port: UInt16
    public var wire = Wire.plain
    /// By mutual TLS: the number of the calling pod's identity; 0 otherwise.
    public var identity: UInt32 = 0
    /// By mutual TLS: a hash of the identity that the other end must show; an address that changes hands is another destination.
    public var expected: UInt64 = 0

    public init(namespacePod: UInt32, callingPod: UInt32, addressHigh: UInt64, addressLow: UInt64, port: UInt16) {
        self.namespacePod = namespacePod
        self.callingPod = callingPod
        self.addressHigh = addressHigh
        self.addressLow = addressLow
        self.port = port
    }

    /// Spreads keys over the places of a table.
    public var hash: Int {
        var mixed = addressLow ^ addressHigh &* 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ UInt64(port) << 48 ^ UInt64(namespacePod) << 24 ^ UInt64(callingPod)) &* 0xFF51_AFD7_ED55_8CCD
        mixed ^= expected ^ UInt64(identity) << 8 ^ UInt64(wire.rawValue)
        mixed = (mixed ^ mixed >> 32 ^ sourceLow ^ sourceHigh &* 0xC4CE_B9FE_1A85_EC53) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 20)
    }
}

/// The idle upstream connections of one worker, by key. It knows connections by their slab index only.
///
///     (opened) ──park──▶ idle ──lease──▶ (leased) ──park──▶ …        idle ──withdraw──▶ (closed)
///
/// The last connection parked is leased first, so those that are not needed come of age and retire.
public struct PoolTable: ~Copyable {
    static let nobody = UInt32.max

    struct Pool {
        var limit = IdleLimit()
        var firstIdle = PoolTable.nobody
        var idleCount: UInt32 = 0
        /// Connections opened for this key and not yet closed, idle or leased. The pool lives while there are any.
        var members: UInt32 = 0
    }

    private var numbers = KeyNumbers()
    private var pools: [Pool] = []
    /// Neighbours in a pool's idle list, per slab index.
    let next: Region<UInt32>
    let previous: Region<UInt32>
    public private(set) var idleTotal = 0

    public init(connectionCapacity: Int) {
        next = Region(capacity: connectionCapacity)
        previous = Region(capacity: connectionCapacity)
    }

    public var count: Int { numbers.used }

    /// The most recently parked connection of that key, now the caller's.
    public mutating func lease(_ key: PoolKey) -> UInt32? {
        guard let pool = numbers.find(key), pools[pool].firstIdle != Self.nobody else { return nil }
        let connection = pools[pool].firstIdle
        withdraw(connection, from: UInt32(pool))
        return connection
    }

    /// Enters a new connection and returns its pool, which every later call about the connection names.
    public mutating func join(_ key: PoolKey) -> UInt32 {
        let pool = numbers.find(key) ?? insert(key)
        pools[pool].members += 1
        return UInt32(pool)
    }

    private mutating func insert(_ key: PoolKey) -> Int {
        let pool = numbers.insert(key)
        if pool == pools.count { pools.append(Pool()) } else { pools[pool] = Pool() }
        return pool
    }

    /// The connection has come to rest.
    public mutating func park(_ connection: UInt32, in pool: UInt32) {
        let first = pools[Int(pool)].firstIdle
        next[Int(connection)] = first
        previous[Int(connection)] = Self.nobody
        if first != Self.nobody { previous[Int(first)] = connection }
        pools[Int(pool)].firstIdle = connection
        pools[Int(pool)].idleCount += 1
        idleTotal += 1
    }

    /// Takes an idle connection out of its pool's list; it stays a member until `leave`.
    public mutating func withdraw(_ connection: UInt32, from pool: UInt32) {
        let before = previous[Int(connection)], after = next[Int(connection)]
        if before == Self.nobody {
            precondition(pools[Int(pool)].firstIdle == connection, "a connection was withdrawn that was not idle")
            pools[Int(pool)].firstIdle = after
        } else {
            next[Int(before)] = after
        }
        if after != Self.nobody { previous[Int(after)] = before }
        pools[Int(pool)].idleCount -= 1
        idleTotal -= 1
    }

    /// The connection is closed. With its last member the pool ends.
    public mutating func leave(_ pool: UInt32) {
        let index = Int(pool)
        precondition(pools[index].members > 0, "more connections left a pool than joined it")
        pools[index].members -= 1
        if pools[index].members == 0 { numbers.erase(index) }
    }

    /// How long a connection of the pool may rest: see `IdleLimit`.
    public func idleLimitMilliseconds(of pool: UInt32) -> UInt32 { pools[Int(pool)].limit.milliseconds }

    /// What all connections of the pool have in common.
    public func key(of pool: UInt32) -> PoolKey { numbers.keys[Int(pool)] }

    /// A server of the pool has said how long it keeps an idle connection.
    public mutating func heardKeepAlive(_ pool: UInt32, timeoutSeconds: Int) { pools[Int(pool)].limit.heard(timeoutSeconds: timeoutSeconds) }

    /// A server of the pool has closed a connection at rest.
    public mutating func sawClose(_ pool: UInt32, restedMilliseconds: UInt64) {
        pools[Int(pool)].limit.sawClose(restedMilliseconds: restedMilliseconds)
    }
}
