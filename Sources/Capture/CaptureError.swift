import Glibc

/// Why the hooks are not where they should be.
public enum CaptureError: Error, Equatable, Sendable {
    /// The machine or this process lacks something; the text says what, and what to do.
    case lacking(String)
    /// The kernel's verifier refused a program; its last words say why.
    case rejected(program: String, lastLines: [String])
    /// A step failed for another reason.
    case failed(step: String, errorNumber: Int32)
}

extension CaptureError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .lacking(let what): what
        case .rejected(let program, let lastLines):
            "the kernel refused the program \(program): \(lastLines.joined(separator: " | "))"
        case .failed(let step, let errorNumber): "\(step): \(String(cString: strerror(errorNumber)))"
        }
    }
}

extension CaptureError {
    /// What an unsuccessful load means: a thing that is missing where one can be named, else the verifier's words, else the bare error.
    static func load(errorNumber: Int32, rejected: (program: String, lastLines: [String])?) -> CaptureError {
        if errorNumber == EPERM && rejected == nil {
            return .lacking("loading BPF programs is not permitted: run weft node as root, with at least CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.")
        }
        guard access("/sys/kernel/btf/vmlinux", R_OK) == 0 else {
            return .lacking("this kernel has no type information at /sys/kernel/btf/vmlinux: use a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's and Ubuntu's are).")
        }
        let release = kernelRelease()
        if isTooOld(release) {
            return .lacking("kernel \(release) is too old for Weft's programs: use 6.1 or later.")
        }
        if let rejected { return .rejected(program: rejected.program, lastLines: rejected.lastLines) }
        return .failed(step: "cannot load the BPF programs", errorNumber: errorNumber)
    }

    private static func kernelRelease() -> String {
        var name = utsname()
        uname(&name)
        return withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Tested from 6.1 on; bpf_set_retval, the youngest call in use, came with 5.18.
    private static func isTooOld(_ release: String) -> Bool {
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 && (numbers[0], numbers[1]) < (6, 1)
    }
}
