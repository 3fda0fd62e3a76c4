import MeshModel

/// What a Service says about the protocol of one of its ports: `appProtocol` first, then the port's name
/// (`http`, `http-admin`, `grpc-web`), then the port numbers of protocols in which the server speaks first.
enum ProtocolConvention {
    static func hint(appProtocol: String?, portName: String, port: UInt16) -> ProtocolHint {
        if let appProtocol, let hint = hint(word: appProtocol.lowercased()) { return hint }
        if let hint = hint(named: portName.lowercased()) { return hint }
        return serverFirstPorts.contains(port) ? .tcp : .undeclared
    }

    /// `grpc-web` before `grpc`: the longest prefix that ends at a dash counts.
    private static func hint(named name: String) -> ProtocolHint? {
        if let hint = hint(word: name) { return hint }
        var prefix = name[...]
        while let dash = prefix.lastIndex(of: "-") {
            prefix = prefix[..<dash]
            if let hint = hint(word: String(prefix)) { return hint }
        }
        return nil
    }

    /// Words of Kubernetes (KEP-3726) and of Istio's protocol selection. Unknown words say nothing.
    private static func hint(word: String) -> ProtocolHint? {
        switch word {
        // gRPC-Web is spoken over HTTP/1.1 too; WebSocket begins as an HTTP/1.1 upgrade.
        case "http", "http1", "grpc-web", "kubernetes.io/ws", "ws": .http1
        case "http2", "grpc", "h2c", "kubernetes.io/h2c": .http2
        case "https", "tls", "kubernetes.io/wss", "wss": .tls
        case "tcp", "mongo", "mysql", "redis", "postgres", "postgresql", "kafka", "amqp", "smtp", "ftp", "ssh": .tcp
        default: nil
        }
    }

    /// SMTP, MySQL and MongoDB: Istio treats these as opaque too, because waiting for the client's first bytes would
    /// stall until the detection deadline.
    private static let serverFirstPorts: Set<UInt16> = [25, 587, 3306, 27017]
}
