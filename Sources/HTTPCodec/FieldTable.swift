/// The rows of a head, in memory of their own.
///
/// An `InlineArray` in the head was measured first: reading one row of a borrowed head copied all 1,152 bytes of it (Swift 6.3),
/// 160 ns for a request and its response. The one allocation is made when the worker starts.
struct FieldTable: ~Copyable {
    private static let capacity = HeadLimits.fieldsCapacity + HeadLimits.fieldsAddedMax
    private let rows: UnsafeMutablePointer<HeadField>

    init() {
        rows = .allocate(capacity: Self.capacity)
        rows.initialize(repeating: HeadField(), count: Self.capacity)
    }

    deinit { rows.deallocate() }

    /// Where a decoder of HTTP/2 heads writes rows.
    var base: UnsafeMutablePointer<HeadField> { rows }

    /// The row must be one of a head's `fieldCount`; the parser keeps that below the capacity.
    @inline(__always) subscript(_ row: Int) -> HeadField {
        get { rows[row] }
        nonmutating set { rows[row] = newValue }
    }
}
