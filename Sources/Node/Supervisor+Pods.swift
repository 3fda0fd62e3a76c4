import CLinux
import ControlChannel
import Glibc

/// Pods: from the agent's wish to hooks, listeners and rules, and back.
extension Supervisor {
    func enrol(_ wish: PodEnrol, by incarnation: UInt32) {
        guard stopping == nil else { return }
        let pod: Pod
        if let known = pods[wish.uid] {
            pod = known
            pod.wish = wish
            pod.wishedBy = incarnation
            // A new wish deserves a new try, whatever became of the last.
            if case .absent = pod.stage { pod.stage = .absent(nil, retry: 0) }
        } else {
            guard pods.count < Limits.podsMax else {
                sendToAgent(PodState(uid: wish.uid, state: .refused, reason: "this node has \(Limits.podsMax) pods already"))
                return
            }
            pod = Pod(uid: wish.uid, wish: wish, wishedBy: incarnation, snapshotsBefore: snapshotsCompleted, now: monotonicMilliseconds())
            pods[wish.uid] = pod
        }
        // Every wish is answered, also one that changes nothing.
        pod.reported = nil
        reconcile(pod, now: monotonicMilliseconds())
        report(pod)
    }

    /// Tells the agent what became of a pod, unless it knows.
    func report(_ pod: Pod) {
        let report = pod.report
        guard report != pod.reported else { return }
        pod.reported = report
        sendToAgent(report)
    }

    func unenrol(_ uid: String) {
        guard let pod = pods[uid] else {
            sendToAgent(PodState(uid: uid, state: .gone))
            return
        }
        pod.wish = nil
        reconcile(pod, now: monotonicMilliseconds())
    }

    /// Takes the next step from what is to what is wished. Called at every wish, at the end of every job, and once a second.
    func reconcile(_ pod: Pod, now: UInt64) {
        switch (pod.stage, pod.wish) {
        case (.absent, nil):
            pods[pod.uid] = nil
            sendToAgent(PodState(uid: pod.uid, state: .gone))
        case (.absent(let refusal, let retry), let wish?):
            // Without a snapshot the proxy would answer for services it has never heard of. The first is on its way behind the wishes; and behind a
            // later wish comes the one that says who the pod is and who may call it.
            guard shards.generation != nil, refusal == nil || retry != 0 && now >= retry,
                snapshotsCompleted > pod.snapshotsBefore || now >= pod.wishedAt + Limits.snapshotAwaitedMilliseconds
            else { return }
            begin(pod, wish, now: now)
        case (.enrolled(let enrolment), let wish?):
            let isSamePlace = wish.networkNamespacePath == enrolment.path && NamespaceIdentity(path: enrolment.path) == enrolment.namespace.identity
            if !isSamePlace { leave(pod, enrolment, now: now, grace: 0) } else if wish != enrolment.applied { update(pod, enrolment, wish) }
        case (.enrolled(let enrolment), nil):
            leave(pod, enrolment, now: now, grace: Limits.leavingMilliseconds)
        case (.leaving(let enrolment, let until), let wish):
            if let wish, wish.networkNamespacePath == enrolment.path {
                update(pod, enrolment, wish)
            } else if now >= until {
                tearDown(pod, enrolment)
            }
        case (.settingUp, _), (.tearingDown, _):
            return
        }
    }

    /// Once a second: pods that wait for something, namespaces that disappeared or were replaced behind our back, graces that are over.
    func checkPods(now: UInt64) {
        if agentHasSpoken { forgetAdopted() }
        for pod in Array(pods.values) { reconcile(pod, now: now) }
        do throws(CaptureRefusal) { try capture.followKubelet() } catch {
            Log.error("the kubelet's cgroup is not watched: strict pods refuse its probes", ("reason", error.reason))
        }
    }

    // MARK: Coming

    private func begin(_ pod: Pod, _ wish: PodEnrol, now: UInt64) {
        do throws(PodRefusal) {
            try checkCgroup(wish.cgroupPath)
            guard !wish.addresses.isEmpty else { throw PodRefusal(reason: "the pod has no address", mayPass: false) }
            let namespace = try namespaceRoot.open(wish.networkNamespacePath)
            pod.stage = .settingUp
            let accepted = namespaceThread.submit(in: namespace.descriptor) { entry -> Result<PodNetworkBefore, SystemFault> in
                guard entry == 0 else { return .failure(SystemFault(step: "entering the network namespace", number: entry)) }
                do throws(SystemFault) { return .success(try PodNetwork.inspect()) } catch { return .failure(error) }
            } finish: { [self] answer in
                switch answer {
                case .failure(let fault): refuse(pod, PodRefusal(reason: fault.text, mayPass: true))
                case .success(let before): setUp(pod, wish, namespace, before)
                }
            }
            if !accepted { throw PodRefusal(reason: "too many pods at once", mayPass: true) }
        } catch {
            refuse(pod, error)
        }
    }

    private func checkCgroup(_ path: String) throws(PodRefusal) {
        guard NamespaceRoot.isBelow(path, root: configuration.podsCgroup) else {
            throw PodRefusal(reason: "cgroup \(path) is not below \(configuration.podsCgroup), where the hooks are", mayPass: false)
        }
        guard access(path + "/cgroup.procs", F_OK) == 0 else {
            throw PodRefusal(reason: "cgroup \(path) does not exist in the v2 hierarchy", mayPass: true)
        }
    }

    /// The namespace is known: note what must be put back, then change it.
    private func setUp(_ pod: Pod, _ wish: PodEnrol, _ namespace: NamespaceFile, _ found: PodNetworkBefore) {
        let cookie = found.namespaceCookie
        if let other = uidOfCookie[cookie], other != pod.uid {
            return refuse(pod, PodRefusal(reason: "its network namespace belongs to pod \(pods[other]?.wish?.name ?? other) already", mayPass: true))
        }
        // Left by a previous node: the settings found now are ours, the pod's own are in the record.
        let before = adopted.removeValue(forKey: cookie)?.entry.before ?? found
        uidOfCookie[cookie] = pod.uid
        changing[cookie] = StateFile.Entry(namespacePath: wish.networkNamespacePath, identity: namespace.identity, before: before)
        saveState()
        let accepted = namespaceThread.submit(in: namespace.descriptor) { entry -> Result<(PodListeners, Int), SystemFault> in
            guard entry == 0 else { return .failure(SystemFault(step: "entering the network namespace", number: entry)) }
            do throws(SystemFault) {
                let listeners = try PodNetwork.setUp(before: before)
                return .success((listeners, PodNetwork.olderConnections()))
            } catch { return .failure(error) }
        } finish: { [self] answer in
            changing[cookie] = nil
            switch answer {
            case .failure(let fault):
                release(cookie)
                refuse(pod, PodRefusal(reason: fault.text, mayPass: true))
            case .success(let (listeners, olderConnections)):
                lastPodNumber += 1
                let enrolment = Enrolment(
                    number: lastPodNumber, namespace: namespace, path: wish.networkNamespacePath, before: before, listeners: listeners,
                    olderConnections: UInt32(clamping: olderConnections), applied: wish)
                engage(pod, enrolment)
            }
        }
        if !accepted {
            changing[cookie] = nil
            release(cookie)
            refuse(pod, PodRefusal(reason: "too many pods at once", mayPass: true))
        }
    }

    /// Listeners stand: the proxy first, so that somebody accepts when the hooks start to send.
    private func engage(_ pod: Pod, _ enrolment: Enrolment) {
        uidOfNumber[enrolment.number] = pod.uid
        tellProxy(of: enrolment)
        do throws(CaptureRefusal) {
            try capture.enrol(
                enrolment.applied, pod: enrolment.number, cookie: enrolment.before.namespaceCookie, namespace: enrolment.namespace.descriptor,
                listeners: enrolment.listeners)
        } catch {
            pod.stage = .absent(PodRefusal(reason: error.reason, mayPass: true), retry: 0)
            Log.error("a pod could not be captured", ("pod", enrolment.applied.name), ("reason", error.reason))
            return tearDown(pod, enrolment)
        }
        pod.stage = .enrolled(enrolment)
        pod.lastRefusal = nil
        saveState()
        Log.info(
            "pod enrolled", ("pod", "\(enrolment.applied.namespace)/\(enrolment.applied.name)"), ("number", "\(enrolment.number)"),
            ("listeners", "\(enrolment.listeners.all.count)"), ("older_connections", "\(enrolment.olderConnections)"))
        report(pod)
        reconcile(pod, now: monotonicMilliseconds())
    }

    /// New settings for a pod whose listeners stand; also brings back one that was leaving.
    private func update(_ pod: Pod, _ enrolment: Enrolment, _ wish: PodEnrol) {
        var enrolment = enrolment
        do throws(CaptureRefusal) {
            try capture.enrol(
                wish, pod: enrolment.number, cookie: enrolment.before.namespaceCookie, namespace: enrolment.namespace.descriptor,
                listeners: enrolment.listeners)
        } catch {
            Log.error("a pod's settings could not be changed", ("pod", wish.name), ("reason", error.reason))
            pod.stage = .enrolled(enrolment)
            return
        }
        enrolment.applied = wish
        pod.stage = .enrolled(enrolment)
        tellProxyOfSettings(enrolment)
        report(pod)
    }

    private func refuse(_ pod: Pod, _ refusal: PodRefusal) {
        if pod.lastRefusal != refusal {
            pod.lastRefusal = refusal
            Log.warning("pod not enrolled", ("pod", pod.wish.map { "\($0.namespace)/\($0.name)" } ?? pod.uid), ("reason", refusal.reason))
        }
        pod.stage = .absent(refusal, retry: refusal.mayPass ? monotonicMilliseconds() + Limits.podCheckMilliseconds : 0)
        if pod.wish == nil { reconcile(pod, now: monotonicMilliseconds()) } else { report(pod) }
    }

    // MARK: Going

    /// Out of capture at once; the rest after the grace, so that what runs may finish.
    func leave(_ pod: Pod, _ enrolment: Enrolment, now: UInt64, grace: UInt64) {
        do throws(CaptureRefusal) { try capture.unenrol(cookie: enrolment.before.namespaceCookie) } catch {
            Log.error("a pod could not be taken out of capture", ("pod", enrolment.applied.name), ("reason", error.reason))
        }
        pod.stage = .leaving(enrolment, until: now + grace)
        report(pod)
        if grace == 0 { tearDown(pod, enrolment) }
    }

    /// Listeners, rules, routes and settings, all back to what was.
    func tearDown(_ pod: Pod, _ enrolment: Enrolment) {
        let cookie = enrolment.before.namespaceCookie, before = enrolment.before
        let refusal: PodRefusal? = if case .absent(let refusal, _) = pod.stage { refusal } else { nil }
        sendToProxy(PodRemoved(pod: enrolment.number))
        uidOfNumber[enrolment.number] = nil
        enrolment.listeners.close()
        pod.stage = .tearingDown
        changing[cookie] = enrolment.stateEntry
        restore(enrolment.namespace, before) { [self] fault in
            changing[cookie] = nil
            release(cookie)
            if let fault { Log.error("a pod's namespace was not put back entirely", ("pod", enrolment.applied.name), ("fault", fault.text)) }
            Log.info("pod unenrolled", ("pod", "\(enrolment.applied.namespace)/\(enrolment.applied.name)"), ("number", "\(enrolment.number)"))
            if let refusal { refuse(pod, refusal) } else {
                pod.stage = .absent(nil, retry: 0)
                reconcile(pod, now: monotonicMilliseconds())
            }
        }
    }

    /// Puts a namespace back on the namespace thread.
    private func restore(_ namespace: NamespaceFile, _ before: PodNetworkBefore, then: @escaping (SystemFault?) -> Void) {
        let accepted = namespaceThread.submit(in: namespace.descriptor) { entry -> SystemFault? in
            _ = namespace       // open until the job is done
            return entry == 0 ? PodNetwork.tearDown(before: before) : SystemFault(step: "entering the network namespace", number: entry)
        } finish: { then($0) }
        if !accepted { then(SystemFault(step: "too many jobs at once", number: EAGAIN)) }
    }

    private func release(_ cookie: UInt64) {
        uidOfCookie[cookie] = nil
        saveState()
    }

    func saveState() {
        let entries = pods.values.compactMap { $0.enrolment?.stateEntry } + changing.values + adopted.values.map(\.entry)
        let result = stateFile.write(entries)
        if result != 0 { Log.error("the state file could not be written", ("path", stateFile.path), ("error", errorText(result))) }
    }

    // MARK: After another node

    /// Takes over what a killed node left: its pods stay in the hooks until the agent has said what it wants.
    func adopt() {
        let cookies = Set(capture.adoptedCookies())
        for entry in stateFile.read() {
            guard let namespace = try? namespaceRoot.open(entry.namespacePath), namespace.identity == entry.identity else { continue }
            adopted[entry.before.namespaceCookie] = Adopted(entry: entry, namespace: namespace)
        }
        for cookie in cookies where adopted[cookie] == nil { try? capture.unenrol(cookie: cookie) }
        saveState()
        if !adopted.isEmpty { Log.info("took over pods of a previous node", ("count", "\(adopted.count)")) }
    }

    /// What nobody asks for: out of the hooks, and its namespace put back. What is asked for stays until its enrolment takes it over.
    func forgetAdopted() {
        if adopted.isEmpty { return }
        let wanted = Set(pods.values.compactMap { $0.wish.flatMap { NamespaceIdentity(path: $0.networkNamespacePath) } })
        for (cookie, left) in adopted where !wanted.contains(left.entry.identity) {
            // At the end nobody is asked any more: a strict one stays as it is.
            if stopping != nil, capture.isStrict(cookie: cookie) { continue }
            adopted[cookie] = nil
            changing[cookie] = left.entry
            try? capture.unenrol(cookie: cookie)
            Log.info("a pod of a previous node is not wanted any more", ("namespace", left.entry.namespacePath))
            restore(left.namespace, left.entry.before) { [self] _ in
                changing[cookie] = nil
                saveState()
            }
        }
    }
}
