/// Writes metrics in Prometheus' text format (0.0.4) in chunks, so that a page of any size takes one buffer.
public struct PrometheusText: ~Copyable {
    public enum Kind: String, Sendable { case counter, gauge, histogram }

    /// Bytes gathered before the sink is called: one TLS record's, a few socket writes' worth.
    public static let chunkBytes = 64 * 1024

    private var buffer: [UInt8] = []
    private let sink: (UnsafeRawBufferPointer) -> Void

    /// - Parameter sink: receives the text piece by piece; the bytes are valid during the call. Pieces may split a line.
    public init(sink: @escaping (UnsafeRawBufferPointer) -> Void) {
        self.sink = sink
        buffer.reserveCapacity(PrometheusText.chunkBytes + 4_096)
    }

    /// Hands over what remains.
    public consuming func finish() {
        flush()
    }

    // MARK: For callers

    /// The two lines above a family's samples. Each family once, all its samples right after it.
    public mutating func family(_ name: String, help: String, kind: Kind) {
        append("# HELP \(name) ")
        append(escaped: help.utf8, quotes: false)
        append("\n# TYPE \(name) \(kind.rawValue)\n")
    }

    /// One line. `name` and the labels' names are ours and written as they are; values are escaped.
    public mutating func sample(_ name: String, labels: [(name: String, value: String)] = [], _ value: Double) {
        start(name, labels)
        append(value)
        endLine()
    }

    /// As above, for whole numbers: exact beyond 2^53.
    public mutating func sample(_ name: String, labels: [(name: String, value: String)] = [], count: UInt64) {
        start(name, labels)
        append(count)
        endLine()
    }

    mutating func start(_ name: String, _ labels: [(name: String, value: String)]) {
        append(name)
        if !labels.isEmpty {
            append("{")
            for (place, label) in labels.enumerated() {
                if place > 0 { append(",") }
                append(label.name)
                append("=\"")
                append(escaped: label.value.utf8, quotes: true)
                append("\"")
            }
            append("}")
        }
        append(" ")
    }

    // MARK: Pieces, for the renderer of the counters

    mutating func append(_ text: String) { buffer.append(contentsOf: text.utf8) }

    mutating func append(_ bytes: [UInt8]) { buffer.append(contentsOf: bytes) }

    mutating func append(_ number: UInt64) {
        if number < 10 {
            buffer.append(UInt8(ascii: "0") + UInt8(number))
            return
        }
        // 20 digits hold every UInt64.
        withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
            var place = 20
            var rest = number
            while rest > 0 {
                place -= 1
                digits[place] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            }
            buffer.append(contentsOf: digits[place...])
        }
    }

    mutating func append(_ number: Double) {
        if number.isNaN {
            append("NaN")
        } else if number.isInfinite {
            append(number < 0 ? "-Inf" : "+Inf")
        } else if number.magnitude < 0x1p53, number.rounded() == number, number >= 0 {
            append(UInt64(number))
        } else {
            append("\(number)")
        }
    }

    mutating func endLine() {
        buffer.append(UInt8(ascii: "\n"))
        if buffer.count >= PrometheusText.chunkBytes { flush() }
    }

    mutating func append(escaped text: some Sequence<UInt8>, quotes: Bool) {
        PrometheusText.escape(text, quotes: quotes, into: &buffer)
    }

    private mutating func flush() {
        if buffer.isEmpty { return }
        buffer.withUnsafeBytes { sink($0) }
        buffer.removeAll(keepingCapacity: true)
    }

    /// Escapes what would end a line or a quoted value. In HELP lines quotes stay as they are.
    static func escape(_ text: some Sequence<UInt8>, quotes: Bool, into buffer: inout [UInt8]) {
        for byte in text {
            switch byte {
            case UInt8(ascii: "\\"): buffer += [byte, byte]
            case UInt8(ascii: "\n"): buffer += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
            case UInt8(ascii: "\"") where quotes: buffer += [UInt8(ascii: "\\"), byte]
            default: buffer.append(byte)
            }
        }
    }
}
