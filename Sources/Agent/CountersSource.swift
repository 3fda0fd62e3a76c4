import Glibc
import Logging
import Telemetry

/// The proxy's counters, mapped read-only.
struct CountersSource: Sendable {
    let reader: CountersReader

    /// The descriptor is closed in every case; nil, with a line in the log, when it is not counters of this build.
    init?(adopting descriptor: Int32, logger: Logger) {
        defer { close(descriptor) }
        do throws(CountersFault) {
            reader = CountersReader(try CountersRegion.map(descriptor, writable: false))
        } catch {
            logger.error("the proxy's counters cannot be read", metadata: ["fault": "\(error)"])
            return nil
        }
    }
}
