/// Coarse deadlines, one per slab place, that cost nothing to push back.
///
/// Setting a deadline later than the one filed only stores a number: when the old slot comes up, the entry is filed again under the real
/// deadline. A keep-alive connection therefore touches the wheel once per timeout, not twice per request. Only a deadline earlier than
/// the filed slot moves the entry.
///
/// One tick is 8 ms; 8,192 slots reach 65 s; a deadline farther away is filed at the horizon and filed again from there.
public struct TimerWheel: ~Copyable {
    public static let tickNanoseconds: UInt64 = 8_000_000
    static let slotCount = 8_192
    static let nobody = UInt32.max

    struct Entry {
        /// Neighbours in the slot's list, biased by one so that zeroed memory means "nobody".
        var nextPlusOne: UInt32 = 0
        var previousPlusOne: UInt32 = 0
        /// The tick this entry is filed under; 0: not filed.
        var filed: UInt32 = 0
        /// The tick that counts; 0: no deadline.
        var deadline: UInt32 = 0
    }

    let entries: Region<Entry>
    let slots: Region<UInt32>       // first index + 1
    let start: Nanoseconds
    /// The last tick whose slot has been emptied.
    private(set) var current: UInt32 = 1

    public init(capacity: Int, now: Nanoseconds) {
        entries = Region(capacity: capacity)
        slots = Region(capacity: Self.slotCount)
        start = now
    }

    func tick(at time: Nanoseconds) -> UInt32 {
        // +1: tick 0 means "none". 2^32 ticks are 397 days; the subtraction saturates for a time before `start`.
        UInt32(clamping: (time > start ? time - start : 0) / Self.tickNanoseconds + 1)
    }

    /// Files `index` to expire at the first tick not before `time`.
    public mutating func set(_ index: UInt32, at time: Nanoseconds) {
        let wanted = max(tick(at: time) &+ 1, current &+ 1)
        let entry = entries.base + Int(index)
        entry.pointee.deadline = wanted
        if entry.pointee.filed != 0 {
            if entry.pointee.filed <= wanted { return }
            unlink(index)
        }
        link(index, wanted)
    }

    /// Whether a deadline is ahead.
    public func isSet(_ index: UInt32) -> Bool { entries.base[Int(index)].deadline != 0 }

    /// No deadline any more. The entry stays filed and is ignored when its slot comes up.
    public mutating func clear(_ index: UInt32) { entries.base[Int(index)].deadline = 0 }

    /// Takes the entry off the wheel: its place is about to be given to someone else.
    public mutating func remove(_ index: UInt32) {
        entries.base[Int(index)].deadline = 0
        if entries.base[Int(index)].filed != 0 { unlink(index) }
    }

    /// Whether a slot has come up, so that `takeDue` may find something.
    @inlinable public func isDue(_ now: Nanoseconds) -> Bool { now >= nextTickStart }

    /// When the next slot comes up.
    public var nextTickStart: Nanoseconds { start + UInt64(current) * Self.tickNanoseconds }

    /// Calls `expired` for each index whose deadline has passed; such an entry has no deadline any more and may be set again inside.
    public mutating func advance(to now: Nanoseconds, _ expired: (UInt32) -> Void) {
        var due = takeDue(now)
        while let index = due {
            expired(index)
            due = takeDue(now)
        }
    }

    /// The next expired index, or nil when the wheel has caught up with `now`.
    public mutating func takeDue(_ now: Nanoseconds) -> UInt32? {
        let target = tick(at: now)
        while true {
            let slot = Int(current) & (Self.slotCount - 1)
            while slots[slot] != 0 {
                let index = slots[slot] - 1
                unlink(index)
                let deadline = entries.base[Int(index)].deadline
                if deadline == 0 { continue }
                if deadline <= current {
                    entries.base[Int(index)].deadline = 0
                    return index
                }
                link(index, deadline)
            }
            guard current < target else { return nil }
            current &+= 1
        }
    }

    /// Nanoseconds from `now` until a filed slot comes up, or `limit` when none does before that. Looks at `limit` / 8 ms slots.
    public func untilNext(_ now: Nanoseconds, limit: Nanoseconds) -> Nanoseconds {
        var tick = current
        let last = self.tick(at: now + limit)
        while tick <= last {
            if slots[Int(tick) & (Self.slotCount - 1)] != 0 {
                let due = start + UInt64(tick) * Self.tickNanoseconds
                return due > now ? min(due - now, limit) : 0
            }
            tick &+= 1
        }
        return limit
    }

    private mutating func link(_ index: UInt32, _ deadline: UInt32) {
        let filed = min(deadline, current &+ UInt32(Self.slotCount) - 1)
        let slot = Int(filed) & (Self.slotCount - 1)
        let first = slots[slot]
        entries.base[Int(index)].filed = filed
        entries.base[Int(index)].previousPlusOne = 0
        entries.base[Int(index)].nextPlusOne = first
        if first != 0 { entries.base[Int(first) - 1].previousPlusOne = index + 1 }
        slots[slot] = index + 1
    }

    private mutating func unlink(_ index: UInt32) {
        let entry = entries.base[Int(index)]
        if entry.previousPlusOne != 0 {
            entries.base[Int(entry.previousPlusOne) - 1].nextPlusOne = entry.nextPlusOne
        } else {
            slots[Int(entry.filed) & (Self.slotCount - 1)] = entry.nextPlusOne
        }
        if entry.nextPlusOne != 0 { entries.base[Int(entry.nextPlusOne) - 1].previousPlusOne = entry.previousPlusOne }
        entries.base[Int(index)].filed = 0
        entries.base[Int(index)].nextPlusOne = 0
        entries.base[Int(index)].previousPlusOne = 0
    }
}
