internal import CLibBPF
internal import CaptureABI
import Glibc

/// The maps that this process reads, writes or passes on. `bpf/maps.h` says what each is for.
struct CaptureMaps: ~Copyable {
    let pods: KernelMap<UInt64, capture_pod>
    let addresses: KernelMap<capture_address, UInt64>
    let portLists: KernelMap<capture_port_key, UInt8>
    let excludedPrefixes: KernelMap<capture_prefix_key, UInt8>
    let listeners: KernelMap<capture_listener_key, UInt64>
    let heartbeat, heartbeatReader, verdicts: Descriptor

    static func open(_ pins: Pins) throws(CaptureError) -> CaptureMaps {
        CaptureMaps(
            pods: try KernelMap(pinned: pins, "pods"),
            addresses: try KernelMap(pinned: pins, "addresses"),
            portLists: try KernelMap(pinned: pins, "port_lists"),
            excludedPrefixes: try KernelMap(pinned: pins, "excluded_prefixes"),
            listeners: try KernelMap(pinned: pins, "listeners"),
            heartbeat: try Descriptor(bpf_obj_get(pins.map("heartbeat")), "cannot open the heartbeat"),
            heartbeatReader: try openReadOnly(pins.map("heartbeat")),
            verdicts: try openFrozen(pins.map("verdicts")))
    }

    private static func openReadOnly(_ path: String) throws(CaptureError) -> Descriptor {
        var options = bpf_obj_get_opts()
        // Up to the last field: libbpf wants zeros behind it, which padding need not hold.
        options.sz = MemoryLayout<bpf_obj_get_opts>.offset(of: \.file_flags)! + MemoryLayout<UInt32>.size
        options.file_flags = UInt32(BPF_F_RDONLY)
        return try Descriptor(bpf_obj_get_opts(path, &options), "cannot open \(path) for reading")
    }

    /// Opens a map that from now on no process can write to, not even through a writable descriptor. Unlike a read-only descriptor it can be mapped.
    private static func openFrozen(_ path: String) throws(CaptureError) -> Descriptor {
        let map = try Descriptor(bpf_obj_get(path), "cannot open \(path)")
        // EPERM: an earlier node froze it, and even freezing is writing.
        guard bpf_map_freeze(map.number) == 0 || errno == EPERM else { throw .failed(step: "cannot freeze \(path)", errorNumber: errno) }
        return map
    }
}
