import CLinux
import MeshModel

/// Where a connection wanted to go before it was captured.
struct OriginalDestination: Equatable {
    var address: IPAddress
    var port: UInt16
}

/// Knows a connection's original destination. The proxy asks; who answers (a BPF hook, netfilter, the socket's own name) is not its business.
protocol OriginalDestinations {
    /// Nil when nobody remembers: the connection was not captured.
    static func claim(_ descriptor: Int32, _ listener: ListenerKind) -> OriginalDestination?
}

/// Asks the kernel through the accepted socket itself.
enum KernelOriginalDestinations: OriginalDestinations {
    static func claim(_ descriptor: Int32, _ listener: ListenerKind) -> OriginalDestination? {
        var found = clinux_address()
        let result =
            listener.readsSocketName
            ? clinux_local_address(descriptor, &found)
            : clinux_original_destination(descriptor, listener.isIPv6 ? 1 : 0, &found)
        return result == 0 ? OriginalDestination(address: IPAddress(found), port: found.port) : nil
    }
}
