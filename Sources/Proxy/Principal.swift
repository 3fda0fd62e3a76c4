import MeshModel
import Routing

// Identities as the metrics name them.
extension Caller {
    /// The identity of a workload, as its peers see it over mutual TLS.
    init(_ workload: WorkloadView?, _ tables: TablesView) {
        guard let workload else { self = .unauthenticated; return }
        self.init(trustDomain: tables.trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }

    /// Different for different identities, and 0 for none; never the bits of an address.
    var hash: UInt {
        guard isAuthenticated else { return 0 }
        return UInt(truncatingIfNeeded: ShardHash.of(namespace: namespace, name: serviceAccount)) | 1 << 63
    }

    /// `<trust domain>/ns/<namespace>/sa/<service account>`, Istio's form of a principal; empty for a caller that is not proven.
    func withName<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        guard isAuthenticated else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        let count = trustDomain.count + 4 + namespace.count + 4 + serviceAccount.count
        return withUnsafeTemporaryAllocation(byteCount: count, alignment: 1) { memory in
            var place = 0
            func add(_ text: UnsafeRawBufferPointer) {
                if let base = text.baseAddress { (memory.baseAddress! + place).copyMemory(from: base, byteCount: text.count) }
                place += text.count
            }
            func add(_ text: StaticString) { add(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }
            add(trustDomain)
            add("/ns/")
            add(namespace)
            add("/sa/")
            add(serviceAccount)
            return body(UnsafeRawBufferPointer(memory))
        }
    }
}
