import COpenSSL

/// Which protocol is spoken inside (ALPN, RFC 7301): Weft's own before HBONE's.
enum ProtocolChoice {
    /// Both, as the ClientHello has them: each with its length before it.
    static let offer: StaticString = "\u{7}weft-h2\u{2}h2"
    private static let weft: StaticString = "weft-h2"
    private static let hbone: StaticString = "h2"

    /// The protocol of that name.
    static func named(_ name: UnsafeRawBufferPointer) -> TLSProtocol? {
        if same(name, UnsafeRawBufferPointer(start: weft.utf8Start, count: weft.utf8CodeUnitCount)) { return .weft }
        if same(name, UnsafeRawBufferPointer(start: hbone.utf8Start, count: hbone.utf8CodeUnitCount)) { return .hbone }
        return nil
    }

    /// A server's choice from what the client offers. OpenSSL has checked the list's form.
    static let callback: SSL_CTX_alpn_select_cb_func = { ssl, chosen, chosenCount, offered, offeredCount, _ in
        let list = UnsafeRawBufferPointer(start: offered, count: Int(offeredCount))
        var best: (place: Int, count: Int)?
        var place = 0
        while place < list.count {
            let count = Int(list[place])
            guard count > 0, list.count - place - 1 >= count else { break }
            switch named(UnsafeRawBufferPointer(rebasing: list[(place + 1)..<(place + 1 + count)])) {
            case .weft:
                chosen?.pointee = offered.map { $0 + place + 1 }
                chosenCount?.pointee = UInt8(count)
                return SSL_TLSEXT_ERR_OK
            case .hbone: best = (place + 1, count)
            case nil: break
            }
            place += 1 + count
        }
        guard let best else {
            SessionRecord.of(ssl)?.pointee.fault = .noCommonProtocol
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        chosen?.pointee = offered.map { $0 + best.place }
        chosenCount?.pointee = UInt8(best.count)
        return SSL_TLSEXT_ERR_OK
    }
}
