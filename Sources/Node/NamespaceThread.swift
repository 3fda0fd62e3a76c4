import CLinux
import Glibc

/// The one thread that enters network namespaces.
///
/// `setns` changes the calling thread alone and for good, so a forgotten return would put later sockets of that thread into the wrong pod.
/// It happens here and nowhere else, and every job ends with the return to the host's namespace.
///
/// A job travels as a pointer through a pipe, and comes back through another, which the main loop polls: no locks, and the loop never waits.
final class NamespaceThread {
    /// Work runs on the thread, inside the namespace; `finish` on the main thread, with what the work left in its captures.
    private final class Job: @unchecked Sendable {      // handed over whole: the pipe orders the two threads' accesses
        let namespace: Int32
        let work: (Int32) -> Void
        let finish: () -> Void

        init(namespace: Int32, work: @escaping (Int32) -> Void, finish: @escaping () -> Void) {
            self.namespace = namespace
            self.work = work
            self.finish = finish
        }
    }

    private let requests: (reading: Int32, writing: Int32)
    private let answers: (reading: Int32, writing: Int32)
    private(set) var jobsUnderWay = 0

    /// Readable when a job has finished.
    var descriptor: Int32 { answers.reading }

    init() throws(StartFault) {
        func makePipe() throws(StartFault) -> (Int32, Int32) {
            var ends: (Int32, Int32) = (-1, -1)
            let size = clinux_pipe(&ends.0, &ends.1, 64 * 1024)
            guard size > 0 else { throw .failed("cannot make a pipe: \(errorText(-size))") }
            return ends
        }
        requests = try makePipe()
        answers = try makePipe()
        // The thread waits in read and write; the main thread never does.
        _ = fcntl(requests.reading, F_SETFL, 0)
        _ = fcntl(answers.writing, F_SETFL, 0)
        let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        guard home >= 0 else { throw .failed("cannot open the own network namespace: \(errorText(errno))") }
        let requestEnd = requests.reading, answerEnd = answers.writing
        let start = ThreadStart { Self.run(requests: requestEnd, answers: answerEnd, home: home) }
        var thread = pthread_t()
        let result = pthread_create(&thread, nil, { context in
            Unmanaged<ThreadStart>.fromOpaque(context!).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(start).toOpaque())
        guard result == 0 else { throw .failed("cannot start the namespace thread: \(errorText(result))") }
        pthread_detach(thread)
    }

    /// Runs `work` in a namespace and then `finish` on this thread, from `deliver()`. The namespace's descriptor must stay open until then.
    /// False when too many jobs are under way; then neither runs. `work` gets 0, or the errno with which the namespace could not be entered.
    func submit<Answer>(in namespace: Int32, work: @escaping (_ entryError: Int32) -> Answer, finish: @escaping (Answer) -> Void) -> Bool {
        guard jobsUnderWay < Limits.namespaceJobsMax else { return false }
        var answer: Answer?
        let job = Job(namespace: namespace, work: { answer = work($0) }, finish: { finish(answer!) })
        var pointer = UInt(bitPattern: Unmanaged.passRetained(job).toOpaque())
        let written = write(requests.writing, &pointer, MemoryLayout<UInt>.size)
        precondition(written == MemoryLayout<UInt>.size, "the request pipe holds namespaceJobsMax pointers")
        jobsUnderWay += 1
        return true
    }

    /// Runs the `finish` of every job that is done. Main thread, when `descriptor` is readable.
    func deliver() {
        var pointer: UInt = 0
        while read(answers.reading, &pointer, MemoryLayout<UInt>.size) == MemoryLayout<UInt>.size {
            jobsUnderWay -= 1
            Unmanaged<Job>.fromOpaque(UnsafeRawPointer(bitPattern: pointer)!).takeRetainedValue().finish()
        }
    }

    /// Waits for one job: for starts, stops and tests, not for the running loop. Other jobs that end meanwhile are finished as well.
    func perform<Answer>(in namespace: Int32, work: @escaping (_ entryError: Int32) -> Answer) -> Answer {
        var answer: Answer?
        let accepted = submit(in: namespace, work: work, finish: { answer = $0 })
        precondition(accepted, "performed with the queue full")
        while answer == nil {
            var ready = pollfd(fd: answers.reading, events: Int16(POLLIN), revents: 0)
            poll(&ready, 1, -1)
            deliver()
        }
        return answer!
    }

    private final class ThreadStart: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private static func run(requests: Int32, answers: Int32, home: Int32) {
        clinux_name_thread("namespaces")
        var pointer: UInt = 0
        while true {
            let count = read(requests, &pointer, MemoryLayout<UInt>.size)
            if count < 0 && errno == EINTR { continue }
            precondition(count == MemoryLayout<UInt>.size, "the request pipe lives as long as the process")
            let job = Unmanaged<Job>.fromOpaque(UnsafeRawPointer(bitPattern: pointer)!).takeUnretainedValue()
            let entry = clinux_enter_network_namespace(job.namespace)
            job.work(-entry)
            // Staying in a pod would be worse than ending: everything after it would happen in the wrong place.
            precondition(clinux_enter_network_namespace(home) == 0, "cannot return to the host's namespace")
            while write(answers, &pointer, MemoryLayout<UInt>.size) < 0 && errno == EINTR {}
        }
    }
}
