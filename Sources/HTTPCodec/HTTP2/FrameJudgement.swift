import Bytes
import CNGHTTP2

extension SessionState {
    /// What the header of a frame alone tells, before any of its payload is waited for (RFC 9113, 4.2, 6.10).
    mutating func judgeHeader(_ header: FrameHeader) -> HTTP2Fault? {
        if header.length > 16_384 { return .frameTooLarge }
        if !frames.sawSettings, header.type != FrameType.settings || header.has(FrameFlag.ack) { return .settingsNotFirst }
        if frames.blockStream != 0 {
            guard header.type == FrameType.continuation, header.stream == frames.blockStream else { return .interruptedHead }
            frames.blockFrames &+= 1
            frames.blockBytes &+= header.length
            if frames.blockFrames > limits.continuationsMax || frames.blockBytes > limits.headBlockBytesMax { return .continuationFlood }
        } else if header.type == FrameType.continuation {
            return .strayContinuation
        }
        return nil
    }

    /// DATA, before its payload has come; `padding` is the first byte when the frame is padded.
    mutating func judgeData(_ header: FrameHeader, padding: Int, now: UInt64) -> FrameVerdict {
        guard header.stream != 0 else { return .fault(.wrongStream) }
        if frames.isIdle(header.stream) { return .fault(.idleStream) }
        if header.has(FrameFlag.padded) {
            guard header.length > 0 else { return .fault(.badFrameSize) }
            guard padding < header.length else { return .fault(.badPadding) }
        }
        let held = nghttp2_session_get_effective_recv_data_length(library), window = nghttp2_session_get_effective_local_window_size(library)
        guard header.length <= Int(window) &- Int(held) else { return .fault(.flowControl) }
        guard let record = table[header.stream] else { return judgeDataOfClosed(header, now: now) }
        if record.pointee.isResetting { return judgeLateData(header, now: now) }
        guard !record.pointee.peerEnded else { return .fault(.closedStream) }
        guard record.pointee.sawHead else { return .fault(.refusedFrame) }
        let content = header.length &- (header.has(FrameFlag.padded) ? padding &+ 1 : 0)
        if !header.has(FrameFlag.endStream), let fault = frames.faultOfData(content, limits, now) { return .fault(fault) }
        return .feed
    }

    /// The library drops it and counts it for the window; whether its sender must be told is ours to say (RFC 9113, 5.1).
    private mutating func judgeDataOfClosed(_ header: FrameHeader, now: UInt64) -> FrameVerdict {
        switch frames.ending(of: header.stream) {
        case .resetByUs: return judgeLateData(header, now: now)
        case .ended, .resetByPeer: return .fault(.closedStream)
        case nil:
            // What a server had on the way when we reset its streams is bounded by their windows.
            if isServer, !frames.mayControl(limits, now) { return .fault(.controlFlood) }
            return .feed
        }
    }

    /// What is on its way to a stream that we have reset is bounded by windows, unless it holds nothing.
    private mutating func judgeLateData(_ header: FrameHeader, now: UInt64) -> FrameVerdict {
        header.length > limits.tinyDataBytes || frames.mayContinueReset(limits, now) ? .feed : .fault(.controlFlood)
    }

    /// Any other frame, once it is there whole. `payload` has `header.length` bytes.
    mutating func judge(_ header: FrameHeader, _ payload: UnsafeRawPointer, now: UInt64) -> FrameVerdict {
        switch header.type {
        case FrameType.headers: return judgeHeaders(header, payload, now: now)
        case FrameType.continuation: return .feed
        case FrameType.priority: return judgePriority(header, payload, now: now)
        case FrameType.resetStream: return judgeReset(header, now: now)
        case FrameType.settings: return judgeSettings(header, payload, now: now)
        case FrameType.pushPromise: return .fault(.pushPromise)
        case FrameType.ping:
            guard header.stream == 0 else { return .fault(.wrongStream) }
            guard header.length == 8 else { return .fault(.badFrameSize) }
            if header.has(FrameFlag.ack) { return .drop }
            return frames.mayControl(limits, now) ? .feed : .fault(.controlFlood)
        case FrameType.goAway:
            guard header.stream == 0 else { return .fault(.wrongStream) }
            guard header.length >= 8 else { return .fault(.badFrameSize) }
            return frames.mayControl(limits, now) ? .feed : .fault(.controlFlood)
        case FrameType.windowUpdate: return judgeWindowUpdate(header, payload, now: now)
        case FrameType.priorityUpdate: return frames.mayPrioritise(limits, now) ? .drop : .fault(.priorityFlood)
        default: return frames.mayControl(limits, now) ? .drop : .fault(.controlFlood)
        }
    }

    private mutating func judgeHeaders(_ header: FrameHeader, _ payload: UnsafeRawPointer, now: UInt64) -> FrameVerdict {
        guard header.stream != 0 else { return .fault(.wrongStream) }
        var overhead = 0
        if header.has(FrameFlag.padded) {
            guard header.length > 0 else { return .fault(.badFrameSize) }
            overhead = 1 &+ Int(payload.load(as: UInt8.self))
        }
        if header.has(FrameFlag.priority) {
            let place = header.has(FrameFlag.padded) ? 1 : 0
            guard header.length >= place &+ 5 else { return .fault(.badFrameSize) }
            if dependency(payload + place) == header.stream { return .fault(.selfDependency) }
            overhead &+= 5
        }
        guard overhead <= header.length else { return .fault(.badPadding) }
        if let record = table[header.stream] {
            if record.pointee.isResetting { return frames.mayContinueReset(limits, now) ? .feed : .fault(.controlFlood) }
            return record.pointee.peerEnded ? .fault(.closedStream) : .feed
        }
        guard isServer else { return frames.isIdle(header.stream) ? .fault(.idleStream) : .feed }
        guard frames.isPeers(header.stream) else { return .fault(.badStreamNumber) }
        if header.stream > frames.highestPeer {
            frames.openedByPeer(header.stream, limits)
            return .feed
        }
        switch frames.ending(of: header.stream) {
        case .resetByUs: return frames.mayContinueReset(limits, now) ? .feed : .fault(.controlFlood)
        case .ended, .resetByPeer: return .fault(.closedStream)
        case nil: return .fault(.badStreamNumber)
        }
    }

    private func dependency(_ bytes: UnsafeRawPointer) -> Int32 {
        Int32(bitPattern: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)) & 0x7FFF_FFFF)
    }

    /// Priorities are not followed, and we say so; the frames are still judged (RFC 9113, 5.3.2, 6.3).
    private mutating func judgePriority(_ header: FrameHeader, _ payload: UnsafeRawPointer, now: UInt64) -> FrameVerdict {
        guard header.stream != 0 else { return .fault(.wrongStream) }
        // RST_STREAM must not name a stream that is idle, and is in vain for one that is gone.
        let isLive = live(header.stream) != nil
        guard header.length == 5 else { return isLive ? .reset(.frameSizeError) : .fault(.badFrameSize) }
        if dependency(payload) == header.stream { return isLive ? .reset(.protocolError) : .fault(.selfDependency) }
        return frames.mayPrioritise(limits, now) ? .drop : .fault(.priorityFlood)
    }

    private mutating func judgeReset(_ header: FrameHeader, now: UInt64) -> FrameVerdict {
        guard header.stream != 0 else { return .fault(.wrongStream) }
        guard header.length == 4 else { return .fault(.badFrameSize) }
        if frames.isIdle(header.stream) { return .fault(.idleStream) }
        if isServer, !frames.mayReset(limits, now) { return .fault(.rapidReset) }
        if table[header.stream] != nil { return .feed }
        // A server may reset what we asked for; what is gone it can only reset to keep us busy.
        return isServer || frames.mayControl(limits, now) ? .drop : .fault(.controlFlood)
    }

    private mutating func judgeSettings(_ header: FrameHeader, _ payload: UnsafeRawPointer, now: UInt64) -> FrameVerdict {
        guard header.stream == 0 else { return .fault(.wrongStream) }
        if header.has(FrameFlag.ack) {
            guard header.length == 0 else { return .fault(.badFrameSize) }
            guard frames.settingsUnanswered > 0 else { return frames.mayControl(limits, now) ? .drop : .fault(.controlFlood) }
            frames.settingsUnanswered &-= 1
            return .feed
        }
        guard header.length % 6 == 0 else { return .fault(.badFrameSize) }
        guard frames.mayControl(limits, now), header.length <= 6 * 32 else { return .fault(.controlFlood) }
        frames.sawSettings = true
        var index = 0
        while index < header.length {
            let id = UInt16(bigEndian: payload.loadUnaligned(fromByteOffset: index, as: UInt16.self))
            let value = UInt32(bigEndian: payload.loadUnaligned(fromByteOffset: index &+ 2, as: UInt32.self))
            switch UInt32(id) {
            case NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue:
                guard value == 0 || isServer && value == 1 else { return .fault(.badSetting) }
            case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue:
                // Every open stream is looked at: that has its price.
                guard frames.mayControl(limits, now, count: openStreams / 16) else { return .fault(.controlFlood) }
                guard value <= 0x7FFF_FFFF, mayChangeInitialWindow(to: Int(value)) else { return .fault(.badInitialWindow) }
            case NGHTTP2_SETTINGS_MAX_FRAME_SIZE.rawValue:
                guard value >= 16_384, value <= 16_777_215 else { return .fault(.badSetting) }
            case NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL.rawValue, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES.rawValue:
                guard value <= 1 else { return .fault(.badSetting) }
            default: break
            }
            index &+= 6
        }
        return .feed
    }

    /// Whether no stream's window is pushed above its maximum; the library would only reset those streams (RFC 9113, 6.9.2).
    private func mayChangeInitialWindow(to value: Int) -> Bool {
        let change = value &- Int(nghttp2_session_get_remote_settings(library, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE))
        // A window is the initial one and what it gained, less what was sent: as a rule no stream needs to be asked.
        guard change > 0, value &+ windowGainedMax > 0x7FFF_FFFF else { return true }
        var each = records
        while let record = each {
            each = record.pointee.next
            if Int(nghttp2_session_get_stream_remote_window_size(library, record.pointee.id)) &+ change > 0x7FFF_FFFF { return false }
        }
        return true
    }

    private mutating func judgeWindowUpdate(_ header: FrameHeader, _ payload: UnsafeRawPointer, now: UInt64) -> FrameVerdict {
        guard header.length == 4 else { return .fault(.badFrameSize) }
        if header.stream != 0, frames.isIdle(header.stream) { return .fault(.idleStream) }
        guard frames.mayUpdateWindow(limits, now) else { return .fault(.windowUpdateFlood) }
        let increment = Int(dependency(payload))
        guard header.stream != 0 else {
            if increment == 0 { return .fault(.zeroWindowIncrement) }
            return Int(nghttp2_session_get_remote_window_size(library)) &+ increment > 0x7FFF_FFFF ? .fault(.windowOverflow) : .feed
        }
        guard let record = live(header.stream) else { return .drop }
        if increment == 0 { return .reset(.protocolError) }
        let window = Int(nghttp2_session_get_stream_remote_window_size(library, header.stream))
        guard window &+ increment <= 0x7FFF_FFFF else { return .reset(.flowControlError) }
        record.pointee.windowGained &+= increment
        windowGainedMax = max(windowGainedMax, record.pointee.windowGained)
        return .feed
    }
}
