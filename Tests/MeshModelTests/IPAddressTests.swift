import Testing

@testable import MeshModel

@Suite struct IPAddressTests {
    @Test(arguments: [
        ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("fd00::1", "fd00::1"), ("FD00:0:0::0001", "fd00::1"),
        ("::", "::"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
    ])
    func isReadAndWritten(_ text: String, _ usual: String) throws {
        #expect(try #require(IPAddress(text)).description == usual)
    }

    @Test(arguments: ["", "10.1.2", "10.1.2.256", "10.1.2.3:80", "[::1]", "fe80::1%eth0", "10.01.2.3", "cart", "10.1.2.3\0", "1.2.3.4 "])
    func whatIsNoAddressIsRefused(_ text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func bytesAreInNetworkOrder() throws {
        let address = try #require(IPAddress("10.1.2.3"))
        #expect(address.bytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3])
        #expect(IPAddress(bytes: [10, 1, 2, 3]) == address)
        #expect(IPAddress(bytes: address.bytes) == address)
        #expect(IPAddress(bytes: [10, 1, 2]) == nil)
        #expect(address.ipv4 == 0x0a01_0203)
        #expect(IPAddress("fd00::1")?.ipv4 == nil)
    }

    @Test func addressesSortAsNumbers() throws {
        let texts = ["::1", "10.0.0.9", "10.0.0.10", "192.168.0.1", "fd00::1", "fd00::2"]
        let addresses = texts.compactMap { IPAddress($0) }
        #expect(addresses.shuffled().sorted() == addresses)
    }

    @Test func loopbackIsKnown() {
        #expect(IPAddress("127.9.0.1")!.isLoopback && IPAddress("::1")!.isLoopback)
        #expect(!IPAddress("128.0.0.1")!.isLoopback && !IPAddress("::2")!.isLoopback)
    }
}
