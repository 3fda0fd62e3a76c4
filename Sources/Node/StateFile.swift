import Glibc

/// What a node that was killed must still put back: one line per pod whose namespace was changed, in `<state-dir>/node/pods.state`.
///
/// Written before a namespace is changed and after it was restored, to a new file that replaces the old one.
struct StateFile {
    let path: String

    struct Entry: Equatable {
        /// Where the namespace was found.
        var namespacePath: String
        var identity: NamespaceIdentity
        var before: PodNetworkBefore
    }

    private static let header = "weft-pods 1"

    static func encode(_ entries: [Entry]) -> String {
        var text = header + "\n"
        for entry in entries.sorted(by: { $0.before.namespaceCookie < $1.before.namespaceCookie }) {
            let settings = entry.before.settings.map { $0 ?? "-" }.joined(separator: ",")
            text += "\(entry.before.namespaceCookie) \(entry.identity.device) \(entry.identity.inode) \(settings) \(entry.namespacePath)\n"
        }
        return text
    }

    /// Nil when the text is not a state file of this version. A line that cannot be read is left out and the others count.
    static func decode(_ text: String) -> [Entry]? {
        var lines = text.split(separator: "\n")
        guard let first = lines.first, first == header else { return nil }
        lines.removeFirst()
        return lines.compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 4)
            guard fields.count == 5, let cookie = UInt64(fields[0]), let device = UInt64(fields[1]), let inode = UInt64(fields[2]), fields[4].hasPrefix("/")
            else { return nil }
            let settings = fields[3].split(separator: ",", omittingEmptySubsequences: false)
            // Values are written back into /proc/sys: numbers only.
            guard settings.count == PodNetwork.settings.count, settings.allSatisfy({ $0 == "-" || Int($0) != nil }) else { return nil }
            return Entry(
                namespacePath: String(fields[4]), identity: NamespaceIdentity(device: device, inode: inode),
                before: PodNetworkBefore(namespaceCookie: cookie, settings: settings.map { $0 == "-" ? nil : String($0) }))
        }
    }

    func read() -> [Entry] { readWhole(path, bytesMax: Limits.stateFileBytesMax).flatMap(Self.decode) ?? [] }

    /// Replaces the file; an errno on failure. Survives a killed process, which is what it is for; a machine that stops has no namespaces
    /// left to restore.
    func write(_ entries: [Entry]) -> Int32 {
        let fresh = path + ".new"
        var text = Self.encode(entries)
        let number = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard number >= 0 else { return errno }
        let isWritten = text.withUTF8 { Glibc.write(number, $0.baseAddress, $0.count) == $0.count }
        let error = errno
        close(number)
        guard isWritten else { return error == 0 ? EIO : error }
        return rename(fresh, path) == 0 ? 0 : errno
    }

    func remove() { unlink(path); unlink(path + ".new") }
}
