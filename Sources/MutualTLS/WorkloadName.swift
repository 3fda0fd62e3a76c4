import Glibc

/// A workload's SPIFFE ID, `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`, taken apart where it lies.
///
/// Strict on purpose, and narrower than SPIFFE-ID §2: what Kubernetes would not accept as a name is none here, so no two spellings name the same
/// workload, and no byte of a peer needs escaping where it is shown.
public struct WorkloadName {
    /// The whole URI.
    public let uri: UnsafeRawBufferPointer
    public let trustDomain: UnsafeRawBufferPointer
    public let namespace: UnsafeRawBufferPointer
    public let serviceAccount: UnsafeRawBufferPointer

    /// SPIFFE-ID §2.1: at most 255 bytes. DNS labels have 63 bytes, names of service accounts 253 (RFC 1123).
    public static let trustDomainBytesMax = 255, namespaceBytesMax = 63, serviceAccountBytesMax = 253
    public static let bytesMax = 9 + trustDomainBytesMax + 4 + namespaceBytesMax + 4 + serviceAccountBytesMax

    /// Nil for whatever is not exactly that. The views point into `uri`.
    public init?(_ uri: UnsafeRawBufferPointer) {
        guard uri.count <= Self.bytesMax else { return nil }
        var rest = uri[...]
        guard Self.drop("spiffe://", from: &rest), let domain = Self.take(from: &rest, upTo: UInt8(ascii: "/")),
            Self.drop("ns/", from: &rest), let namespace = Self.take(from: &rest, upTo: UInt8(ascii: "/")),
            Self.drop("sa/", from: &rest)
        else { return nil }
        let account = UnsafeRawBufferPointer(rebasing: rest)
        guard Self.isTrustDomain(domain), Self.isLabel(namespace), Self.isSubdomain(account) else { return nil }
        self.uri = uri
        trustDomain = domain
        self.namespace = namespace
        serviceAccount = account
    }

    /// Whether the bytes may name a trust domain (SPIFFE-ID §2.1).
    public static func isTrustDomain(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= 1, text.count <= trustDomainBytesMax else { return false }
        for byte in text where !(isLowerOrDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")) { return false }
        return true
    }

    /// RFC 1123, 2.1, lower case: what Kubernetes allows as a namespace.
    private static func isLabel(_ text: UnsafeRawBufferPointer) -> Bool {
        guard let first = text.first, let last = text.last, text.count <= namespaceBytesMax, isLowerOrDigit(first), isLowerOrDigit(last) else { return false }
        for byte in text where !(isLowerOrDigit(byte) || byte == UInt8(ascii: "-")) { return false }
        return true
    }

    /// Labels joined by dots: what Kubernetes allows as the name of a service account.
    private static func isSubdomain(_ text: UnsafeRawBufferPointer) -> Bool {
        guard !text.isEmpty, text.count <= serviceAccountBytesMax else { return false }
        var previous = UInt8(ascii: ".")
        for byte in text {
            switch byte {
            case UInt8(ascii: "."), UInt8(ascii: "-"):
                guard previous != UInt8(ascii: "."), !(byte == UInt8(ascii: ".") && previous == UInt8(ascii: "-")) else { return false }
            default: guard isLowerOrDigit(byte) else { return false }
            }
            previous = byte
        }
        return isLowerOrDigit(previous)
    }

    private static func isLowerOrDigit(_ byte: UInt8) -> Bool {
        (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z")) || (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
    }

    private static func drop(_ prefix: StaticString, from rest: inout Slice<UnsafeRawBufferPointer>) -> Bool {
        let count = prefix.utf8CodeUnitCount
        guard rest.count >= count else { return false }
        for place in 0..<count where rest[rest.startIndex + place] != prefix.utf8Start[place] { return false }
        rest = rest.dropFirst(count)
        return true
    }

    /// What stands before the separator, which is dropped too.
    private static func take(from rest: inout Slice<UnsafeRawBufferPointer>, upTo separator: UInt8) -> UnsafeRawBufferPointer? {
        guard let end = rest.firstIndex(of: separator) else { return nil }
        let taken = UnsafeRawBufferPointer(rebasing: rest[..<end])
        rest = rest[(end + 1)...]
        return taken
    }
}

/// Whether two runs of bytes are the same.
@inline(__always) func same(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
    guard a.count == b.count, let first = a.baseAddress, let second = b.baseAddress else { return a.count == b.count }
    return memcmp(first, second, a.count) == 0
}
