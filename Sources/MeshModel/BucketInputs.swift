/// Deals a state's services and addresses out to their buckets, in an order that does not depend on the state's.
enum BucketInputs {
    static func services(_ state: MeshState) -> [[Service]] {
        var buckets = [[Service]](repeating: [], count: Limits.bucketsPerFamily)
        for service in state.services {
            buckets[ShardHash.bucket(ShardHash.of(namespace: service.namespace, name: service.name))].append(service)
        }
        // The sort is stable: of two services with one name the state's first comes first, and wins.
        for bucket in buckets.indices where buckets[bucket].count > 1 {
            buckets[bucket].sort { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
        }
        return buckets
    }

    static func addresses(_ state: MeshState) -> [[AddressInput]] {
        var inputs: [AddressInput] = []
        var places: [IPAddress: Int] = [:]
        let expected = state.workloads.count + state.services.count
        inputs.reserveCapacity(expected)
        places.reserveCapacity(expected)
        func place(of address: IPAddress) -> Int {
            if let place = places[address] { return place }
            inputs.append(AddressInput(address: address))
            places[address] = inputs.count - 1
            return inputs.count - 1
        }
        for workload in state.workloads {
            for address in workload.addresses {
                let place = place(of: address)
                if inputs[place].workload == nil { inputs[place].workload = workload }
            }
        }
        for service in state.services {
            for address in service.addresses {
                let place = place(of: address)
                guard !inputs[place].isClusterAddress, inputs[place].workload == nil else { continue }
                inputs[place].isClusterAddress = true
                inputs[place].references = [reference(to: service, servicePort: 0, endpointPort: 0)]
            }
        }
        for service in state.services {
            for port in service.ports {
                for endpoint in port.endpoints {
                    let place = place(of: endpoint.address)
                    guard !inputs[place].isClusterAddress else { continue }
                    let reference = reference(to: service, servicePort: port.port, endpointPort: endpoint.port)
                    if !inputs[place].references.contains(reference) { inputs[place].references.append(reference) }
                }
            }
        }
        return dealt(inputs)
    }

    /// Of two workloads with one uid the first wins.
    static func policies(_ state: MeshState) -> [[WorkloadAccess]] {
        var buckets = [[WorkloadAccess]](repeating: [], count: Limits.bucketsPerFamily)
        for access in state.access where !access.rules.isEmpty {
            let bucket = ShardHash.bucket(ShardHash.of(uid: access.uid))
            if !buckets[bucket].contains(where: { $0.uid == access.uid }) { buckets[bucket].append(access) }
        }
        for bucket in buckets.indices { buckets[bucket].sort { $0.uid < $1.uid } }
        return buckets
    }

    /// Of two tables for one port and callers' namespace the first wins.
    static func routes(_ state: MeshState) -> [[RoutedService]] {
        var buckets = [[RoutedService]](repeating: [], count: Limits.bucketsPerFamily)
        for table in state.routes {
            let bucket = ShardHash.bucket(ShardHash.of(namespace: table.namespace, name: table.name))
            let known = buckets[bucket].firstIndex { $0.name == table.name && $0.namespace == table.namespace }
            guard let known else {
                buckets[bucket].append(RoutedService(namespace: table.namespace, name: table.name, tables: [table]))
                continue
            }
            if !buckets[bucket][known].tables.contains(where: { $0.port == table.port && $0.callersNamespace == table.callersNamespace }) {
                buckets[bucket][known].tables.append(table)
            }
        }
        for bucket in buckets.indices {
            buckets[bucket].sort { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
            for place in buckets[bucket].indices where buckets[bucket][place].tables.count > 1 {
                // Whoever looks for a caller's table meets its own before everybody's.
                buckets[bucket][place].tables.sort {
                    ($0.port, $0.callersNamespace == nil ? 1 : 0, $0.callersNamespace ?? "") < ($1.port, $1.callersNamespace == nil ? 1 : 0, $1.callersNamespace ?? "")
                }
            }
        }
        return buckets
    }

    private static func dealt(_ inputs: [AddressInput]) -> [[AddressInput]] {
        var buckets = [[AddressInput]](repeating: [], count: Limits.bucketsPerFamily)
        for input in inputs {
            buckets[ShardHash.bucket(ShardHash.of(input.address))].append(input)
        }
        for bucket in buckets.indices {
            buckets[bucket].sort { $0.address < $1.address }
            for place in buckets[bucket].indices where buckets[bucket][place].references.count > 1 {
                buckets[bucket][place].references.sort {
                    ($0.namespace, $0.name, $0.servicePort, $0.endpointPort) < ($1.namespace, $1.name, $1.servicePort, $1.endpointPort)
                }
            }
        }
        return buckets
    }

    private static func reference(to service: Service, servicePort: UInt16, endpointPort: UInt16) -> AddressInput.Reference {
        AddressInput.Reference(
            namespace: service.namespace, name: service.name, servicePort: servicePort, endpointPort: endpointPort,
            isHeadless: service.isHeadless)
    }
}

extension ShardHash {
    /// The hash of a service's key; see `of(namespace:name:)` for raw bytes.
    public static func of(namespace: String, name: String) -> UInt64 {
        var namespace = namespace
        var name = name
        return namespace.withUTF8 { namespace in
            name.withUTF8 { name in
                of(namespace: UnsafeRawBufferPointer(namespace), name: UnsafeRawBufferPointer(name))
            }
        }
    }

    /// The hash of a workload's key; see `of(uid:)` for raw bytes.
    public static func of(uid: String) -> UInt64 {
        var uid = uid
        return uid.withUTF8 { of(uid: UnsafeRawBufferPointer($0)) }
    }
}
