/// Small numbers for keys, dense and reused, so that what belongs to a key lies in an array. A hash table with open addressing and linear
/// probing.
struct KeyNumbers {
    private(set) var keys: [PoolKey] = []
    private var nextFree: [UInt32] = []
    private var firstFree = UInt32.max
    private(set) var used = 0
    /// Number + 1, or 0.
    private var slots: [UInt32] = Array(repeating: 0, count: 256)

    func find(_ key: PoolKey) -> Int? {
        let mask = slots.count - 1
        var slot = key.hash & mask
        while slots[slot] != 0 {
            let number = Int(slots[slot]) - 1
            if keys[number] == key { return number }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// A number for a key that has none. At most one more than all numbers given out before.
    mutating func insert(_ key: PoolKey) -> Int {
        if (used + 1) * 2 > slots.count { grow() }
        let number: Int
        if firstFree != .max {
            number = Int(firstFree)
            firstFree = nextFree[number]
            keys[number] = key
        } else {
            number = keys.count
            keys.append(key)
            nextFree.append(.max)
        }
        used += 1
        place(number)
        return number
    }

    /// The key is forgotten; its number may be another's.
    mutating func erase(_ number: Int) {
        let mask = slots.count - 1
        var hole = keys[number].hash & mask
        while slots[hole] != UInt32(number) + 1 { hole = (hole + 1) & mask }
        // Backward shift: whoever was pushed past the hole by probing moves into it, so no tombstones are needed.
        var slot = (hole + 1) & mask
        while slots[slot] != 0 {
            let home = keys[Int(slots[slot]) - 1].hash & mask
            if (slot - home) & mask >= (slot - hole) & mask {
                slots[hole] = slots[slot]
                hole = slot
            }
            slot = (slot + 1) & mask
        }
        slots[hole] = 0
        nextFree[number] = firstFree
        firstFree = UInt32(number)
        used -= 1
    }

    private mutating func place(_ number: Int) {
        let mask = slots.count - 1
        var slot = keys[number].hash & mask
        while slots[slot] != 0 { slot = (slot + 1) & mask }
        slots[slot] = UInt32(number) + 1
    }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: 0, count: old.count * 2)
        for entry in old where entry != 0 { place(Int(entry) - 1) }
    }
}
