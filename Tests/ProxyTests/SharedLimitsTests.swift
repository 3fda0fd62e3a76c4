import EventLoop
import MeshModel
import Telemetry
import Testing
import Upstream

@testable import Proxy

/// Modules of one floor do not know each other, so a number that two of them live by is written twice. The proxy links them all.
@Suite struct SharedLimitsTests {
    @Test func theCountersHaveRoomForWhatTheModelAllows() {
        #expect(CountersLayout.workersMax == Limits.workersMax)
        #expect(CountersLayout.podsMax == Limits.podsMax)
    }

    @Test func aSlowTurnIsNotDeath() {
        #expect(Heartbeat.intervalNanoseconds * 10 <= Nanoseconds(Limits.heartbeatSilenceMillisecondsMax) * 1_000_000)
    }

    /// Otherwise our clients close first, and we keep upstream connections for nobody.
    @Test func upstreamConnectionsRestShorterThanDownstreamOnes() {
        #expect(Int(IdleLimit.millisecondsMax) < Limits.idleTimeoutMilliseconds)
    }

    @Test func oneConnectionFitsIntoItsPodsBudget() {
        #expect(WorkerSizes.outputBytesMax * 2 <= Limits.bufferedBytesPerPodMax)
    }
}
