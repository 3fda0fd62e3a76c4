import Balancing
import MeshModel

/// Where a connection or request goes. Valid until the worker enters its next epoch: use it within the turn of the loop,
/// keep endpoint slots and label ids over turns. `@unchecked Sendable`, like the views it is made of.
public enum Destination: @unchecked Sendable {
    /// One port of a service: any of its ready endpoints.
    case service(ServiceDestination)
    /// One workload, by its own address. `behind` is the service port that the address is an endpoint of, for labels and
    /// the protocol's hint (a headless service's if there are several).
    case workload(WorkloadView, behind: ServiceDestination?)
    /// The mesh knows the service but not this port of it: nothing listens there.
    case unknownPort(ServiceView)
    /// Nothing the mesh knows.
    case unknown
}

/// One port of a service, with its endpoints and their states.
public struct ServiceDestination: @unchecked Sendable {
    public let service: ServiceView
    public let port: PortView
    @usableFromInline let slots: UnsafePointer<UInt32>?
    @usableFromInline let statesBase: UnsafeMutableRawPointer

    @inlinable
    init(service: ServiceView, port: PortView, slots: UnsafePointer<UInt32>?, statesBase: UnsafeMutableRawPointer) {
        self.service = service
        self.port = port
        self.slots = slots
        self.statesBase = statesBase
    }

    /// Endpoints 0 ..< `readyCount` take requests.
    @inlinable public var readyCount: Int { port.readyCount }

    /// The endpoint at a place in 0 ..< `port.endpointCount`.
    @inlinable public func endpoint(at place: Int) -> EndpointView { port.endpoint(at: place) }

    /// The slot of the endpoint's state: its identity across generations.
    @inlinable
    public func slot(at place: Int) -> UInt32 {
        precondition(place >= 0 && place < port.endpointCount, "no such endpoint")
        // A shard with endpoints has slots.
        return slots.unsafelyUnwrapped[port.firstEndpoint + place]
    }

    /// The endpoint's state, shared by all workers.
    @inlinable
    public func state(at place: Int) -> EndpointState {
        EndpointState(line: statesBase + Int(slot(at: place)) * EndpointState.strideBytes)
    }

    /// What all workers share about the port itself.
    @inlinable
    public var portState: PortState {
        let slot = slots.unsafelyUnwrapped[port.shardEndpointCount + port.placeInShard]
        return PortState(line: statesBase + Int(slot) * EndpointState.strideBytes)
    }

    /// Which endpoint a hash belongs to; nil where requests are not hashed.
    @inlinable
    public var hashTable: HashTable.View? {
        let tables = UnsafeRawPointer(slots.unsafelyUnwrapped) + ShardSlots.hashTablesOffset(endpoints: port.shardEndpointCount, ports: port.shardPortCount)
        return tables.assumingMemoryBound(to: UnsafePointer<HashTable.View>?.self)[port.placeInShard]?.pointee
    }
}
