import CLinux
import ControlChannel
import Discovery
import Foundation
import Identity
import Logging
import ServiceLifecycle

/// What is revoked, from mesh-wide policies and from a CRL file, as one list for the proxy. Sent when it has changed, and once at first, so that
/// a list of an earlier agent does not stay in force by accident.
actor RevocationDesk {
    private let file: String?
    private let logger: Logger
    private let send: @Sendable ([Outgoing]) -> Void

    private var policies: RevocationList?
    private var fileSerials: [String] = []
    /// Modification time and size of the file as last read.
    private var stamp: String?
    private var lastSent: [UInt8]?
    private var generation: UInt64 = 0
    /// Why the file's last good content stays in force; nil when it is the file's.
    private(set) var fault: String?

    /// - Parameter file: PEM, one or several CRLs; nil: none.
    init(file: String?, logger: Logger, send: @escaping @Sendable ([Outgoing]) -> Void) {
        (self.file, self.logger, self.send) = (file, logger, send)
    }

    /// What the policies say now.
    func take(_ list: RevocationList) {
        policies = list
        publish()
    }

    /// Looks whether the file has changed.
    func readFile() {
        guard let file else { return }
        do {
            let attributes = try FileManager.default.attributesOfItem(atPath: file)
            let now = "\(attributes[.modificationDate] ?? "") \(attributes[.size] ?? "") \(attributes[.systemFileNumber] ?? "")"
            guard now != stamp else { return }
            fileSerials = try RevocationFile.serials(pem: Data(contentsOf: URL(fileURLWithPath: file)))
            stamp = now
            fault = nil
            logger.info("revocations read", metadata: ["file": "\(file)", "serials": "\(fileSerials.count)"])
            publish()
        } catch {
            let reason = "\(file): \(error)"
            if reason != fault { logger.error("revocations cannot be read; those known stay in force", metadata: ["reason": "\(reason)"]) }
            fault = reason
        }
    }

    /// Certificates and identities that are revoked.
    var count: Int { Set((policies?.serials ?? []) + fileSerials).count + (policies?.identities.count ?? 0) }

    private func publish() {
        // Before the manifests were read nothing is known, and a list without their part would give back what they take away.
        guard let policies else { return }
        var text = "# \(count) revoked\n"
        for serial in Set(policies.serials + fileSerials).sorted() { text += "serial \(serial)\n" }
        for identity in policies.identities { text += "identity \(identity)\n" }
        let bytes = Array(text.utf8)
        guard bytes != lastSent else { return }
        let descriptor = bytes.withUnsafeBytes { clinux_memory_sealed("weft-revocations", $0.baseAddress, $0.count, true) }
        guard descriptor >= 0 else {
            logger.error("no memory for the list of revocations", metadata: ["errno": "\(-descriptor)"])
            return
        }
        // Greater than any of an earlier agent.
        generation = max(generation + 1, UInt64(Date().timeIntervalSince1970 * 1_000))
        lastSent = bytes
        send([Outgoing(Revocations(generation: generation, list: descriptor))])
        logger.info("revocations published", metadata: ["generation": "\(generation)", "count": "\(count)"])
    }
}

/// Looks at the CRL file often enough that a revocation takes effect within a second.
struct RevocationService: Service {
    let desk: RevocationDesk

    func run() async throws {
        await cancelWhenGracefulShutdown {
            repeat { await desk.readFile() } while (try? await Task.sleep(for: .milliseconds(AgentLimits.revocationFileReadMilliseconds))) != nil
        }
    }
}
