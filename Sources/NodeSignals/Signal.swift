/// One metric family as read: ready for any exposition format, tied to none.
public struct Signal: Sendable, Equatable {
    public enum Kind: Sendable, Equatable { case counter, gauge }

    /// One value with its labels, in the order they are shown.
    public struct Sample: Sendable, Equatable {
        public var labels: [Label]
        public var value: Double

        public init(_ value: Double, labels: [Label] = []) {
            self.labels = labels
            self.value = value
        }
    }

    public struct Label: Sendable, Equatable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    public var name: String
    public var help: String
    public var kind: Kind
    public var samples: [Sample]

    public init(_ name: String, help: String, _ kind: Kind, _ samples: [Sample]) {
        self.name = name
        self.help = help
        self.kind = kind
        self.samples = samples
    }
}

/// A source that gave nothing: which, and why. The other sources are not affected.
public struct MissingSource: Sendable, Equatable, CustomStringConvertible {
    /// The file that was asked.
    public var source: String
    public var reason: String

    public init(source: String, reason: String) {
        self.source = source
        self.reason = reason
    }

    public var description: String { "\(source): \(reason)" }
}

/// What one round of reading gave.
public struct SignalReading: Sendable, Equatable {
    public var signals: [Signal] = []
    public var missing: [MissingSource] = []

    public init() {}

    /// The signal of a name, if it was read.
    public subscript(name: String) -> Signal? { signals.first { $0.name == name } }
}
