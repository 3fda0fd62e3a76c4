import Bytes

/// `sec-websocket-accept` for a `sec-websocket-key` (RFC 6455, 4.2.2): Base64 of the SHA-1 of the key and a fixed text.
///
/// HTTP/2 has no such handshake (RFC 8441, 5), so the proxy makes the key for an HTTP/1.1 server and answers the key of an
/// HTTP/1.1 client. No secret is involved; SHA-1 is what the protocol names.
struct WebSocketAccept: Equatable {
    static let byteCount = 28
    private var words: (UInt32, UInt32, UInt32, UInt32, UInt32)

    static func == (left: WebSocketAccept, right: WebSocketAccept) -> Bool { left.words == right.words }

    /// - Parameter key: at most 64 bytes; nil for a longer one, which no client sends.
    init?(answering key: UnsafeRawBufferPointer) {
        guard key.count <= 64 else { return nil }
        let text: StaticString = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        var hash = SHA1()
        for byte in key { hash.add(byte) }
        for index in 0..<text.utf8CodeUnitCount { hash.add(text.utf8Start[index]) }
        words = hash.finish()
    }

    func write(to out: inout ByteWriter) {
        withUnsafeBytes(of: (words.0.bigEndian, words.1.bigEndian, words.2.bigEndian, words.3.bigEndian, words.4.bigEndian)) {
            writeBase64($0, to: &out)
        }
    }
}

extension Head {
    /// The answer to the key of an HTTP/1.1 upgrade to WebSocket, and to nothing else (RFC 6455, 4.1); nil when it is not one.
    func webSocketAccept(_ bytes: UnsafeRawBufferPointer) -> WebSocketAccept? {
        guard method == .get, isWebSocketUpgrade(bytes), let key = value(.webSocketKey), !key.isEmpty else { return nil }
        return WebSocketAccept(answering: key.of(bytes))
    }

    /// Whether `Upgrade` names WebSocket alone.
    func isWebSocketUpgrade(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard asksForUpgrade, upgradeRow >= 0 else { return false }
        let token = "websocket" as StaticString
        return equalsIgnoringCase(fields[upgradeRow].value.of(bytes), UnsafeRawBufferPointer(start: token.utf8Start, count: token.utf8CodeUnitCount))
    }
}

/// Bytes as Base64 (RFC 4648, 4).
func writeBase64(_ bytes: UnsafeRawBufferPointer, to out: inout ByteWriter) {
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    var index = 0
    while index < bytes.count {
        let second = index + 1 < bytes.count ? bytes[index + 1] : 0, third = index + 2 < bytes.count ? bytes[index + 2] : 0
        let group = UInt32(bytes[index]) << 16 | UInt32(second) << 8 | UInt32(third)
        out.write(alphabet.utf8Start[Int(group >> 18)])
        out.write(alphabet.utf8Start[Int(group >> 12 & 63)])
        out.write(index + 1 < bytes.count ? alphabet.utf8Start[Int(group >> 6 & 63)] : UInt8(ascii: "="))
        out.write(index + 2 < bytes.count ? alphabet.utf8Start[Int(group & 63)] : UInt8(ascii: "="))
        index += 3
    }
}

/// SHA-1 (FIPS 180-4, 6.1), byte by byte: a handshake hashes 60 bytes.
private struct SHA1 {
    private var state: (UInt32, UInt32, UInt32, UInt32, UInt32) = (0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0)
    private var block = InlineArray<80, UInt32>(repeating: 0)
    private var count: UInt64 = 0

    mutating func add(_ byte: UInt8) {
        let place = Int(count & 63)
        if place & 3 == 0 { block[place >> 2] = 0 }
        block[place >> 2] |= UInt32(byte) << UInt32(24 - (place & 3) * 8)
        count += 1
        if count & 63 == 0 { compress() }
    }

    mutating func finish() -> (UInt32, UInt32, UInt32, UInt32, UInt32) {
        let bits = count * 8
        add(0x80)
        while count & 63 != 56 { add(0) }
        for shift in stride(from: UInt64(56), through: 0, by: -8) { add(UInt8(truncatingIfNeeded: bits >> shift)) }
        return state
    }

    private mutating func compress() {
        for index in 16..<80 {
            let mixed = block[index - 3] ^ block[index - 8] ^ block[index - 14] ^ block[index - 16]
            block[index] = mixed << 1 | mixed >> 31
        }
        var (a, b, c, d, e) = state
        for index in 0..<80 {
            let (mix, constant): (UInt32, UInt32) =
                switch index {
                case 0..<20: (b & c | ~b & d, 0x5A82_7999)
                case 20..<40: (b ^ c ^ d, 0x6ED9_EBA1)
                case 40..<60: (b & c | b & d | c & d, 0x8F1B_BCDC)
                default: (b ^ c ^ d, 0xCA62_C1D6)
                }
            let turned = (a << 5 | a >> 27) &+ mix &+ e &+ constant &+ block[index]
            (e, d, c, b, a) = (d, c, b << 30 | b >> 2, a, turned)
        }
        state = (state.0 &+ a, state.1 &+ b, state.2 &+ c, state.3 &+ d, state.4 &+ e)
    }
}
