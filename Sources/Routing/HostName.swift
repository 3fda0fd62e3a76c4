import MeshModel

/// The forms in which a Host header names a service.
@usableFromInline
enum HostName {
    /// The host without `:port` and without a final dot. An IPv6 literal (`[::1]:80`) gives nothing that has a name.
    @inlinable
    static func withoutPort(_ host: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var end = host.count
        var place = host.count
        while place > 0, host.count - place < 6 {  // ":65535"
            place -= 1
            let byte = host[place]
            if byte == UInt8(ascii: ":") {
                end = place
                break
            }
            if byte &- 0x30 > 9 { break }
        }
        if end > 0, host[end - 1] == UInt8(ascii: ".") { end -= 1 }
        return UnsafeRawBufferPointer(rebasing: host[..<end])
    }

    /// The place of the next dot.
    @inlinable
    static func dot(in host: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var place = start
        while place < host.count {
            if host[place] == UInt8(ascii: ".") { return place }
            place += 1
        }
        return nil
    }

    /// Whether what follows name and namespace is nothing, `.svc`, or the rest of the service's full name.
    @inlinable
    static func isName(_ host: UnsafeRawBufferPointer, of service: ServiceView, from rest: Int) -> Bool {
        let full = service.host
        guard host.count == rest || host.count == rest + 4 || host.count == full.count, host.count <= full.count else { return false }
        var place = rest
        while place < host.count {
            let byte = host[place]
            let folded = byte &- 0x41 < 26 ? byte | 0x20 : byte
            if folded != full[place] { return false }
            place += 1
        }
        return true
    }
}
