import Bytes
import HTTPCodec
import Routing

/// What a worker needs while a route changes a message: memory made once, used within one turn.
struct SteerRoom: ~Copyable {
    /// Memory of the decision itself.
    let scratch = RouteScratch()
    /// What is to be changed about the head at hand.
    var edits = HeadEdits()
    /// The changed head.
    let head: UnsafeMutableRawBufferPointer
    /// Texts put together here: paths, lists, cookies. What was written stays until `begin`.
    private let texts: UnsafeMutableRawBufferPointer
    private var textCount = 0
    /// Fields of the answer at hand, if it is one of our own.
    private let fields: UnsafeMutablePointer<ReplyField>
    private var fieldCount = 0

    init() {
        head = .allocate(byteCount: SteerSizes.headBytesMax, alignment: 16)
        texts = .allocate(byteCount: SteerSizes.textBytesMax, alignment: 16)
        fields = .allocate(capacity: SteerSizes.answerFieldsMax)
    }

    deinit {
        head.deallocate()
        texts.deallocate()
        fields.deallocate()
    }

    /// Another message.
    mutating func begin() {
        edits.removeAll()
        textCount = 0
        fieldCount = 0
    }

    /// A text made now; nil when it does not fit.
    mutating func text(_ write: (inout ByteWriter) -> Void) -> UnsafeRawBufferPointer? {
        var writer = ByteWriter(UnsafeMutableRawBufferPointer(rebasing: texts[textCount...]))
        write(&writer)
        guard !writer.overflowed else { return nil }
        textCount += writer.count
        return writer.written
    }

    /// A field of the answer.
    mutating func answer(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
        guard fieldCount < SteerSizes.answerFieldsMax else { return }
        fields[fieldCount] = ReplyField(name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value: value)
        fieldCount += 1
    }

    /// The fields noted for the answer, once.
    mutating func takeAnswer() -> UnsafeBufferPointer<ReplyField> {
        defer { fieldCount = 0 }
        return UnsafeBufferPointer(start: fields, count: fieldCount)
    }
}

/// Sizes of what routes write.
enum SteerSizes {
    /// A head with what its route has added: all that offsets into it can reach.
    static let headBytesMax = 64 * 1024
    /// What is put together for one message: a target of 16 KiB, the lists of CORS, a cookie.
    static let textBytesMax = 48 * 1024
    /// Fields of an answer of our own: those of CORS, and Location.
    static let answerFieldsMax = 8
    /// An Origin: scheme, a name of 253 bytes, port. A longer one is nobody's.
    static let originBytesMax = 320
}
