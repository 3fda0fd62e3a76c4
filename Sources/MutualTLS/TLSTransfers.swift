import COpenSSL
import Glibc

extension TLSSession {
    /// Reads what is there, several records in one call; but as soon as what came from the kernel was mostly not content (records of a byte each, or none:
    /// a peer may change keys as often as it likes) no more is asked of it in this call.
    ///
    /// With edge-triggered readiness: after `.moved` call again unless `isDrained` is true and `hasBuffered` is false, and after `.wantsRead` unless `isDrained` is.
    public mutating func receive(into memory: UnsafeMutableRawPointer, count: Int) -> TLSTransfer {
        if let fault = record.pointee.fault { return .failed(fault) }
        record.pointee.socket.is_drained = 0
        record.pointee.socket.reads_left = 1
        var moved = 0, worthwhile = TLSLimits.contentPerReadBytesMin
        while moved < count {
            if record.pointee.socket.reads_left == 0, moved >= worthwhile {
                record.pointee.socket.reads_left = 1
                worthwhile = moved + TLSLimits.contentPerReadBytesMin
            }
            var n = 0
            let result = SSL_read_ex(record.pointee.ssl, memory + moved, count - moved, &n)
            if result == 1 {
                moved += n
                continue
            }
            if moved > 0 && SSL_get_error(record.pointee.ssl, result) == SSL_ERROR_WANT_READ { break }
            let end = stopped(result)
            if moved == 0 { return end }
            // What came before the end is the caller's first. The end itself is brought by the next call, for which no edge will ask.
            record.pointee.socket.is_drained = 0
            break
        }
        return .moved(moved)
    }

    /// Bytes wait inside, whole records or the beginning of one.
    public var hasBuffered: Bool { SSL_has_pending(record.pointee.ssl) == 1 }
    /// The kernel had no more when it was last asked: an edge will tell of the next bytes.
    public var isDrained: Bool { record.pointee.socket.is_drained != 0 }

    /// Sends as much as the socket takes, in records of at most 16 KB, several of them in one call of the kernel. What is not moved must be at the front
    /// of the next call's bytes: of a record that did not leave whole, the sealed form is kept.
    public mutating func transmit(_ memory: UnsafeRawPointer, count: Int) -> TLSTransfer {
        var moved = 0
        if let end = sendHeld(&moved, most: count) { return end }
        var sealed = moved
        while sealed < count {
            var stop: TLSTransfer?
            while sealed < count, stop == nil, hasRoomForRecord {
                let size = min(count - sealed, TLSLimits.recordBytesMax)
                stop = seal(memory + sealed, size)
                if stop == nil { sealed += size }
            }
            if let end = sendSealed(&moved, stop) { return end }
        }
        return .moved(moved)
    }

    /// Sealed bytes that the socket has not taken.
    public var heldBytes: Int {
        guard let held = record.pointee.socket.held else { return 0 }
        return Int(held.pointee.count - held.pointee.start)
    }

    /// Sends the last flight of the handshake, when this side has nothing to say at once.
    public mutating func flush() {
        var moved = 0
        _ = sendHeld(&moved, most: 0)
    }

    /// The same for bytes in several pieces. Small ones become one record.
    public mutating func transmit(pieces: UnsafePointer<iovec>, count: Int) -> TLSTransfer {
        var most = 0
        for piece in 0..<count { most += pieces[piece].iov_len }
        var moved = 0
        if let end = sendHeld(&moved, most: most) { return end }
        var piece = 0, offset = moved
        while piece < count {
            var stop: TLSTransfer?
            while piece < count, stop == nil, hasRoomForRecord {
                let left = pieces[piece].iov_len - offset
                if left <= 0 {
                    offset -= pieces[piece].iov_len
                    piece += 1
                    continue
                }
                var size = min(left, TLSLimits.recordBytesMax)
                if left >= TLSLimits.recordBytesMax || piece == count - 1 {
                    stop = seal(UnsafeRawPointer(pieces[piece].iov_base) + offset, size)
                } else {
                    size = gather(pieces, count, piece, offset)
                    stop = seal(record.pointee.workspace.pointee.scratch, size)
                }
                if stop == nil { offset += size }
            }
            if let end = sendSealed(&moved, stop) { return end }
        }
        return .moved(moved)
    }

    private var hasRoomForRecord: Bool { record.pointee.workspace.pointee.outlet.pointee.records < copenssl_outlet_records }

    /// Makes one record, which waits in the outlet. Nil: done.
    private func seal(_ bytes: UnsafeRawPointer, _ count: Int) -> TLSTransfer? {
        let outlet = record.pointee.workspace.pointee.outlet
        record.pointee.socket.outlet = outlet
        defer { record.pointee.socket.outlet = nil }
        var n = 0
        let result = SSL_write_ex(record.pointee.ssl, bytes, count, &n)
        guard result == 1 else { return stopped(result) }
        copenssl_outlet_note(outlet, n)
        return nil
    }

    /// Sends what was held back, before anything else. Nil: it has gone, and more may follow.
    private func sendHeld(_ moved: inout Int, most: Int) -> TLSTransfer? {
        if let fault = record.pointee.fault { return .failed(fault) }
        guard let held = record.pointee.socket.held else { return nil }
        if most > 0, held.pointee.records == 0, held.pointee.count <= TLSLimits.flightBytesMax {
            copenssl_outlet_take(record.pointee.workspace.pointee.outlet, &record.pointee.socket)
            return nil
        }
        let gone = copenssl_held_send(&record.pointee.socket)
        guard gone >= 0 else { return broken() }
        moved = min(gone, most)
        guard record.pointee.socket.held != nil else { return nil }
        return moved > 0 ? .moved(moved) : .wantsWrite
    }

    /// Sends what was sealed. Nil: it has gone, and more may follow. `stop`: why no more could be sealed.
    private func sendSealed(_ moved: inout Int, _ stop: TLSTransfer?) -> TLSTransfer? {
        let gone = copenssl_outlet_send(record.pointee.workspace.pointee.outlet, &record.pointee.socket)
        guard gone >= 0 else { return broken() }
        moved += gone
        guard let end = stop ?? (record.pointee.socket.held != nil ? .wantsWrite : nil) else { return nil }
        return moved > 0 ? .moved(moved) : end
    }

    private func broken() -> TLSTransfer {
        record.pointee.fault = .reset
        return .failed(.reset)
    }

    /// One record's worth from here on, copied together.
    private func gather(_ pieces: UnsafePointer<iovec>, _ count: Int, _ first: Int, _ start: Int) -> Int {
        let scratch = record.pointee.workspace.pointee.scratch
        var piece = first, offset = start, size = 0
        while piece < count && size < TLSLimits.recordBytesMax {
            let step = min(pieces[piece].iov_len - offset, TLSLimits.recordBytesMax - size)
            if step > 0 { (scratch + size).copyMemory(from: UnsafeRawPointer(pieces[piece].iov_base) + offset, byteCount: step) }
            size += step
            piece += 1
            offset = 0
        }
        return size
    }

    /// Tells the peer that nothing more will come (close_notify), if the socket takes it.
    public mutating func close() {
        guard record.pointee.isDone, record.pointee.fault == nil else { return }
        _ = SSL_shutdown(record.pointee.ssl)
        ERR_clear_error()
    }

    /// Why OpenSSL has moved nothing.
    private func stopped(_ result: Int32) -> TLSTransfer {
        let kind = SSL_get_error(record.pointee.ssl, result)
        switch kind {
        case SSL_ERROR_WANT_READ: return .wantsRead
        case SSL_ERROR_WANT_WRITE: return .wantsWrite
        case SSL_ERROR_ZERO_RETURN: return .ended
        default:
            let fault = classify(kind, inHandshake: false)
            record.pointee.fault = fault
            ERR_clear_error()
            return .failed(fault)
        }
    }
}

extension TLSSession {
    /// Names what OpenSSL has left in its error queue, or what the socket has said.
    func classify(_ kind: Int32, inHandshake: Bool) -> TLSFault {
        let error = ERR_peek_error()
        if kind == SSL_ERROR_SSL, copenssl_is_library_ssl(error) == 1 {
            let reason = copenssl_reason(error)
            if reason > copenssl_alert_offset, reason <= copenssl_alert_offset + 255 {
                record.pointee.alert = UInt8(reason - Int32(copenssl_alert_offset))
                return .peerAlert
            }
            switch reason {
            case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, SSL_R_NO_CERTIFICATES_RETURNED: return .noCertificate
            case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_NO_PROTOCOLS_AVAILABLE, SSL_R_VERSION_TOO_LOW, SSL_R_BAD_PROTOCOL_VERSION_NUMBER,
                SSL_R_UNKNOWN_PROTOCOL, SSL_R_WRONG_SSL_VERSION, SSL_R_INAPPROPRIATE_FALLBACK:
                return .protocolVersion
            case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_PACKET_LENGTH_TOO_LONG, SSL_R_RECORD_LENGTH_MISMATCH:
                return inHandshake ? .notTLS : .malformed
            case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SHARED_GROUPS, SSL_R_NO_SUITABLE_GROUPS, SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
                SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, SSL_R_NO_CIPHERS_AVAILABLE:
                return .noCommonParameters
            case SSL_R_BAD_SIGNATURE: return .badSignature
            case SSL_R_NO_APPLICATION_PROTOCOL: return .noCommonProtocol
            case SSL_R_UNEXPECTED_EOF_WHILE_READING: return inHandshake ? .closed : .truncated
            default: return .malformed
            }
        }
        if record.pointee.socket.error != 0 { return .reset }
        if record.pointee.socket.has_ended != 0 { return inHandshake ? .closed : .truncated }
        return .malformed
    }
}
