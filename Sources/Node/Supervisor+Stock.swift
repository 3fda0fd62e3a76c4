import CLinux
import ControlChannel
import Glibc

/// What a worker asks for on its own channel: sockets in pods, and pipes. Bounded by request, by pod and second, and by the worker's
/// readiness to take them.
extension Supervisor {
    func takeFromWorker(_ message: ControlMessage, child: RunningChild, worker: Int) throws(ControlFault) {
        switch message.kind {
        case .socketsWanted: giveSockets(try SocketsWanted(message), to: child, worker)
        case .pipesWanted: givePipes(try PipesWanted(message), to: child.stock[worker])
        default: try refuseKind(message)
        }
    }

    private func giveSockets(_ wanted: SocketsWanted, to child: RunningChild, _ worker: Int) {
        let channel = child.stock[worker]
        func refuse(_ number: Int32) {
            _ = channel.sendNow(SocketsRefused(pod: wanted.pod, family: wanted.family, socketKind: wanted.socketKind, errorNumber: UInt32(number)))
        }
        guard (1...SocketsWanted.countMax).contains(wanted.count) else { return refuse(EINVAL) }
        guard let uid = uidOfNumber[wanted.pod], let enrolment = pods[uid]?.enrolment else { return refuse(ENOENT) }
        let granted = enrolment.stock.take(wanted.count, now: monotonicMilliseconds())
        guard granted > 0 else { return refuse(EMFILE) }
        let namespace = enrolment.namespace
        let accepted = namespaceThread.submit(in: namespace.descriptor) { entry -> Result<[Int32], SystemFault> in
            _ = namespace       // open until the job is done
            guard entry == 0 else { return .failure(SystemFault(step: "entering the network namespace", number: entry)) }
            return PodNetwork.stock(isIPv6: wanted.family == .ipv6, isTransparent: wanted.socketKind == .transparent, count: Int(granted))
        } finish: { answer in
            switch answer {
            case .failure(let fault): refuse(fault.number)
            case .success(let sockets):
                // Without room the worker is not reading: the sockets are closed, and it asks again.
                let made = SocketsMade(pod: wanted.pod, family: wanted.family, socketKind: wanted.socketKind, sockets: sockets)
                if !channel.sendNow(made) { refuse(EAGAIN) }
                for socket in sockets { clinux_close(socket) }
            }
        }
        if !accepted { refuse(EAGAIN) }
    }

    private func givePipes(_ wanted: PipesWanted, to channel: ChildChannel) {
        guard (1...PipesWanted.countMax).contains(wanted.count) else {
            _ = channel.sendNow(PipesRefused(errorNumber: UInt32(EINVAL)))
            return
        }
        let granted = channel.pipes.take(wanted.count, now: monotonicMilliseconds())
        guard granted > 0 else {
            _ = channel.sendNow(PipesRefused(errorNumber: UInt32(EMFILE)))
            return
        }
        let bytes = Int32(min(max(wanted.capacityBytes, 4_096), Limits.pipeBytesMax))
        var ends: [Int32] = [], smallest = Int32.max, failure: Int32 = 0
        for _ in 0..<granted {
            var pair: (Int32, Int32) = (-1, -1)
            let size = clinux_pipe(&pair.0, &pair.1, bytes)
            guard size > 0 else { failure = -size; break }
            ends += [pair.0, pair.1]
            smallest = min(smallest, size)
        }
        defer { for end in ends { clinux_close(end) } }
        if ends.isEmpty || !channel.sendNow(PipesMade(capacityBytes: UInt32(smallest), ends: ends)) {
            _ = channel.sendNow(PipesRefused(errorNumber: UInt32(ends.isEmpty ? failure : EAGAIN)))
        }
    }
}
