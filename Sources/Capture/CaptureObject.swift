internal import CLibBPF
internal import CaptureABI
import Glibc

/// The compiled hooks, opened: nothing of them is in the kernel yet.
///
/// Opening is cheap and is done again for every pod, because the program that serves a namespace carries the namespace's cookie as a constant.
struct CaptureObject: ~Copyable {
    private let object: OpaquePointer

    /// - Parameter image: the bytes of `capture.bpf.o`.
    init(opening image: [UInt8], pins: Pins) throws(CaptureError) {
        // Failures come back as values with the reason; libbpf's own lines on stderr would say it twice.
        _ = libbpf_set_print(nil)
        let opened = image.withUnsafeBytes { bytes in
            "capture".withCString { name in
                var options = bpf_object_open_opts()
                // Up to the last field in use: libbpf wants zeros behind it, which padding need not hold.
                options.sz = MemoryLayout<bpf_object_open_opts>.offset(of: \.object_name)! + MemoryLayout<UnsafePointer<CChar>>.size
                options.object_name = name
                return bpf_object__open_mem(bytes.baseAddress, bytes.count, &options)
            }
        }
        guard let opened else { throw .failed(step: "capture.bpf.o is not a BPF object", errorNumber: errno) }
        // With a pin path, loading takes the map that is pinned there, or makes and pins one.
        var map: OpaquePointer?
        while let next = bpf_object__next_map(opened, map) {
            map = next
            if bpf_map__is_internal(next) { continue }
            let path = pins.map(String(cString: bpf_map__name(next)))
            guard bpf_map__set_pin_path(next, path) == 0 else {
                bpf_object__close(opened)
                throw .failed(step: "cannot pin at \(path)", errorNumber: ENOMEM)
            }
        }
        object = opened
    }

    deinit { bpf_object__close(object) }

    /// Whether the maps pinned by an older build still hold the records this build reads. Libbpf would refuse to load otherwise, without saying why.
    /// A map that this build does not know would be left behind unread.
    func fitsPinnedMaps(_ pins: Pins) -> Bool {
        var map: OpaquePointer?
        var unknown = Set(pins.mapNames)
        while let next = bpf_object__next_map(object, map) {
            map = next
            if bpf_map__is_internal(next) { continue }
            unknown.remove(String(cString: bpf_map__name(next)))
            let pinned = Descriptor(adopting: bpf_obj_get(pins.map(String(cString: bpf_map__name(next)))))
            if pinned.number < 0 { continue }
            var info = bpf_map_info(), bytes = UInt32(MemoryLayout<bpf_map_info>.size)
            guard bpf_obj_get_info_by_fd(pinned.number, &info, &bytes) == 0, info.type == bpf_map__type(next).rawValue,
                info.key_size == bpf_map__key_size(next), info.value_size == bpf_map__value_size(next),
                info.max_entries == bpf_map__max_entries(next), info.map_flags == bpf_map__map_flags(next)
            else { return false }
        }
        return unknown.isEmpty
    }

    /// Sets what is constant for the verifier. The linker keeps one copy for each hook, of which the first is in use; all are set.
    func setConstants(_ constants: capture_constants) {
        var map: OpaquePointer?
        while let next = bpf_object__next_map(object, map) {
            map = next
            guard bpf_map__is_internal(next), String(cString: bpf_map__name(next)).hasSuffix(".rodata") else { continue }
            let copies = Int(bpf_map__value_size(next)) / MemoryLayout<capture_constants>.stride
            let all = [capture_constants](repeating: constants, count: copies)
            let result = all.withUnsafeBytes { bpf_map__set_initial_value(next, $0.baseAddress, $0.count) }
            precondition(result == 0, "capture.bpf.o and bpf/abi disagree about the constants")
            return
        }
        preconditionFailure("capture.bpf.o and bpf/abi disagree: it has no constants")
    }

    /// Brings the maps and the programs for which `isWanted` answers true into the kernel.
    /// - Throws: ``CaptureError/rejected(program:lastLines:)`` with the verifier's last words, or what the machine lacks.
    consuming func load(_ isWanted: (String) -> Bool) throws(CaptureError) -> LoadedPrograms {
        // The verifier explains itself only when asked, which libbpf does on a second try. Untouched pages cost nothing.
        let logBytes = 256 * 1024
        var logs: [(program: String, log: UnsafeMutableBufferPointer<CChar>)] = []
        defer { for entry in logs { entry.log.deallocate() } }
        var program: OpaquePointer?
        while let next = bpf_object__next_program(object, program) {
            program = next
            let name = String(cString: bpf_program__name(next))
            bpf_program__set_autoload(next, isWanted(name))
            guard isWanted(name) else { continue }
            let log = UnsafeMutableBufferPointer<CChar>.allocate(capacity: logBytes)
            log[0] = 0
            logs.append((name, log))
            bpf_program__set_log_buf(next, log.baseAddress, logBytes)
        }
        let result = bpf_object__load(object)
        if result == 0 { return LoadedPrograms(from: self) }
        let refused = logs.first { $0.log[0] != 0 }.map { ($0.program, Self.lastLines(of: $0.log)) }
        throw .load(errorNumber: -result, rejected: refused)
    }

    private static func lastLines(of log: UnsafeMutableBufferPointer<CChar>) -> [String] {
        let text = String(cString: log.baseAddress!)
        // The very last lines are statistics ("processed 38 insns …"); the reason stands right above.
        return text.split(separator: "\n").suffix(4).map(String.init)
    }

    fileprivate func descriptor(of program: String) -> Int32? {
        guard let found = bpf_object__find_program_by_name(object, program) else { return nil }
        return bpf_program__fd(found)
    }

    fileprivate func attachType(of program: String) -> bpf_attach_type? {
        bpf_object__find_program_by_name(object, program).map { bpf_program__expected_attach_type($0) }
    }
}

/// Programs in the kernel. They stay there as long as this value or a link holds them.
struct LoadedPrograms: ~Copyable {
    private let object: CaptureObject

    fileprivate init(from object: consuming CaptureObject) { self.object = object }

    /// Makes `program` run at a cgroup, through a link pinned at `path`.
    func attach(_ program: String, to cgroup: borrowing CgroupPlace, pinnedAt path: String) throws(CaptureError) {
        let identity = cgroup.identity
        try attach(program, to: cgroup.descriptor, pinnedAt: path) { $0.cgroup.cgroup_id == identity }
    }

    /// Makes `program` run at `target` (a cgroup or a namespace), through a link pinned at `path`.
    ///
    /// A link that is already there keeps its place and only changes its program: no connection is made in between without a hook.
    /// - Parameter isAt: says whether a link found at `path` is attached to `target`.
    func attach(_ program: String, to target: borrowing Descriptor, pinnedAt path: String, isAt: (bpf_link_info) -> Bool) throws(CaptureError) {
        guard let descriptor = object.descriptor(of: program), let type = object.attachType(of: program) else {
            throw .lacking("capture.bpf.o has no program \(program): build it again from bpf/.")
        }
        let existing = Descriptor(adopting: bpf_obj_get(path))
        if existing.number >= 0 {
            var info = bpf_link_info(), bytes = UInt32(MemoryLayout<bpf_link_info>.size)
            // A link whose cgroup or namespace went away answers ENOLINK here and is replaced.
            if bpf_obj_get_info_by_fd(existing.number, &info, &bytes) == 0, isAt(info), bpf_link_update(existing.number, descriptor, nil) == 0 { return }
            bpf_link_detach(existing.number)
            unlink(path)
        }
        let link = try Descriptor(bpf_link_create(descriptor, target.number, type, nil), "cannot attach \(program)")
        guard bpf_obj_pin(link.number, path) == 0 else { throw .failed(step: "cannot pin the link at \(path)", errorNumber: errno) }
    }
}
