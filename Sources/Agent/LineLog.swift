import Logging
import Telemetry

/// Brings what the control plane logs by swift-log into the form that all of Weft writes.
public struct LineLog: LogHandler {
    let component: String
    public var logLevel: Logger.Level = .info
    public var metadata: Logger.Metadata = [:]

    /// - Parameter component: `agent` or `controller`.
    public init(component: String) { self.component = component }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        let metadata = metadata.merging(event.metadata ?? [:]) { _, new in new }
        var fields = metadata.sorted { $0.key < $1.key }.map { (key: $0.key, value: "\($0.value)") }
        if let error = event.error { fields.append((key: "error", value: "\(error)")) }
        LogLine.write(event.level.rawValue, component, "\(event.message)", fields)
    }
}
