/// Who is at the other end, as far as it is proven: by its certificate, or, for a pod of this node, by the kernel. An address proves nothing.
///
/// The texts are borrowed: from a certificate as its connection keeps it, or from the tables of this turn.
public struct Caller: @unchecked Sendable {
    public let trustDomain: UnsafeRawBufferPointer
    public let namespace: UnsafeRawBufferPointer
    public let serviceAccount: UnsafeRawBufferPointer
    public let isAuthenticated: Bool

    /// Nothing is proven about the caller.
    public static let unauthenticated = Caller()

    /// `spiffe://<trustDomain>/ns/<namespace>/sa/<serviceAccount>`.
    @inlinable
    public init(trustDomain: UnsafeRawBufferPointer, namespace: UnsafeRawBufferPointer, serviceAccount: UnsafeRawBufferPointer) {
        self.trustDomain = trustDomain
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        isAuthenticated = true
    }

    private init() {
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        (trustDomain, namespace, serviceAccount, isAuthenticated) = (nothing, nothing, nothing, false)
    }
}
