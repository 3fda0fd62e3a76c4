import MeshModel

extension CORSView {
    /// Every origin is allowed: one of the list is `*`.
    @inlinable
    public var allowsAnyOrigin: Bool {
        var place = 0
        while place < origins.count {
            let allowed = origins[place]
            if allowed.count == 1, allowed[0] == UInt8(ascii: "*") { return true }
            place += 1
        }
        return false
    }

    /// Whether a request's `Origin` is one of those allowed. Scheme and host are compared without regard to case; a `*` in the host stands for one
    /// label or more.
    public func allows(origin: UnsafeRawBufferPointer) -> Bool {
        var place = 0
        while place < origins.count {
            if Self.isAllowed(origins[place], origin) { return true }
            place += 1
        }
        return false
    }

    private static func isAllowed(_ allowed: UnsafeRawBufferPointer, _ origin: UnsafeRawBufferPointer) -> Bool {
        guard let star = allowed.firstIndex(of: UInt8(ascii: "*")) else { return isSame(allowed, origin) }
        if allowed.count == 1 { return true }
        let tail = allowed.count - star - 1
        guard origin.count > star + tail, isSame(UnsafeRawBufferPointer(rebasing: allowed[..<star]), UnsafeRawBufferPointer(rebasing: origin[..<star])),
            isSame(UnsafeRawBufferPointer(rebasing: allowed[(star + 1)...]), UnsafeRawBufferPointer(rebasing: origin[(origin.count - tail)...]))
        else { return false }
        // What the star stands for is of the host: no user, no port, no path.
        return origin[star..<(origin.count - tail)].allSatisfy { byte in
            byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
        }
    }

    private static func isSame(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        for place in 0..<left.count where folded(left[place]) != folded(right[place]) { return false }
        return true
    }

    private static func folded(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }
}
