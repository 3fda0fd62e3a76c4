import CLinux

/// Nanoseconds of CLOCK_MONOTONIC. Only the loop reads the clock; everything that decides is handed the time.
public typealias Nanoseconds = UInt64

/// The time now, by a call that needs no system call (vDSO).
@inlinable public func monotonicNow() -> Nanoseconds { clinux_monotonic_nanoseconds() }
