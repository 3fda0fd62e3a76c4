import CLinux
import Glibc

/// The few rtnetlink requests Weft makes in a pod's namespace, as bytes (rtnetlink(7), linux/fib_rules.h).
///
/// Numbers are in host order, addresses in network order, attributes padded to four bytes.
struct RouteMessage: Equatable {
    enum Family: UInt8, CaseIterable { case ipv4 = 2, ipv6 = 10 }    // AF_INET, AF_INET6
    enum Action: Equatable { case add, remove }

    private(set) var bytes: [UInt8]

    /// Starts with an nlmsghdr whose length `finish` fills in.
    private init(type: Int32, action: Action) {
        bytes = []
        // Adding what is there already is an error to us (EEXIST): the caller knows that a previous node may have left it.
        let flags = NLM_F_REQUEST | NLM_F_ACK | (action == .add ? NLM_F_CREATE | NLM_F_EXCL : 0)
        append(UInt32(0))
        append(UInt16(type))
        append(UInt16(flags))
        append(UInt32(1))       // sequence: one request at a time
        append(UInt32(0))       // to the kernel
    }

    private mutating func append<Number: FixedWidthInteger>(_ value: Number) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    }

    private mutating func attribute(_ type: Int, _ value: [UInt8]) {
        append(UInt16(4 + value.count))
        append(UInt16(type))
        bytes += value
        while !bytes.count.isMultiple(of: 4) { bytes.append(0) }
    }

    private mutating func attribute(_ type: Int, _ value: UInt32) { attribute(type, withUnsafeBytes(of: value) { Array($0) }) }

    private consuming func finished() -> RouteMessage {
        let length = UInt32(bytes.count)
        withUnsafeBytes(of: length) { bytes.replaceSubrange(0..<4, with: $0) }
        return self
    }

    /// `ip rule {add|del} pref P fwmark M lookup T`.
    static func rule(_ action: Action, _ family: Family, priority: UInt32, mark: UInt32, table: UInt32) -> RouteMessage {
        var message = RouteMessage(type: action == .add ? Int32(RTM_NEWRULE) : Int32(RTM_DELRULE), action: action)
        // struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
        message.bytes += [family.rawValue, 0, 0, 0, UInt8(RT_TABLE_UNSPEC.rawValue), 0, 0, UInt8(FR_ACT_TO_TBL)]
        message.append(UInt32(0))
        message.attribute(FRA_PRIORITY, priority)
        message.attribute(FRA_FWMARK, mark)
        message.attribute(FRA_FWMASK, .max)
        message.attribute(FRA_TABLE, table)
        message.attribute(FRA_PROTOCOL, [PodNetworkNumbers.protocolNumber])
        return message.finished()
    }

    /// `ip route {add|del} local PREFIX dev IFINDEX table T`. An empty prefix is the default route.
    static func localRoute(_ action: Action, _ family: Family, prefix: [UInt8], prefixLength: UInt8, interface: UInt32, table: UInt32) -> RouteMessage {
        var message = RouteMessage(type: action == .add ? Int32(RTM_NEWROUTE) : Int32(RTM_DELROUTE), action: action)
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
        message.bytes += [
            family.rawValue, prefixLength, 0, 0, UInt8(RT_TABLE_UNSPEC.rawValue), PodNetworkNumbers.protocolNumber,
            UInt8(RT_SCOPE_HOST.rawValue), UInt8(RTN_LOCAL),
        ]
        message.append(UInt32(0))
        if !prefix.isEmpty { message.attribute(Int(RTA_DST.rawValue), prefix) }
        message.attribute(Int(RTA_OIF.rawValue), interface)
        message.attribute(Int(RTA_TABLE.rawValue), table)
        return message.finished()
    }

    /// The kernel's answer to a request with NLM_F_ACK: 0 or an errno; nil when the bytes are no answer.
    static func acknowledgement(_ answer: [UInt8]) -> Int32? {
        guard answer.count >= 20 else { return nil }
        return answer.withUnsafeBytes { raw -> Int32? in
            guard raw.loadUnaligned(fromByteOffset: 4, as: UInt16.self) == UInt16(NLMSG_ERROR) else { return nil }
            let error = raw.loadUnaligned(fromByteOffset: 16, as: Int32.self)
            return error <= 0 && error > -4096 ? -error : nil
        }
    }
}

/// A route socket of the calling thread's namespace.
struct RouteSocket: ~Copyable {
    private let socket: Descriptor

    /// An errno on failure.
    init() throws(SystemFault) {
        let number = clinux_route_socket()
        guard number >= 0 else { throw SystemFault(step: "netlink socket", number: -number) }
        socket = Descriptor(adopting: number)
    }

    /// Sends one request and waits for its answer: 0 or an errno.
    func perform(_ message: RouteMessage) -> Int32 {
        guard send(socket.number, message.bytes, message.bytes.count, 0) == message.bytes.count else { return errno }
        var answer = [UInt8](repeating: 0, count: 8 * 1024)
        while true {
            let count = recv(socket.number, &answer, answer.count, 0)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return count == 0 ? EIO : errno }
            if let result = RouteMessage.acknowledgement(Array(answer[..<count])) { return result }
        }
    }
}

/// A system call that failed, and what it was for.
struct SystemFault: Error, Equatable {
    let step: String
    let number: Int32
    var text: String { "\(step): \(errorText(number))" }
}
