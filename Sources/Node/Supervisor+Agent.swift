import CLinux
import ControlChannel
import Glibc

/// The agent: started, told what exists, obeyed within limits.
extension Supervisor {
    func startAgent(now: UInt64) {
        agent.incarnation += 1
        let incarnation = agent.incarnation
        let program = ChildProgram(
            path: configuration.ownPath,
            arguments: [
                "agent", "--control-fd", "3", "--node-name", configuration.nodeName, "--manifests", configuration.manifests,
                "--state-dir", configuration.stateDirectory, "--metrics-address", configuration.metricsAddress,
                "--data-dir", configuration.dataDirectory,
            ] + configuration.agentOptions,
            user: uid_t(CLINUX_AGENT_USER), room: .agent)
        do throws(StartFault) {
            let child = try start(program, incarnation: incarnation, stockChannels: 0, cgroups: cgroups)
            agent.state = .running(child)
            agentHasSpoken = false
            shards.beginAgent()
            identities.beginAgent()
            poller.watch(child.channel.descriptor, for: .agent(incarnation: incarnation))
            Log.info("agent started", ("pid", "\(child.pid)"), ("incarnation", "\(incarnation)"))
            tellAgentEverything(incarnation)
        } catch {
            Log.error(error.message)
            agent.state = .waiting(until: now + agent.backoff.pause(started: now, ended: now))
        }
    }

    private func tellAgentEverything(_ incarnation: UInt32) {
        sendToAgent(AgentHello(
            incarnation: incarnation, nodeName: configuration.nodeName, verdictNames: capture.verdictNames,
            kubeletCgroup: configuration.kubeletCgroup ?? "", counters: countersReadOnly, verdicts: capture.verdicts, heartbeat: capture.heartbeatReadOnly))
        sendToAgent(currentProcessState)
        for pod in pods.values {
            pod.reported = nil
            report(pod)
        }
        // A restarted agent goes on counting where its predecessor stopped.
        if let generation = shards.generation { sendToAgent(SnapshotAccepted(generation: generation)) }
        if let appliedGeneration { sendToAgent(SnapshotApplied(generation: appliedGeneration)) }
        identities.tellAgent { sendToAgent($0) }
    }

    /// Sends to the running agent; without one nothing is lost, the next is told everything.
    func sendToAgent(_ payload: some ControlPayload) {
        guard let child = agent.running else { return }
        child.channel.send(payload)
        arm(child.channel, .agent(incarnation: child.incarnation))
    }

    func agentEnded(_ child: RunningChild, now: UInt64) {
        if stopping != nil { agent.state = .stopped; return }
        // Traffic goes on: the proxy has its snapshot, the pods keep their last state.
        agent.state = .waiting(until: now + agent.backoff.pause(started: child.started, ended: now))
    }

    func take(_ message: ControlMessage, from child: RunningChild) throws(ControlFault) {
        switch message.kind {
        case .podEnrol: enrol(try PodEnrol(message), by: child.incarnation)
        case .podUnenrol: unenrol(try PodUnenrol(message).uid)
        case .shardPublished:
            let shard = try ShardPublished(message)
            if let reason = shards.stage(shard) {
                Log.error("a shard was refused", ("family", "\(shard.family)"), ("index", "\(shard.index)"), ("reason", reason))
            }
        case .snapshotComplete: complete(try SnapshotComplete(message).generation, by: child.incarnation)
        default: if try !takeIdentity(message) { try refuseKind(message) }
        }
    }

    private func complete(_ generation: UInt64, by incarnation: UInt32) {
        for change in shards.complete(generation: generation) { sendToProxy(change) }
        sendToProxy(SnapshotComplete(generation: generation))
        sendToAgent(SnapshotAccepted(generation: generation))
        snapshotsCompleted += 1
        guard !agentHasSpoken else {
            for pod in Array(pods.values) where pod.snapshotsBefore + 1 == snapshotsCompleted { reconcile(pod, now: monotonicMilliseconds()) }
            return
        }
        agentHasSpoken = true
        // By now this agent has asked for every pod it knows: the rest is gone, whoever wanted it before.
        for pod in pods.values where pod.wishedBy != incarnation && pod.wish != nil {
            Log.info("nobody asks for a pod any more", ("pod", pod.wish?.name ?? pod.uid))
            unenrol(pod.uid)
        }
        checkPods(now: monotonicMilliseconds())
    }
}
