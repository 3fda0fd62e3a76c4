import MeshModel
import Testing

@testable import Routing

@Suite struct ResolveTests {
    @Test func addressesFindServicesAndPods() throws {
        var sample = RoutingSample()
        let view = try sample.view(Shop.state)
        #expect(view.generation == 1)
        #expect(view.resolve("10.96.0.1", 80).text == "cart.shop:80")
        #expect(view.resolve("fd96::1", 80).text == "cart.shop:80")
        #expect(view.resolve("10.96.0.1", 81).text == "cart.shop:81")
        #expect(view.resolve("10.96.0.1", 443).text == "no port cart.shop")
        #expect(view.resolve("10.1.0.1", 8080).text == "pod cart-1 of cart.shop:80")
        #expect(view.resolve("fd00::1", 9).text == "pod cart-1")
        #expect(view.resolve("10.1.0.3", 5432).text == "pod db-0 of db.shop:5432")
        #expect(view.resolve("10.1.0.4", 80).text == "pod lonely")
        #expect(view.resolve("192.0.2.1", 80).text == "unknown")
        #expect(view.resolve("::", 80).text == "unknown")
    }

    @Test(arguments: [
        ("cart", "cart.shop:80"), ("CART", "cart.shop:80"), ("cart.", "cart.shop:80"), ("cart:8080", "cart.shop:80"),
        ("cart.shop", "cart.shop:80"), ("cart.shop.svc", "cart.shop:80"), ("Cart.Shop.Svc.Cluster.Local:80", "cart.shop:80"),
        ("cart.shop.svc.cluster.local.", "cart.shop:80"), ("cart.other", "unknown"), ("cart.shop.svc.cluster", "unknown"),
        ("cart.shop.sv", "unknown"), ("cart.shop.svd", "unknown"), ("cart.shop.svc.cluster.locol", "unknown"),
        ("cart.shop.svc.cluster.local.example", "unknown"), ("cart.shop.com", "unknown"), ("", "unknown"), (".", "unknown"),
        (":80", "unknown"), ("..", "unknown"), (".shop", "unknown"), ("cart..svc", "unknown"), ("[::1]:80", "unknown"),
        ("10.1.0.1", "unknown"), ("cart:808080", "unknown"), (String(repeating: "a", count: 300), "unknown"),
    ])
    func hostsNameServices(_ host: String, _ expected: String) throws {
        var sample = RoutingSample()
        let view = try sample.view(Shop.state)
        #expect(view.resolve(host: host).text == expected)
    }

    @Test func aBareNameIsLookedUpInTheClientsNamespace() throws {
        var sample = RoutingSample()
        let view = try sample.view(Shop.state)
        #expect(view.resolve(host: "cart", from: "other").text == "unknown")
        #expect(view.resolve(host: "cart.shop", from: "other").text == "cart.shop:80")
        #expect(view.resolve(host: "cart", 443).text == "no port cart.shop")
    }

    /// DESIGN, step 3: the address decides, unless it is unknown or a headless service's.
    @Test func addressAndHostTogether() throws {
        var sample = RoutingSample()
        let view = try sample.view(Shop.state)
        #expect(view.resolve("10.96.0.1", 80, host: "db").text == "cart.shop:80")
        #expect(view.resolve("192.0.2.1", 80, host: "cart").text == "cart.shop:80")
        #expect(view.resolve("192.0.2.1", 80, host: "example.org").text == "unknown")
        #expect(view.resolve("10.1.0.3", 5432, host: "db").text == "db.shop:5432")
        #expect(view.resolve("10.1.0.3", 5432, host: "db-0.db").text == "pod db-0 of db.shop:5432")
        #expect(view.resolve("10.1.0.1", 8080, host: "db").text == "pod cart-1 of cart.shop:80")
        #expect(view.resolve("10.1.0.4", 80, host: "cart").text == "pod lonely")
    }

    @Test func workloadsAreFoundByAddress() throws {
        var sample = RoutingSample()
        let view = try sample.view(Shop.state)
        #expect(view.workload(at: IPAddress("10.1.0.2")!).map { string($0.name) } == "cart-2")
        #expect(view.workload(at: IPAddress("10.96.0.1")!) == nil)
        #expect(view.serviceBehind(address: IPAddress("10.1.0.2")!, port: 8080)?.text == "cart.shop:80")
    }

    @Test func everyAddressOfALargeMeshIsFound() throws {
        var state = MeshState(nodeName: "n")
        for number in 0..<3_000 {
            let pod = IPAddress(ipv4: 0x0a01_0000 + UInt32(number))
            state.workloads.append(Workload(uid: "\(number)", name: "w\(number)", namespace: "ns", addresses: [pod]))
            state.services.append(
                Service(
                    namespace: "ns", name: "s\(number)", addresses: [IPAddress(high: 0xfd00 << 48, low: UInt64(number))],
                    ports: [ServicePort(port: 80, endpoints: [Endpoint(address: pod, port: 8080)])]))
        }
        var sample = RoutingSample()
        let view = try sample.view(state)
        for number in 0..<3_000 {
            #expect(view.resolve(address: IPAddress(high: 0xfd00 << 48, low: UInt64(number)), port: 80).text == "s\(number).ns:80")
            #expect(view.resolve(address: IPAddress(ipv4: 0x0a01_0000 + UInt32(number)), port: 1).text == "pod w\(number)")
            #expect(view.resolve(host: "s\(number)", from: "ns").text == "s\(number).ns:80")
        }
    }
}
