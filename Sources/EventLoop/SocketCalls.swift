import CLinux
import Glibc

/// What a socket call came to. Errors keep the errno so that whoever decides about retries can tell them apart.
public enum Transfer: Equatable, Sendable {
    /// Bytes moved (at least one).
    case moved(Int)
    /// The kernel has nothing to give or no room to take: wait for the next edge.
    case wouldBlock
    /// The peer ended its side in order.
    case ended
    /// The connection is of no use any more; the errno.
    case failed(Int32)
}

/// Reads at most `count` bytes, of which there must be some room: 0 bytes read are the peer's end.
@inlinable public func receive(_ descriptor: Int32, into memory: UnsafeMutableRawPointer, count: Int) -> Transfer {
    let moved = clinux_receive(descriptor, memory, UInt(bitPattern: count))
    if moved > 0 { return .moved(moved) }
    if moved == 0 { return .ended }
    let code = errno
    return code == EAGAIN ? .wouldBlock : .failed(code)
}

/// Sends what the socket takes at once, perhaps not all. Never raises SIGPIPE.
@inlinable public func transmit(_ descriptor: Int32, _ memory: UnsafeRawPointer, count: Int) -> Transfer {
    let moved = clinux_transmit(descriptor, memory, UInt(bitPattern: count))
    if moved >= 0 { return .moved(moved) }
    let code = errno
    return code == EAGAIN ? .wouldBlock : .failed(code)
}

/// The same for bytes in several pieces.
@inlinable public func transmit(_ descriptor: Int32, _ pieces: UnsafeMutableBufferPointer<iovec>) -> Transfer {
    let moved = clinux_transmit_pieces(descriptor, pieces.baseAddress, UInt(bitPattern: pieces.count))
    if moved >= 0 { return .moved(moved) }
    let code = errno
    return code == EAGAIN ? .wouldBlock : .failed(code)
}
