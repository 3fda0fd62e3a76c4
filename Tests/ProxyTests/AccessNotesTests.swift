import Routing
import Testing

@testable import Proxy

/// What is noted on the data path is told by another thread, and a flood of it costs a number.
@Suite struct AccessNotesTests {
    private func text(_ text: StaticString) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount) }

    private func add(_ notes: AccessNotes, policy: StaticString = "shop/p", port: UInt16 = 80) {
        notes.add(.refused, .noRule, port: port) { texts in
            for word in [policy, "spec.rules", "lab", "robot", "shop", "cart"] as [StaticString] { texts.add(text(word)) }
        }
    }

    @Test func equalNotesAreOneLine() {
        let notes = AccessNotes()
        for _ in 0..<3 { add(notes) }
        add(notes, port: 81)
        let (lines, others) = notes.collect()
        let details = "reason=access-denied policy=shop/p rule=spec.rules caller=lab/robot destination=shop/cart"
        #expect(lines == [
            AccessNotes.Line(message: "access refused", details: details + " port=80"): 3, AccessNotes.Line(message: "access refused", details: details + " port=81"): 1,
        ])
        #expect(others == 0 && notes.collect().lines.isEmpty)
    }

    @Test func aFloodIsCountedAndNotKept() {
        let notes = AccessNotes()
        for _ in 0..<1_000 { add(notes) }
        let (lines, others) = notes.collect()
        #expect(lines.values.reduce(0, +) == Int(AccessNotes.notesMax) && others == 1_000 - UInt64(AccessNotes.notesMax))
        add(notes)
        #expect(notes.collect().lines.values.reduce(0, +) == 1, "there is room again")
    }

    @Test func differentLinesAreBounded() {
        let notes = AccessNotes()
        for port in 0..<20 { add(notes, port: UInt16(port)) }
        let (lines, others) = notes.collect()
        #expect(lines.count == AccessNotes.linesMax && others == UInt64(20 - AccessNotes.linesMax))
    }

    @Test func longTextsAreCutToTheSlot() {
        let notes = AccessNotes()
        let long = UnsafeMutableRawBufferPointer.allocate(byteCount: 3_000, alignment: 1)
        defer { long.deallocate() }
        long.initializeMemory(as: UInt8.self, repeating: UInt8(ascii: "x"))
        notes.add(.ended, .rule, port: 1) { texts in for _ in 0..<4 { texts.add(UnsafeRawBufferPointer(long)) } }
        add(notes)
        let (lines, _) = notes.collect()
        #expect(lines.count == 2 && lines.keys.allSatisfy { $0.details.utf8.count <= AccessNotes.slotBytes + 200 })
    }
}
