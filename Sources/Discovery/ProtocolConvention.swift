import MeshModel

/// What a Service says about the protocol of one of its ports, read as Istio reads it: the word in `appProtocol` where there is one,
/// else the port's name up to a dash (`http`, `http-admin`, `grpc-web-api`); where neither is a known word, the port numbers of
/// protocols in which the server speaks first.
enum ProtocolConvention {
    static func hint(appProtocol: String?, portName: String, port: UInt16) -> ProtocolHint {
        declared(appProtocol: appProtocol, portName: portName) ?? (serverFirstPorts.contains(port) ? .tcp : .undeclared)
    }

    /// Whether a word of `appProtocol` means something to Weft. Names with a prefix of their own (`example.com/own`) are for others.
    static func knows(appProtocol: String) -> Bool { declared(appProtocol: appProtocol, portName: "") != nil }

    /// A written `appProtocol` is the whole answer, known or not: who wrote it did not mean what the port's name may say.
    private static func declared(appProtocol: String?, portName: String) -> ProtocolHint? {
        guard let appProtocol, !appProtocol.isEmpty else { return hint(prefixing: portName.lowercased()) }
        let word = appProtocol.lowercased()
        return kubernetes[word] ?? hint(registered: word) ?? hint(prefixing: word)
    }

    /// `grpc-web` before `grpc`: the longest prefix that ends at a dash counts.
    private static func hint(prefixing name: String) -> ProtocolHint? {
        var prefix = name[...]
        while true {
            if let hint = hint(word: prefix) { return hint }
            guard let dash = prefix.lastIndex(of: "-") else { return nil }
            prefix = prefix[..<dash]
        }
    }

    /// Names that Kubernetes defines (KEP-3726); a port's name cannot hold them.
    private static let kubernetes: [String: ProtocolHint] = [
        "kubernetes.io/h2c": .http2,
        // WebSocket begins as an HTTP/1.1 upgrade.
        "kubernetes.io/ws": .http1,
        "kubernetes.io/wss": .tls,
    ]

    /// Words of Istio's protocol selection and what the field writes in the same places.
    private static func hint(word: Substring) -> ProtocolHint? {
        switch word {
        // gRPC-Web is spoken over HTTP/1.1 too.
        case "http", "http1", "http_proxy", "grpc-web", "ws": .http1
        case "http2", "h2c": .http2
        case "grpc": .grpc
        case "https", "tls", "wss", "grpcs", "h2": .tls
        case "tcp", "mongo", "mongodb", "mysql", "redis", "postgres", "postgresql", "kafka", "amqp", "smtp", "ftp", "ssh": .tcp
        default: nil
        }
    }

    /// Service names registered with IANA, as `appProtocol` may hold them; as a port's name they would be a guess.
    private static func hint(registered name: String) -> ProtocolHint? {
        switch name {
        case "http-alt": .http1
        case "ldaps", "imaps", "pop3s", "submissions", "amqps", "secure-mqtt", "ftps", "domain-s": .tls
        case "submission", "imap", "pop3", "ldap", "telnet", "domain", "mqtt", "ms-sql-s", "ms-wbt-server", "xmpp-client", "xmpp-server", "sip",
            "iscsi-target", "nfs", "epmd", "stomp", "nats", "memcache":
            .tcp
        default: nil
        }
    }

    /// FTP, SSH, SMTP, POP3, IMAP, MySQL, and MongoDB as in Istio: waiting for the client's first bytes would stall them
    /// until the detection's deadline.
    private static let serverFirstPorts: Set<UInt16> = [21, 22, 25, 110, 143, 587, 3306, 27017]
}
