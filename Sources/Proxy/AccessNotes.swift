import Glibc
import Routing
import Synchronization

/// What a policy did to a call.
enum AccessNoteKind: UInt8 {
    case refused, audited, ended

    var message: String {
        switch self {
        case .refused: "access refused"
        case .audited: "access would be refused"
        case .ended: "access ended"
        }
    }
}

/// One worker's notes about calls that policy refused, for the log: written on the data path into a ring, read and printed by the control
/// thread once a second. When the ring is full, notes are counted and not kept: a flood of refusals costs no more than the refusals.
///
/// Trivial, so that a worker holds it without counting references; the memory lives as long as the process. Indices only grow; a slot belongs to
/// the worker from `written` on and to the control thread from `read` on.
struct AccessNotes: @unchecked Sendable {
    /// Notes kept between two readings.
    static let notesMax: UInt32 = 32
    /// Texts longer than a slot are cut.
    static let slotBytes = 1_024
    /// Lines that the control thread writes per worker and reading; the rest is a number.
    static let linesMax = 8

    private static let headerBytes = 192
    private let memory: UnsafeMutableRawPointer

    init() {
        memory = .allocate(byteCount: Self.headerBytes + Int(Self.notesMax) * Self.slotBytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.headerBytes + Int(Self.notesMax) * Self.slotBytes)
    }

    private var written: UnsafeMutablePointer<Atomic<UInt32>> { memory.assumingMemoryBound(to: Atomic<UInt32>.self) }
    private var read: UnsafeMutablePointer<Atomic<UInt32>> { (memory + 64).assumingMemoryBound(to: Atomic<UInt32>.self) }
    private var lost: UnsafeMutablePointer<Atomic<UInt64>> { (memory + 128).assumingMemoryBound(to: Atomic<UInt64>.self) }

    private func slot(_ number: UInt32) -> UnsafeMutableRawPointer { memory + Self.headerBytes + Int(number % Self.notesMax) * Self.slotBytes }

    // MARK: The worker's side

    /// Notes a call. Texts are written one behind the other, each behind its length.
    func add(_ kind: AccessNoteKind, _ fault: AccessFault, port: UInt16, _ texts: (AccessNoteTexts) -> Void) {
        let number = written.pointee.load(ordering: .relaxed)
        guard number &- read.pointee.load(ordering: .acquiring) < Self.notesMax else {
            lost.pointee.wrappingAdd(1, ordering: .relaxed)
            return
        }
        let slot = slot(number)
        slot.storeBytes(of: kind.rawValue, as: UInt8.self)
        slot.storeBytes(of: fault.number, toByteOffset: 1, as: UInt8.self)
        slot.storeBytes(of: port, toByteOffset: 2, as: UInt16.self)
        slot.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
        texts(AccessNoteTexts(slot: slot))
        written.pointee.store(number &+ 1, ordering: .releasing)
    }

    // MARK: The control thread's side

    /// One line of the log: what happened, and how often since the last reading.
    struct Line: Equatable {
        var message: String
        var details: String
    }

    /// Takes out what was noted. Equal notes become one line.
    func collect() -> (lines: [Line: Int], others: UInt64) {
        var lines: [Line: Int] = [:]
        var others = lost.pointee.exchange(0, ordering: .relaxed)
        let end = written.pointee.load(ordering: .acquiring)
        var number = read.pointee.load(ordering: .relaxed)
        while number != end {
            let line = line(slot(number))
            if lines[line] != nil || lines.count < Self.linesMax { lines[line, default: 0] += 1 } else { others += 1 }
            number &+= 1
        }
        read.pointee.store(number, ordering: .releasing)
        return (lines, others)
    }

    private func line(_ slot: UnsafeMutableRawPointer) -> Line {
        let kind = AccessNoteKind(rawValue: slot.load(as: UInt8.self)) ?? .refused
        let fault = AccessFault(number: slot.load(fromByteOffset: 1, as: UInt8.self))
        let texts = AccessNoteTexts(slot: slot).texts
        func text(_ place: Int) -> String { place < texts.count ? texts[place] : "" }
        let caller = text(2).isEmpty ? "unauthenticated" : "\(text(2))/\(text(3))"
        let port = slot.load(fromByteOffset: 2, as: UInt16.self)
        let rule = text(0).isEmpty ? "" : " policy=\(text(0)) rule=\(text(1))"
        return Line(message: kind.message, details: "reason=\(fault.reason)\(rule) caller=\(caller) destination=\(text(4))/\(text(5)) port=\(port)")
    }
}

extension AccessNotes.Line: Hashable {}

/// The texts of one note.
struct AccessNoteTexts {
    fileprivate let slot: UnsafeMutableRawPointer
    private static let start = 8

    /// Adds a text, cut to what is left of the slot. The texts are names of Kubernetes objects and fields: printable, without blanks.
    func add(_ text: UnsafeRawBufferPointer) {
        let used = Int(slot.load(fromByteOffset: 4, as: UInt32.self))
        let place = Self.start + used
        let count = min(text.count, AccessNotes.slotBytes - place - 2)
        guard count >= 0 else { return }
        (slot + place).storeBytes(of: UInt16(count), as: UInt16.self)
        if count > 0, let base = text.baseAddress { (slot + place + 2).copyMemory(from: base, byteCount: count) }
        slot.storeBytes(of: UInt32(used + 2 + count), toByteOffset: 4, as: UInt32.self)
    }

    fileprivate var texts: [String] {
        var texts: [String] = []
        var place = Self.start
        let end = Self.start + Int(slot.load(fromByteOffset: 4, as: UInt32.self))
        while place + 2 <= end {
            let count = Int((slot + place).loadUnaligned(as: UInt16.self))
            texts.append(String(decoding: UnsafeRawBufferPointer(start: slot + place + 2, count: count), as: UTF8.self))
            place += 2 + count
        }
        return texts
    }
}

extension AccessFault {
    fileprivate var number: UInt8 {
        switch self {
        case .rule: 0
        case .noRule: 1
        case .notHTTP: 2
        case .ambiguousPath: 3
        case .revoked: 4
        }
    }

    fileprivate init(number: UInt8) {
        switch number {
        case 0: self = .rule
        case 1: self = .noRule
        case 2: self = .notHTTP
        case 3: self = .ambiguousPath
        default: self = .revoked
        }
    }
}
