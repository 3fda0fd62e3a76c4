import Glibc

/// The bytes of a label set: how many texts (UInt16), the byte count of each (UInt16), then the texts.
enum LabelBlob {
    /// The largest set: a peer's, each text at its limit.
    static let byteCountMax = headBytes(PeerLabels.count) + PeerLabels.count * CountersLayout.labelTextBytesMax

    static func headBytes(_ texts: Int) -> Int { 2 + 2 * texts }

    /// Whether bytes are a set of any texts. Bytes of an unknown writer: nothing is taken for granted.
    static func isWellFormed(_ blob: UnsafeRawBufferPointer) -> Bool {
        guard blob.count >= 2 else { return false }
        let texts = Int(blob.loadUnaligned(as: UInt16.self))
        guard texts == PeerLabels.count || texts == ServiceLabels.count, blob.count >= headBytes(texts) else { return false }
        var end = headBytes(texts)
        for text in 0..<texts { end += Int(blob.loadUnaligned(fromByteOffset: 2 + 2 * text, as: UInt16.self)) }
        return end == blob.count
    }

    /// The texts of a well-formed set.
    static func texts(_ blob: [UInt8]) -> [ArraySlice<UInt8>]? {
        blob.withUnsafeBytes { bytes -> [ArraySlice<UInt8>]? in
            guard isWellFormed(bytes) else { return nil }
            let count = Int(bytes.loadUnaligned(as: UInt16.self))
            var start = headBytes(count)
            return (0..<count).map { text in
                let end = start + Int(bytes.loadUnaligned(fromByteOffset: 2 + 2 * text, as: UInt16.self))
                defer { start = end }
                return blob[start..<end]
            }
        }
    }

    static func write(_ texts: UnsafeBufferPointer<UnsafeRawBufferPointer>, to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: UInt16(texts.count), as: UInt16.self)
        var end = headBytes(texts.count)
        for (place, text) in texts.enumerated() {
            let count = min(text.count, CountersLayout.labelTextBytesMax)
            target.storeBytes(of: UInt16(count), toByteOffset: 2 + 2 * place, as: UInt16.self)
            if let start = text.baseAddress { memcpy(target + end, start, count) }
            end += count
        }
    }

    /// Whether a well-formed set has exactly these texts.
    static func matches(_ blob: UnsafeRawBufferPointer, _ texts: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Bool {
        // The base is there: a well-formed set has bytes.
        let base = blob.baseAddress!
        guard Int(base.loadUnaligned(as: UInt16.self)) == texts.count else { return false }
        var start = headBytes(texts.count)
        for place in 0..<texts.count {
            let count = min(texts[place].count, CountersLayout.labelTextBytesMax)
            guard Int(base.loadUnaligned(fromByteOffset: 2 + 2 * place, as: UInt16.self)) == count else { return false }
            if count > 0, memcmp(base + start, texts[place].baseAddress!, count) != 0 { return false }
            start += count
        }
        return true
    }

    /// Eight bytes per step; the count goes in, so that texts cannot flow into each other.
    static func hash(_ text: UnsafeRawBufferPointer, count: Int, after seed: UInt64) -> UInt64 {
        var hash = seed ^ UInt64(truncatingIfNeeded: count) ^ 0xa076_1d64_78bd_642f
        var offset = 0
        while offset + 8 <= count {
            hash = mix(hash ^ text.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            offset += 8
        }
        var tail: UInt64 = 0
        while offset < count {
            tail = tail << 8 | UInt64(text[offset])
            offset += 1
        }
        return mix(hash ^ tail)
    }

    private static func mix(_ word: UInt64) -> UInt64 {
        let product = word.multipliedFullWidth(by: 0xe703_7ed1_a0b4_28db)
        return product.high ^ product.low
    }
}
