import MeshModel

extension ExpressionView {
    /// Whether the expression matches the whole text. At most a step per byte of the text and position of the expression, and no memory.
    @inlinable
    public func matches(_ text: UnsafeRawBufferPointer) -> Bool { wordCount == 1 ? walkOneWord(text) : walkFourWords(text) }

    @inlinable
    func walkOneWord(_ text: UnsafeRawBufferPointer) -> Bool {
        let classes = classOfByte, sets = setOfClass, after = setAfterPosition
        // Nothing is read yet: only the beginning is reached.
        var reached: UInt64 = 1
        var place = 0
        while place < text.count {
            var next: UInt64 = 0
            while reached != 0 {
                next |= after.loadUnaligned(fromByteOffset: reached.trailingZeroBitCount &* 8, as: UInt64.self)
                reached &= reached &- 1
            }
            let number = Int(classes.load(fromByteOffset: Int(text[place]), as: UInt8.self))
            reached = next & sets.loadUnaligned(fromByteOffset: number &* 8, as: UInt64.self)
            if reached == 0 { return false }
            place &+= 1
        }
        return reached & final(0) != 0
    }

    @usableFromInline
    func walkFourWords(_ text: UnsafeRawBufferPointer) -> Bool {
        let classes = classOfByte, sets = setOfClass, after = setAfterPosition
        var reached = SIMD4<UInt64>(1, 0, 0, 0)
        var place = 0
        while place < text.count {
            var next = SIMD4<UInt64>()
            var word = 0
            while word < 4 {
                var rest = reached[word]
                while rest != 0 {
                    next |= after.loadUnaligned(fromByteOffset: (word &* 64 &+ rest.trailingZeroBitCount) &* 32, as: SIMD4<UInt64>.self)
                    rest &= rest &- 1
                }
                word &+= 1
            }
            let number = Int(classes.load(fromByteOffset: Int(text[place]), as: UInt8.self))
            reached = next & sets.loadUnaligned(fromByteOffset: number &* 32, as: SIMD4<UInt64>.self)
            if reached == SIMD4<UInt64>() { return false }
            place &+= 1
        }
        return reached & SIMD4(final(0), final(1), final(2), final(3)) != SIMD4<UInt64>()
    }
}
