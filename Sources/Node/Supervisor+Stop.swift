import CLinux
import ControlChannel
import Glibc

/// running ──signal──▶ draining ──proxy ended, or time over──▶ undoing ──children ended, namespaces put back──▶ done
enum Stopping {
    /// New connections go direct already; the proxy finishes what runs and ends by itself, at the latest at its deadline.
    /// Killed only after this time.
    case draining(until: UInt64)
    /// Children are told to end and namespaces are put back; whoever has not ended by then is killed.
    case undoing(until: UInt64)
    case done
}

/// The clean end: nothing of Weft is left in the kernel, in namespaces or in cgroups.
///
/// But for strict pods: their hooks stay, and refuse, until a next node serves them again. An upgrade ends a node too, and must not open them meanwhile.
extension Supervisor {
    var isStopped: Bool {
        if case .done? = stopping { return true }
        return false
    }

    func beginStopping(now: UInt64, signal: Int32) {
        guard stopping == nil else {
            // A second Ctrl-C: no more waiting.
            if case .draining? = stopping { stopping = .draining(until: now) }
            return
        }
        Log.info("stopping", ("signal", "\(signal)"))
        stopping = .draining(until: now + UInt64(Limits.drainMilliseconds) + Limits.silentMilliseconds)
        for pod in pods.values where !staysClosed(pod) {
            if case .enrolled(let enrolment) = pod.stage { leave(pod, enrolment, now: now, grace: UInt64(Limits.drainMilliseconds) * 2) }
            pod.wish = nil
        }
        for cookie in adopted.keys where !capture.isStrict(cookie: cookie) { try? capture.unenrol(cookie: cookie) }
        sendToProxy(Drain(deadlineMilliseconds: Limits.drainMilliseconds))
        if case .waiting = proxy.state { proxy.state = .stopped }
        if case .waiting = agent.state { agent.state = .stopped }
    }

    func goOnStopping(now: UInt64) {
        switch stopping {
        case nil, .done: return
        case .draining(let until):
            guard now >= until || proxy.running == nil else { return pace(now) }
            proxy.running?.kill()
            if let agent = agent.running { Glibc.kill(agent.pid, SIGTERM) }
            putBackLeavingPods()
            forgetAdopted()
            stopping = .undoing(until: now + Limits.agentStopMilliseconds)
            pace(now)
        case .undoing(let until):
            if now >= until { agent.running?.kill() }
            // One whose set-up was under way when the stop began arrives here late.
            putBackLeavingPods()
            guard proxy.running == nil, agent.running == nil, namespaceThread.jobsUnderWay == 0 else { return pace(now) }
            stopping = .done
        }
    }

    private func putBackLeavingPods() {
        for pod in pods.values {
            if case .leaving(let enrolment, _) = pod.stage { tearDown(pod, enrolment) }
        }
    }

    /// While stopping the loop looks around every 20 ms.
    private func pace(_ now: UInt64) { nextWatch = min(nextWatch, now + 20) }

    /// A pod that the hooks refuse to everybody when its proxy is gone, and shall.
    private func staysClosed(_ pod: Pod) -> Bool {
        if case .enrolled(let enrolment) = pod.stage { return enrolment.applied.flags.contains(.strict) }
        return false
    }

    /// After the loop: what belongs to node as a whole.
    func undo() {
        let closed = pods.values.count { $0.enrolment != nil } + adopted.count
        if closed > 0 {
            saveState()
            Log.warning("strict pods stay closed until a next node serves them; weft node --cleanup opens them", ("pods", "\(closed)"))
        } else {
            do throws(CaptureRefusal) { try capture.detachAll() } catch { Log.error("the hooks were not detached entirely", ("reason", error.reason)) }
            if changing.isEmpty { stateFile.remove() }
        }
        unlink(configuration.stateDirectory + "/agent/admin.sock")
    }
}
