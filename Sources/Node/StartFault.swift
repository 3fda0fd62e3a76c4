/// Why node cannot start or go on, in words for the person at the terminal.
public enum StartFault: Error, Equatable {
    /// The machine or the privilege lacks something: exit code 69.
    case lacking(String)
    /// A wrong argument: exit code 64.
    case usage(String)
    /// Anything else: exit code 1.
    case failed(String)

    public var message: String {
        switch self { case .lacking(let text), .usage(let text), .failed(let text): text }
    }
    public var exitCode: Int32 {
        switch self { case .lacking: 69; case .usage: 64; case .failed: 1 }
    }
}
