import EventLoop
import HTTPCodec
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

    /// What is too large in one version of HTTP must not pass by way of the other.
    @Test func bothVersionsOfHTTPTakeTheSameHeads() {
        #expect(HTTP2Limits.standard.headListBytesMax == HeadLimits.standard.headBytesMax)
        #expect(HTTP2Limits.standard.fieldsMax == HeadLimits.standard.fieldsMax)
    }

    @Test func oneSessionFitsIntoItsPodsBudget() {
        #expect(HTTP2Limits.standard.heldBytesMax + HTTP2Limits.standard.queueBytesPerSession <= Limits.bufferedBytesPerPodMax)
        #expect(HTTP2Limits.standard.streamsMax <= Limits.streamsPerPodMax && Limits.streamsPerPodMax <= Limits.streamsPerWorkerMax)
    }

    @Test func oneStreamsWindowFitsIntoTheOutputOfAnHTTP1Connection() {
        // Each byte in a chunk of its own: "1", line end, the byte, line end.
        #expect(HTTP2Limits.standard.streamWindowBytes * 6 <= WorkerSizes.outputBytesMax)
    }

    @Test func aRequestThatItsReplyHasOvertakenIsLookedAtInTime() {
        #expect(UInt64(ProxyLimits().answeredMilliseconds) * 1_000_000 == HTTP2Limits.standard.answeredNanosecondsMax)
    }

    /// gRPC's servers end a connection that asks more often; and our idle sessions go before their servers' patience does.
    @Test func serversAreAskedRarely() {
        #expect(ProxyLimits().serverPingMilliseconds >= 300_000)
        #expect(ProxyLimits().sessionRestMilliseconds < ProxyLimits().idleMilliseconds)
    }
}
