import CLinux
import Glibc

/// What a pod's namespace looked like before Weft: what must be put back.
struct PodNetworkBefore: Equatable {
    var namespaceCookie: UInt64
    /// Previous value of each of `PodNetwork.settings`, same order; nil where the kernel has no such setting.
    var settings: [String?]
}

/// What was made in a pod's namespace.
struct PodListeners: Equatable {
    var outbound4: Int32 = -1, outbound6: Int32 = -1, inbound4: Int32 = -1, inbound6: Int32 = -1

    var all: [Int32] { [outbound4, outbound6, inbound4, inbound6].filter { $0 >= 0 } }
    func close() { for descriptor in all { clinux_close(descriptor) } }
}

/// Steps inside a pod's network namespace. Everything here runs on the namespace thread.
enum PodNetwork {
    struct Setting: Equatable {
        let path: String, value: String
    }

    /// `tcp_fwmark_accept`: the app's side of a transparent connection takes over its mark, and with it the way back to loopback.
    /// `fwmark_reflect`: so do a RST and an ICMP error for a port where no app listens; without it they leave by the pod's interface,
    /// and the proxy waits for its connect timeout instead of being refused.
    /// `tcp_tw_reuse=1`: captured connections share few destination tuples; with the default of 2 (loopback only by address 127/8 and ::1)
    /// the spread IPv6 addresses do not count, and churn stops at half the ports.
    static let settings = [
        Setting(path: "/proc/sys/net/ipv4/tcp_fwmark_accept", value: "1"),
        Setting(path: "/proc/sys/net/ipv4/tcp_tw_reuse", value: "1"),
        Setting(path: "/proc/sys/net/ipv4/fwmark_reflect", value: "1"),
        Setting(path: "/proc/sys/net/ipv6/fwmark_reflect", value: "1"),
    ]

    /// Reads who this namespace is and what will be changed. Changes nothing.
    static func inspect() throws(SystemFault) -> PodNetworkBefore {
        let number = clinux_stock_socket(false, 0)
        guard number >= 0 else { throw SystemFault(step: "socket", number: -number) }
        let socket = Descriptor(adopting: number)
        var cookie: UInt64 = 0
        let result = clinux_namespace_cookie(socket.number, &cookie)
        guard result == 0 else { throw SystemFault(step: "SO_NETNS_COOKIE", number: -result) }
        let values = settings.map { readWhole($0.path, bytesMax: 64)?.split(whereSeparator: \.isWhitespace).first.map(String.init) }
        return PodNetworkBefore(namespaceCookie: cookie, settings: values)
    }

    /// Rules, routes, settings and listeners. On failure what was made is removed again.
    static func setUp(before: PodNetworkBefore) throws(SystemFault) -> PodListeners {
        do throws(SystemFault) {
            try route(.add)
            for (setting, previous) in zip(settings, before.settings) where previous != nil {
                let result = writeControl(setting.path, setting.value)
                if result != 0 { throw SystemFault(step: setting.path, number: result) }
            }
            return try listen()
        } catch {
            tearDown(before: before)
            throw error
        }
    }

    /// Puts everything back. What is not there is not missed: a previous attempt may have come half way. The first real failure is reported.
    @discardableResult
    static func tearDown(before: PodNetworkBefore) -> SystemFault? {
        var fault: SystemFault?
        do throws(SystemFault) { try route(.remove) } catch { fault = error }
        for (setting, value) in zip(settings, before.settings) {
            guard let value else { continue }
            let result = writeControl(setting.path, value)
            if result != 0 && fault == nil { fault = SystemFault(step: setting.path, number: result) }
        }
        return fault
    }

    /// Connections of the pod with others that exist now.
    static func olderConnections() -> Int {
        ["tcp", "tcp6"].reduce(0) { count, name in
            count + ConnectionTable.establishedWithOthers(readWhole("/proc/thread-self/net/\(name)", bytesMax: Limits.connectionTableBytesMax) ?? "")
        }
    }

    /// The requests for one direction, in the order they are made.
    static func messages(_ action: RouteMessage.Action, _ family: RouteMessage.Family) -> [RouteMessage] {
        var messages = [
            RouteMessage.localRoute(
                action, family, prefix: [], prefixLength: 0, interface: PodNetworkNumbers.loopbackInterface, table: PodNetworkNumbers.routeTable),
            RouteMessage.rule(
                action, family, priority: PodNetworkNumbers.rulePriority, mark: PodNetworkNumbers.loopbackMark, table: PodNetworkNumbers.routeTable),
        ]
        if family == .ipv6 {
            messages.append(.localRoute(
                action, .ipv6, prefix: PodNetworkNumbers.spreadPrefix, prefixLength: PodNetworkNumbers.spreadPrefixLength,
                interface: PodNetworkNumbers.loopbackInterface, table: UInt32(RT_TABLE_LOCAL.rawValue)))
        }
        // The rule goes first when removing: it must not point at an empty table.
        return action == .add ? messages : messages.reversed()
    }

    private static func route(_ action: RouteMessage.Action) throws(SystemFault) {
        let socket = try RouteSocket()
        var fault: SystemFault?
        for family in RouteMessage.Family.allCases {
            for message in messages(action, family) {
                let result = socket.perform(message)
                switch (action, result) {
                case (_, 0), (.add, EEXIST), (.remove, ENOENT), (.remove, ESRCH): continue
                // A kernel or a namespace without IPv6: the pod has none to capture.
                case (_, EAFNOSUPPORT), (_, EOPNOTSUPP): continue
                case (_, EACCES) where family == .ipv6: continue      // disable_ipv6 on lo
                case (_, ENETDOWN): fault = fault ?? SystemFault(step: "lo is not up in the pod's namespace", number: result)
                default: fault = fault ?? SystemFault(step: "\(family) route or rule", number: result)
                }
            }
        }
        if let fault { throw fault }
    }

    private static func listen() throws(SystemFault) -> PodListeners {
        var listeners = PodListeners()
        do throws(SystemFault) {
            for isIPv6 in [false, true] {
                let outbound = try listener(isIPv6: isIPv6, port: PodNetworkNumbers.outboundPort, isTransparent: false)
                if isIPv6 { listeners.outbound6 = outbound } else { listeners.outbound4 = outbound }
                let inbound = try listener(isIPv6: isIPv6, port: PodNetworkNumbers.inboundPort, isTransparent: true)
                if isIPv6 { listeners.inbound6 = inbound } else { listeners.inbound4 = inbound }
            }
        } catch {
            listeners.close()
            throw error
        }
        return listeners
    }

    /// -1 for a family this namespace does not have.
    private static func listener(isIPv6: Bool, port: UInt16, isTransparent: Bool) throws(SystemFault) -> Int32 {
        // The inbound listener carries no mark: its SYN-ACKs must leave by the pod's interface, not by lo.
        let number = clinux_loopback_listener(isIPv6, port, isTransparent, Limits.listenBacklog)
        if number >= 0 { return number }
        if isIPv6, -number == EADDRNOTAVAIL || -number == EAFNOSUPPORT { return -1 }
        throw SystemFault(step: "listening on port \(port)", number: -number)
    }

    /// Sockets for the proxy's stock; an errno when not even one could be made.
    static func stock(isIPv6: Bool, isTransparent: Bool, count: Int) -> Result<[Int32], SystemFault> {
        var sockets: [Int32] = []
        for _ in 0..<count {
            let number = clinux_stock_socket(isIPv6, isTransparent ? PodNetworkNumbers.loopbackMark : 0)
            if number >= 0 { sockets.append(number); continue }
            if sockets.isEmpty { return .failure(SystemFault(step: "stock socket", number: -number)) }
            break
        }
        return .success(sockets)
    }
}
