/// Reads /proc/net/tcp and tcp6.
enum ConnectionTable {
    /// Established connections with somebody outside: what was there before a pod was enrolled and goes on unmeshed.
    ///
    /// Lines are `sl local_address rem_address st …`; addresses are hexadecimal in groups of four bytes of host order (little endian),
    /// state 01 is ESTABLISHED.
    static func establishedWithOthers(_ table: String) -> Int {
        var count = 0
        for line in table.utf8.split(separator: UInt8(ascii: "\n")).dropFirst() {
            var fields = line.split(separator: UInt8(ascii: " "), maxSplits: 4, omittingEmptySubsequences: true).makeIterator()
            guard fields.next() != nil, let local = fields.next(), let remote = fields.next(), let state = fields.next() else { continue }
            guard state.elementsEqual("01".utf8) else { continue }
            // A connection of the pod with itself is never captured, whichever of its addresses it uses.
            let remoteAddress = remote.prefix { $0 != UInt8(ascii: ":") }, localAddress = local.prefix { $0 != UInt8(ascii: ":") }
            if isLoopback(remoteAddress) || remoteAddress.elementsEqual(localAddress) { continue }
            count += 1
        }
        return count
    }

    /// 127.0.0.0/8 plain or v4-mapped, ::1, and the prefix over which captured IPv6 connections are spread.
    private static func isLoopback(_ address: Substring.UTF8View.SubSequence) -> Bool {
        let digits = String(Substring(address))
        switch digits.utf8.count {
        case 8: return digits.hasSuffix("7F")
        case 32:
            return digits == "00000000000000000000000001000000"
                || digits.hasPrefix("0000000000000000FFFF0000") && digits.hasSuffix("7F")
                || digits.hasPrefix("73656DFD")     // fd6d:6573: as the little-endian group it is printed as
        default: return false
        }
    }
}
