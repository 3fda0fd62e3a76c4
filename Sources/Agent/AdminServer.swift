import Foundation
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// The agent's HTTP: metrics and health on 15020, and the same plus the status on a unix socket.
struct AdminServer {
    let plane: ControlPlane
    let desk: IdentityDesk
    let signals: SignalSource
    let logger: Logger
    private let pages = PageDesk()

    init(plane: ControlPlane, desk: IdentityDesk, signals: SignalSource, logger: Logger) {
        (self.plane, self.desk, self.signals, self.logger) = (plane, desk, signals, logger)
    }

    /// - Parameter isPrivate: for the unix socket, which root and the agent's group can open.
    func router(isPrivate: Bool) -> Router<BasicRequestContext> {
        let router = Router()
        router.get("healthz") { _, _ in Self.text(.ok, "ok\n") }
        router.get("readyz") { [plane] _, _ in
            let missing = await plane.notReady
            return missing.isEmpty ? Self.text(.ok, "ready\n") : Self.text(.serviceUnavailable, missing.map { "not ready: \($0)\n" }.joined())
        }
        router.get("metrics") { [plane, desk, signals, pages] _, _ in
            guard let pieces = pages.begin(await MetricsPage(plane: plane, desk: desk, signals: signals)) else {
                return Self.text(.serviceUnavailable, "\(AgentLimits.pagesMax) pages are being written already; scrape less often\n")
            }
            return Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody { writer in
                    while let piece = try await pieces.next() { try await writer.write(ByteBuffer(bytes: piece)) }
                    try await writer.finish(nil)
                })
        }
        router.get("status.json") { [plane, desk] _, _ in
            await plane.readDecisions()
            var status = await plane.status
            status.identities = await desk.status
            return Response(
                status: .ok, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: try StatusJSON.encode(status))))
        }
        guard isPrivate else { return router }
        router.post("explain.json") { [plane] request, _ in
            let body = try await request.body.collect(upTo: AgentLimits.inquiryBytesMax)
            guard let inquiry = try? JSONDecoder().decode(AccessInquiry.self, from: Data(buffer: body)) else {
                return Self.text(.badRequest, "that is no inquiry that this agent understands\n")
            }
            do throws(InquiryFault) {
                let explanation = try await plane.explain(inquiry)
                let bytes = (try? StatusJSON.encode(explanation)) ?? []
                return Response(status: .ok, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
            } catch {
                return Self.text(.badRequest, error.description)
            }
        }
        return router
    }

    /// A listener that is opened again when it cannot be opened: metrics may fail, publishing must not fail with them.
    func service(at address: BindAddress, called name: String, isPrivate: Bool) -> any Service {
        let application = Application(
            router: router(isPrivate: isPrivate),
            server: .http1(configuration: .init(idleTimeout: .seconds(AgentLimits.adminIdleSecondsMax))),
            configuration: ApplicationConfiguration(
                address: address, availableConnectionsDelegate: .maximum(AgentLimits.adminConnectionsMax, logger: quiet)),
            onServerRunning: { [logger] _ in logger.info("listening", metadata: ["on": "\(name)"]) },
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), logger: quiet)
        return PersistentService(name: name, logger: logger) { try await application.run() }
    }

    /// Hummingbird tells of each start and connection; what matters of that, PersistentService says.
    private var quiet: Logger {
        var logger = logger
        logger.logLevel = .error
        return logger
    }

    private static func text(_ status: HTTPResponse.Status, _ text: String) -> Response {
        Response(status: status, headers: [.contentType: "text/plain; charset=utf-8"], body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}

/// Runs a service again and again until it ends by itself or the group shuts down.
struct PersistentService: Service {
    let name: String
    let logger: Logger
    let body: @Sendable () async throws -> Void

    func run() async throws {
        var lastFailure = ""
        while !Task.isCancelled {
            do {
                return try await body()
            } catch {
                // The same reason every second is one line, not a stream of them.
                if "\(error)" != lastFailure {
                    logger.error("cannot listen; trying again every second", metadata: ["on": "\(name)", "error": "\(error)"])
                }
                lastFailure = "\(error)"
                try await cancelWhenGracefulShutdown { try await Task.sleep(for: .milliseconds(AgentLimits.listenRetryMilliseconds)) }
            }
        }
    }
}
