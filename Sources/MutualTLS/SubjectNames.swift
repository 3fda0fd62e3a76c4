/// The names of a certificate (subjectAltName, RFC 5280, 4.2.1.6): the one URI that X509-SVID wants, read from the extension's bytes.
///
/// OpenSSL's own reader would make an object per name; this one reads in place, knows one shape of DER (definite, shortest lengths) and refuses
/// every other. Names of other kinds (DNS, IP) are passed over, as X509-SVID §2 allows.
enum SubjectNames {
    /// A name of this kind is a URI: context tag 6, primitive, IA5String.
    private static let uriTag: UInt8 = 0x86
    private static let sequenceTag: UInt8 = 0x30

    /// The only URI among the names.
    static func uri(in extensionBytes: UnsafeRawBufferPointer) throws(TLSFault) -> UnsafeRawBufferPointer {
        var outer = DERBytes(extensionBytes)
        guard let names = outer.next(), names.tag == sequenceTag, outer.isEmpty else { throw .malformedCertificate }
        var rest = DERBytes(names.content)
        var found: UnsafeRawBufferPointer?
        while !rest.isEmpty {
            guard let name = rest.next() else { throw .malformedCertificate }
            // Every kind of GeneralName is a context tag from 0 to 8, in either form.
            guard name.tag & 0xC0 == 0x80, name.tag & 0x1F <= 8 else { throw .malformedCertificate }
            guard name.tag & 0x1F == 6 else { continue }
            guard name.tag == uriTag else { throw .malformedCertificate }
            guard found == nil else { throw .severalNames }
            found = name.content
        }
        guard let found else { throw .noName }
        return found
    }
}

/// A run of DER elements (X.690, 8 and 10.1).
struct DERBytes {
    struct Element {
        let tag: UInt8
        let content: UnsafeRawBufferPointer
    }

    private let bytes: UnsafeRawBufferPointer
    private var place = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isEmpty: Bool { place == bytes.count }

    /// The next element; nil when what is there is not one.
    mutating func next() -> Element? {
        guard bytes.count - place >= 2 else { return nil }
        let tag = bytes[place]
        // Tags above 30 take more bytes; nothing that is read here has one.
        guard tag & 0x1F != 0x1F else { return nil }
        var length = Int(bytes[place + 1])
        var start = place + 2
        if length >= 0x80 {
            let count = length & 0x7F
            // Four bytes of length are more than any chain may have; none is BER's indefinite form.
            guard count >= 1, count <= 4, bytes.count - start >= count else { return nil }
            length = 0
            for offset in 0..<count { length = length << 8 | Int(bytes[start + offset]) }
            guard bytes[start] != 0, length >= 0x80 else { return nil }
            start += count
        }
        guard bytes.count - start >= length else { return nil }
        place = start + length
        return Element(tag: tag, content: UnsafeRawBufferPointer(rebasing: bytes[start..<place]))
    }
}
