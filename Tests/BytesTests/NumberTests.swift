import Testing
import Bytes

@Suite struct NumberTests {
    private func decimal(_ text: String) -> Int? { Array(text.utf8).withUnsafeBytes { parseDecimal($0) } }

    @Test(arguments: ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1.0", "9223372036854775808", "18446744073709551616", "99999999999999999999999"])
    func decimalRefusesAllButDigitsThatFit(_ text: String) { #expect(decimal(text) == nil) }

    @Test(arguments: [("0", 0), ("007", 7), ("1024", 1024), ("9223372036854775807", Int.max)])
    func decimalReadsDigits(_ text: String, _ value: Int) { #expect(decimal(text) == value) }

    private func written(_ write: (inout ByteWriter) -> Void) -> String {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) {
            var writer = ByteWriter($0)
            write(&writer)
            return String(decoding: writer.written, as: UTF8.self)
        }
    }

    @Test(arguments: [0, 1, 9, 10, 15, 16, 99, 100, 255, 256, 4095, 4096, 1_000_000_007, UInt64(Int64.max), UInt64.max])
    func numbersAreWrittenAsTheyAreRead(_ value: UInt64) {
        #expect(written { $0.writeDecimal(value) } == String(value))
        #expect(written { $0.writeHex(value) } == String(value, radix: 16))
        let padded = written { $0.writeHex(value, digitsMin: 16) }
        #expect(padded.utf8.count == 16 && UInt64(padded, radix: 16) == value)
    }

    @Test func hexDigitsOfBothCasesAndNothingElse() {
        for byte in 0...255 as ClosedRange<UInt8> {
            #expect(hexDigitValue(byte) == (byte < 128 ? Character(UnicodeScalar(byte)).hexDigitValue.map(UInt8.init) : nil))
        }
    }
}

@Suite struct ByteWriterTests {
    @Test func aWriteThatDoesNotFitIsLeftOutAndRemembered() {
        withUnsafeTemporaryAllocation(byteCount: 8, alignment: 1) { memory in
            var writer = ByteWriter(memory)
            writer.write("12345")
            #expect(!writer.overflowed && writer.remaining == 3)
            writer.writeDecimal(1234)
            #expect(writer.overflowed && writer.count == 5)
            writer.write("678")
            writer.write(UInt8(ascii: "!"))
            #expect(writer.overflowed && writer.remaining == 0)
            #expect(String(decoding: writer.written, as: UTF8.self) == "12345678")
        }
    }

    @Test func anEmptyMemoryTakesNothing() {
        var writer = ByteWriter(UnsafeMutableRawBufferPointer(start: nil, count: 0))
        writer.write("")
        #expect(!writer.overflowed)
        writer.write("x")
        #expect(writer.overflowed && writer.count == 0)
    }

    @Test func aGapIsFilledLater() {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { memory in
            var writer = ByteWriter(memory)
            let gap = writer.leaveGap(4)
            writer.write("\r\nx")
            writer.patchHex(0x1F, at: gap!, digits: 4)
            #expect(String(decoding: writer.written, as: UTF8.self) == "001f\r\nx")
            #expect(writer.leaveGap(100) == nil && writer.overflowed)
        }
    }
}
