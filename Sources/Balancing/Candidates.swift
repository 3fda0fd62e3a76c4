/// Requests in flight on an endpoint, and how it stands: one number, so that the usual comparison of two endpoints is one comparison.
public struct EndpointLoad: Sendable, Equatable {
    public let rawValue: UInt32

    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Ejected, or unwell by its health check.
    @inlinable public static var avoided: UInt32 { 1 << 31 }
    /// New or just back: it takes less than its share.
    @inlinable public static var warming: UInt32 { 1 << 30 }
    /// Anything from here on wants a second look.
    @inlinable public static var flagged: UInt32 { 1 << 28 }

    @inlinable public var isFlagged: Bool { rawValue >= EndpointLoad.flagged }
    @inlinable public var isAvoided: Bool { rawValue & EndpointLoad.avoided != 0 }
    @inlinable public var isWarming: Bool { rawValue & EndpointLoad.warming != 0 }
    @inlinable public var inFlight: UInt32 { rawValue & (EndpointLoad.flagged - 1) }
}

/// The endpoints among which one is chosen, by place. Conformed to by what reads them where they are; specialised away.
public protocol Candidates {
    /// Places are 0 ..< `count`.
    var count: Int { get }
    func load(at place: Int) -> EndpointLoad
    /// A request's second try does not go where its first one failed.
    func isExcluded(_ place: Int) -> Bool
    /// The share of its full one that a warming endpoint takes, in 65,536ths.
    func warmth(at place: Int) -> UInt32
    /// What a request there is expected to cost: its latency, weighed by its requests in flight.
    func cost(at place: Int) -> Float
}
