import Glibc

/// One line on stderr: `<RFC 3339 time> <level> proxy <message> key=value…`. For the control thread: the data path counts instead of talking.
public func say(_ level: String, _ message: String, _ details: String = "") {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let milliseconds = now.tv_nsec / 1_000_000
    let fraction = milliseconds < 10 ? "00\(milliseconds)" : milliseconds < 100 ? "0\(milliseconds)" : "\(milliseconds)"
    let date = "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)Z"
    var line = "\(date) \(level) proxy \(message)"
    if !details.isEmpty { line += " " + details }
    line += "\n"
    line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
}
