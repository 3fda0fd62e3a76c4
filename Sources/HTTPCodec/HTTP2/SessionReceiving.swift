import Bytes
import CNGHTTP2

extension SessionState {
    /// Frames without an event in one step; one costs up to half a microsecond.
    private static let silentFramesMax = 32

    /// One step over the bytes that came: an event, or `.none` when all of them are dealt with.
    mutating func next(_ bytes: inout UnsafeRawBufferPointer, _ head: inout Head, now: UInt64) -> HTTP2Event {
        workspace.pointee.now = now
        if !bytes.isEmpty { lastReceived = now }
        var silent = 0
        while true {
            if let failure {
                bytes = UnsafeRawBufferPointer(start: nil, count: 0)
                guard !hasToldFailure else { return .none }
                hasToldFailure = true
                return .fault(failure)
            }
            if let record = takeClosed() {
                defer { free(record) }
                guard record.pointee.owner != 0 else { continue }
                let code = record.pointee.closeCode
                return .reset(stream: record.pointee.id, owner: record.pointee.owner, code, wasProcessed: code != .refusedStream)
            }
            guard !bytes.isEmpty else { return .none }
            let event = dataLeft > 0 ? passData(&bytes) : takeFrame(&bytes, &head, now: now)
            if let event { return event }
            silent &+= 1
            if silent == Self.silentFramesMax, !bytes.isEmpty { return .pause }
        }
    }

    /// Gives up the connection: GOAWAY is owed, and nothing that comes is looked at any more.
    ///
    /// The library is not told: it would go through everything that waits, in one piece, and could not give up its streams one by one afterwards.
    mutating func fail(_ fault: HTTP2Fault) {
        guard failure == nil else { return }
        failure = fault
        owesGoAway = true
        partial.removeAll()
    }

    /// The library may not be called any more.
    mutating func die(_ fault: HTTP2Fault) {
        isLibraryDead = true
        fail(fault)
    }

    private mutating func failing(_ fault: HTTP2Fault) -> HTTP2Event? {
        fail(fault)
        return nil
    }

    // MARK: Frames

    /// Takes one frame, or what there is of it. Nil: go on.
    private mutating func takeFrame(_ bytes: inout UnsafeRawBufferPointer, _ head: inout Head, now: UInt64) -> HTTP2Event? {
        if frames.prefaceCount < FrameGuard.preface.utf8CodeUnitCount { return takePreface(&bytes) }
        guard let start = whole(FrameHeader.byteCount, &bytes) else { return nil }
        let header = FrameHeader(start)
        if !hasJudgedHeader {
            if let fault = judgeHeader(header) { return failing(fault) }
            hasJudgedHeader = true
        }
        if header.type == FrameType.data { return beginData(header, &bytes, now: now) }
        let count = FrameHeader.byteCount &+ header.length
        guard let frame = whole(count, &bytes) else {
            if header.type == FrameType.headers, blockSince == 0 { blockSince = now }
            return nil
        }
        hasJudgedHeader = false
        let isDirect = partial.isEmpty
        let verdict = judge(header, frame + FrameHeader.byteCount, now: now)
        var event: HTTP2Event?
        switch verdict {
        case .fault(let fault): return failing(fault)
        case .reset(let code): event = resetForFault(header.stream, code, now: now)
        case .drop: event = dropped(header)
        case .feed where header.type == FrameType.headers || header.type == FrameType.continuation:
            return takeHeadFrame(header, frame, count, &bytes, &head, now: now)
        case .feed: event = feedControl(header, frame, count)
        }
        if isDirect { bytes = UnsafeRawBufferPointer(rebasing: bytes[count...]) } else { partial.removeAll() }
        return event
    }

    /// The next `count` bytes of the current frame in one piece: where they came, or in `partial` when they came in pieces.
    private mutating func whole(_ count: Int, _ bytes: inout UnsafeRawBufferPointer) -> UnsafeRawPointer? {
        if partial.count == blockHeld, bytes.count >= count { return bytes.baseAddress }
        let missing = count &- (partial.count &- blockHeld)
        if missing > 0 {
            let taken = min(missing, bytes.count)
            guard partial.append(UnsafeRawBufferPointer(rebasing: bytes[..<taken])) else { fail(.continuationFlood); return nil }
            bytes = UnsafeRawBufferPointer(rebasing: bytes[taken...])
            if taken < missing { return nil }
        }
        return partial.readable.baseAddress.map { $0 + blockHeld }
    }

    private mutating func takePreface(_ bytes: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let preface = FrameGuard.preface
        let taken = min(bytes.count, preface.utf8CodeUnitCount &- frames.prefaceCount)
        for index in 0..<taken where bytes[index] != preface.utf8Start[frames.prefaceCount &+ index] { return failing(.badPreface) }
        frames.prefaceCount &+= taken
        let piece = UnsafeRawBufferPointer(rebasing: bytes[..<taken])
        bytes = UnsafeRawBufferPointer(rebasing: bytes[taken...])
        feed(piece.baseAddress!, taken)
        return nil
    }

    /// Gives bytes to the library.
    mutating func feed(_ bytes: UnsafeRawPointer, _ count: Int) {
        sawFrame = false
        refusedByLibrary = 0
        chunk = UnsafeRawBufferPointer(start: nil, count: 0)
        let taken = nghttp2_session_mem_recv(library, bytes.assumingMemoryBound(to: UInt8.self), count)
        if taken < 0 { die(taken == Int(NGHTTP2_ERR_FLOODED.rawValue) ? .controlFlood : .internalError) }
    }

    private mutating func feedControl(_ header: FrameHeader, _ frame: UnsafeRawPointer, _ count: Int) -> HTTP2Event? {
        feed(frame, count)
        let wasAccepted = sawFrame
        switch header.type {
        case FrameType.settings where !header.has(FrameFlag.ack):
            guard wasAccepted else { return failing(.badInitialWindow) }
            hasHeardSettings = true
            return .settings
        case FrameType.goAway:
            guard wasAccepted else { return failing(.refusedFrame) }
            gotGoAway = true
            return .goAway(HTTP2Code(wire: UInt32(bigEndian: (frame + FrameHeader.byteCount + 4).loadUnaligned(as: UInt32.self))))
        default:
            return refusedByLibrary == 0 ? nil : failing(.refusedFrame)
        }
    }

    /// A frame that the library does not need: only the answer to our PING tells anything.
    private mutating func dropped(_ header: FrameHeader) -> HTTP2Event? {
        guard header.type == FrameType.ping, pingSentAt != nil else { return nil }
        pingSentAt = nil
        return .pong
    }

    /// A stream error: RST_STREAM, counted like one of the peer's own, for it made us send it.
    private mutating func resetForFault(_ stream: Int32, _ code: HTTP2Code, now: UInt64) -> HTTP2Event? {
        guard frames.mayReset(limits, now) else { return failing(.rapidReset) }
        guard let record = live(stream) else { return nil }
        reset(record, code)
        guard record.pointee.owner != 0 else { return nil }
        return .reset(stream: stream, owner: record.pointee.owner, code, wasProcessed: true)
    }

    // MARK: DATA

    private mutating func beginData(_ header: FrameHeader, _ bytes: inout UnsafeRawBufferPointer, now: UInt64) -> HTTP2Event? {
        let isPadded = header.has(FrameFlag.padded) && header.length > 0
        let needed = FrameHeader.byteCount &+ (isPadded ? 1 : 0)
        guard let frame = whole(needed, &bytes) else { return nil }
        hasJudgedHeader = false
        let padding = isPadded ? Int(frame.load(fromByteOffset: FrameHeader.byteCount, as: UInt8.self)) : 0
        if case .fault(let fault) = judgeData(header, padding: padding, now: now) { return failing(fault) }
        dataStream = header.stream
        dataEnds = header.has(FrameFlag.endStream)
        dataLeft = FrameHeader.byteCount &+ header.length
        guard !partial.isEmpty else { return passData(&bytes) }
        // Header, and the padding's length, came in pieces; content, if there is any, is still to come.
        dataLeft &-= needed
        let event = passData(UnsafeRawBufferPointer(start: frame, count: needed))
        partial.removeAll()
        return event
    }

    private mutating func passData(_ bytes: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let taken = min(bytes.count, dataLeft)
        dataLeft &-= taken
        let piece = UnsafeRawBufferPointer(rebasing: bytes[..<taken])
        bytes = UnsafeRawBufferPointer(rebasing: bytes[taken...])
        return passData(piece)
    }

    /// Passes a piece of a DATA frame; `dataLeft` tells what follows it.
    private mutating func passData(_ piece: UnsafeRawBufferPointer) -> HTTP2Event? {
        guard let base = piece.baseAddress else { return nil }
        let ends = dataEnds && dataLeft == 0
        let record = live(dataStream)
        if let record, ends { record.pointee.peerEnded = true }
        feeding = record
        feed(base, piece.count)
        feeding = nil
        let content = chunk
        if content.count > 0 { received(content.count) }
        guard let record, failure == nil else { return nil }
        record.pointee.held &+= content.count
        heldBytes &+= content.count
        let event = judgeContent(record, content, ends: ends)
        if record.pointee.isClosed { bury(record, isClean: record.pointee.peerEnded && record.pointee.sentEnd) }
        return event
    }

    private mutating func judgeContent(_ record: UnsafeMutablePointer<StreamRecord>, _ content: UnsafeRawBufferPointer, ends: Bool) -> HTTP2Event? {
        let id = record.pointee.id, owner = record.pointee.owner
        if record.pointee.answeredAt != 0 {
            // Nobody waits for it any more. The stream's window is not given back, so it soon ends by itself.
            settle(record, content.count)
            return nil
        }
        if record.pointee.bytesPromised >= 0 {
            record.pointee.bytesPromised &-= content.count
            if record.pointee.bytesPromised < 0 || ends && record.pointee.bytesPromised != 0 {
                guard frames.mayReset(limits, workspace.pointee.now) || !isServer else { return failing(.rapidReset) }
                return refuse(record, .lengthMismatch)
            }
        }
        if content.count > 0 { return .data(stream: id, owner: owner, content, ends: ends) }
        return ends ? .some(.ended(stream: id, owner: owner)) : nil
    }

    // MARK: Heads

    /// HEADERS or CONTINUATION, whole. The library gets a header block only when it is complete: what has been decoded
    /// lies in the workspace, where the next session decodes too.
    private mutating func takeHeadFrame(
        _ header: FrameHeader, _ frame: UnsafeRawPointer, _ count: Int, _ bytes: inout UnsafeRawBufferPointer, _ head: inout Head, now: UInt64
    ) -> HTTP2Event? {
        if header.type == FrameType.headers {
            blockEnds = header.has(FrameFlag.endStream)
            frames.blockFrames = 0
            frames.blockBytes = header.length
        }
        let isDirect = partial.count == blockHeld
        if isDirect && blockHeld == 0 && header.has(FrameFlag.endHeaders) {
            let event = feedBlock(header.stream, frame, count, &head, now: now)
            bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
            return event
        }
        if isDirect {
            guard partial.append(UnsafeRawBufferPointer(start: frame, count: count)) else { return failing(.continuationFlood) }
            bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
        }
        guard header.has(FrameFlag.endHeaders) else {
            frames.blockStream = header.stream
            blockHeld = partial.count
            if blockSince == 0 { blockSince = now }
            return nil
        }
        frames.blockStream = 0
        blockHeld = 0
        let event = feedBlock(header.stream, partial.readable.baseAddress!, partial.count, &head, now: now)
        partial.removeAll()
        return event
    }

    private mutating func feedBlock(_ id: Int32, _ block: UnsafeRawPointer, _ count: Int, _ head: inout Head, now: UInt64) -> HTTP2Event? {
        blockSince = 0
        var record = live(id)
        if let record, blockEnds { record.pointee.peerEnded = true }
        workspace.pointee.decoder.expect(head.fields.base)
        feeding = record
        feed(block, count)
        feeding = nil
        guard failure == nil else { return nil }
        if refusedByLibrary != 0 {
            if refusedByLibrary != NGHTTP2_ERR_REFUSED_STREAM.rawValue { return failing(.tooManyStreams) }
            frames.remember(id, .resetByUs)
            return frames.mayReset(limits, now) ? nil : failing(.rapidReset)
        }
        // The block of a stream that is gone has gone through the decompressor, and that was all it was for.
        guard workspace.pointee.decoder.hasBegun else { return nil }
        guard sawFrame else { return failing(.compression) }
        guard workspace.pointee.decoder.listBytes <= limits.headBombBytes else { return failing(.headBomb) }
        if workspace.pointee.decoder.kind == .request {
            let fresh = addRecord(id)
            fresh.pointee.peerEnded = blockEnds
            record = fresh
        }
        guard let record else { return nil }
        let event = judgeHead(record, &head, now: now)
        if record.pointee.isClosed { bury(record, isClean: record.pointee.peerEnded && record.pointee.sentEnd) }
        return event
    }

    private mutating func judgeHead(_ record: UnsafeMutablePointer<StreamRecord>, _ head: inout Head, now: UInt64) -> HTTP2Event? {
        let id = record.pointee.id, owner = record.pointee.owner, ends = blockEnds
        do throws(HTTPFault) {
            switch workspace.pointee.decoder.kind {
            case .request:
                record.pointee.sawHead = true
                try head.adoptRequest(&workspace.pointee.decoder, ends: ends, limits: .standard)
                adopt(record, head, ends: ends)
                return .head(stream: id, owner: owner, bytes: workspace.pointee.decoder.bytes, ends: ends)
            case .response:
                try adoptResponse(record, &head, ends: ends)
                let bytes = workspace.pointee.decoder.bytes
                if head.isInterim { return .interim(stream: id, owner: owner, bytes: bytes) }
                record.pointee.sawHead = true
                return .head(stream: id, owner: owner, bytes: bytes, ends: ends)
            case .trailers:
                // In a tunnel there is content and nothing else (RFC 9113, 8.5).
                guard ends, !record.pointee.isTunnel else { throw .trailersNotLast }
                if record.pointee.answeredAt != 0 { return nil }
                guard record.pointee.bytesPromised <= 0 else { throw .lengthMismatch }
                try head.adoptTrailers(&workspace.pointee.decoder, limits: .standard)
                return .trailers(stream: id, owner: owner, bytes: workspace.pointee.decoder.bytes)
            }
        } catch {
            // What is only too large can be answered; what is malformed cannot be trusted to end where it seems to.
            let mayAnswer = isServer && workspace.pointee.decoder.kind == .request && (error.status == 431 || error.status == 414)
            guard frames.mayReset(limits, now) || !isServer else { return failing(.rapidReset) }
            if error == .headTooLarge, !frames.mayRefuse(workspace.pointee.decoder.listBytes, limits, now) { return failing(.headBomb) }
            if mayAnswer {
                record.pointee.wasRefused = true
                return .refused(stream: id, owner: owner, error, isOpen: true)
            }
            return refuse(record, error)
        }
    }

    private mutating func refuse(_ record: UnsafeMutablePointer<StreamRecord>, _ fault: HTTPFault) -> HTTP2Event {
        let owner = record.pointee.owner
        reset(record, .protocolError)
        return .refused(stream: record.pointee.id, owner: owner, fault, isOpen: false)
    }

    /// What the stream must remember of its request.
    private func adopt(_ record: UnsafeMutablePointer<StreamRecord>, _ head: borrowing Head, ends: Bool) {
        record.pointee.answersHead = head.method == .head
        record.pointee.isConnect = head.method == .connect
        record.pointee.isUpgrade = head.isExtendedConnect
        record.pointee.isGRPC = head.isGRPC(workspace.pointee.decoder.bytes)
        if !ends, case .length(let count) = head.framing { record.pointee.bytesPromised = count }
    }

    private mutating func adoptResponse(_ record: UnsafeMutablePointer<StreamRecord>, _ head: inout Head, ends: Bool) throws(HTTPFault) {
        let mayOpenTunnel = record.pointee.isConnect || record.pointee.isUpgrade
        try head.adoptResponse(&workspace.pointee.decoder, ends: ends, answersHead: record.pointee.answersHead, mayOpenTunnel: mayOpenTunnel)
        guard head.status >= 200 else { return }
        let opensTunnel = mayOpenTunnel && head.status < 300
        record.pointee.isTunnel = opensTunnel
        switch head.framing {
        case .length(let count): if !ends { record.pointee.bytesPromised = count }
        case .none: if !ends, !opensTunnel { record.pointee.bytesPromised = 0 }
        case .chunked, .untilClose: break
        }
        if opensTunnel, record.pointee.isUpgrade, let accept = record.pointee.accept {
            try head.becomeUpgraded(&workspace.pointee.decoder, accept)
        }
    }
}
