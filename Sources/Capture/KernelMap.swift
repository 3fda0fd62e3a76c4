internal import CLibBPF
import Glibc

/// A BPF map, with the types its records have on the kernel's side.
struct KernelMap<Key: BitwiseCopyable, Value: BitwiseCopyable>: ~Copyable {
    private let descriptor: Descriptor
    private let name: String

    /// Opens a pinned map.
    init(pinned pins: Pins, _ name: String) throws(CaptureError) {
        let path = pins.map(name)
        descriptor = try Descriptor(bpf_obj_get(path), "cannot open the map at \(path)")
        self.name = name
    }

    func set(_ key: Key, _ value: Value) throws(CaptureError) {
        var key = key, value = value
        guard bpf_map_update_elem(descriptor.number, &key, &value, UInt64(BPF_ANY)) == 0 else {
            throw .failed(step: "cannot write to the map \(name)", errorNumber: errno)
        }
    }

    /// The value at a key, or nil.
    func value(_ key: Key) throws(CaptureError) -> Value? {
        var key = key, result: Int32 = 0
        let value = withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { slot -> Value? in
            result = bpf_map_lookup_elem(descriptor.number, &key, slot.baseAddress!)
            return result == 0 ? slot[0] : nil      // fully written when it was found
        }
        guard value != nil || errno == ENOENT else { throw .failed(step: "cannot read the map \(name)", errorNumber: errno) }
        return value
    }

    /// Removing what is not there is fine.
    func remove(_ key: Key) throws(CaptureError) {
        var key = key
        guard bpf_map_delete_elem(descriptor.number, &key) == 0 || errno == ENOENT else {
            throw .failed(step: "cannot remove from the map \(name)", errorNumber: errno)
        }
    }

    /// All keys. Nobody else writes to the maps this is asked of, so one pass sees every key once.
    func keys() throws(CaptureError) -> [Key] {
        var keys: [Key] = []
        // A null key asks for the first one; the record is fully written before it is read.
        withUnsafeTemporaryAllocation(of: Key.self, capacity: 1) { next in
            let slot = next.baseAddress!
            var result = bpf_map_get_next_key(descriptor.number, nil, slot)
            while result == 0 {
                keys.append(slot.pointee)
                var previous = slot.pointee
                result = bpf_map_get_next_key(descriptor.number, &previous, slot)
            }
        }
        guard errno == ENOENT else { throw .failed(step: "cannot list the map \(name)", errorNumber: errno) }
        return keys
    }
}
