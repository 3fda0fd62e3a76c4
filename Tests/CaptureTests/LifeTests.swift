@testable import Capture
import Foundation
import Testing

extension CaptureTests {
    /// From the first load to the last trace.
    @Suite(.serialized) struct Life {
        /// A node is killed and another one starts: the hooks never left, the counters go on, pods can be enrolled again or let go.
        @Test func nextNodeAdoptsWhatAKilledOneLeft() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("far").serve("far", on: 80)
                try node.enrol("a") { $0.excludedOutboundPorts = [5432, 80] }
                try node.enrol("b") { $0.failClosed = true }
                #expect(try node.person("a").connect(to: "10.88.9.2", 81).reply == "proxy for 10.88.9.2:81")
                #expect(node.capture!.adoptedNamespaceCookies().isEmpty)
                let linksBefore = try node.linkNumbers()
                node.crash()
                // The listeners still live in their holder and the last stamp is young: nobody notices the node's end.
                #expect(try node.person("b").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                usleep(2_100_000)
                #expect(try node.person("b").connect(to: "10.88.9.2", 80).error == "ECONNREFUSED")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "app far")

                try node.start()
                #expect(Set(node.capture!.adoptedNamespaceCookies()) == [try node.cookie("a"), try node.cookie("b")])
                #expect(try node.count("redirected") == 2)
                #expect(try node.linkNumbers() == linksBefore)
                #expect(try node.person("b").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                #expect(try node.person("far").connect(to: "10.88.1.2", 8080).reply == "inbound for 10.88.1.2:8080")
                #expect(try node.linkNumbers() == linksBefore)
                try node.capture!.unenrol(namespaceCookie: try node.cookie("b"))
                #expect(try node.person("b").connect(to: "10.88.9.2", 80).reply == "app far")
            }
        }

        /// A cgroup that was removed and made again under the same name takes its links with it; the next node attaches anew.
        @Test func linksOfAVanishedCgroupAreReplaced() throws {
            try ScratchNode.with { node in
                try node.start()
                node.crash()
                try ScratchNode.shell("rmdir \(node.cgroups)/pods/weft/node \(node.cgroups)/pods/weft \(node.cgroups)/pods/? \(node.cgroups)/pods && mkdir -p \(node.cgroups)/pods/a")
                try node.start()
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
            }
        }

        /// Maps of an older build have other records: they are replaced, not misread.
        @Test func mapsOfAnotherShapeAreReplaced() throws {
            try ScratchNode.with { node in
                let maps = node.configuration.pinDirectory + "/maps"
                try ScratchNode.shell("mkdir -p \(maps) && bpftool map create \(maps)/pods type hash key 8 value 8 entries 16 name pods")
                try node.start()
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
            }
        }

        enum End: CaseIterable { case detach, cleanupAfterCrash }

        @Test(arguments: End.allCases, [false, true]) func nothingIsLeftBehind(end: End, isStrict: Bool) throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("far").serve("far", on: 80)
                try node.enrol("a") { $0.failClosed = true; $0.isStrict = isStrict; $0.excludedOutboundPorts = [1] }
                let objects = try node.kernelObjects()
                // Nine hooks and one namespace, and a strict pod's cgroup.
                #expect(objects.count { $0.hasPrefix("link") } == (isStrict ? 11 : 10))
                let pins = node.configuration.pinDirectory
                switch end {
                case .detach:
                    try node.capture!.detach()
                    node.crash()
                case .cleanupAfterCrash:
                    node.crash()
                    try Capture.cleanup(pinDirectory: pins)
                    try Capture.cleanup(pinDirectory: pins)   // twice is fine
                }
                #expect(access(pins, F_OK) != 0)
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "app far")
                // Maps and programs go when the kernel's last reader has left, some milliseconds later.
                var left = ScratchNode.survivors(of: objects)
                for _ in 0..<40 where !left.isEmpty {
                    usleep(50_000)
                    left = ScratchNode.survivors(of: objects)
                }
                #expect(left.isEmpty, "\(left)")
            }
        }

        @Test func unenrolledPodLeavesNoEntries() throws {
            try ScratchNode.with { node in
                try node.start()
                let before = try node.linkNumbers()
                try node.enrol("a") {
                    $0.excludedOutboundPorts = [1, 2]
                    $0.excludedInboundPorts = [3]
                    $0.excludedOutboundPrefixes = [.init(address: [UInt8](repeating: 0, count: 16), bits: 0)]
                    $0.isStrict = true
                    $0.probePorts = [4]
                    $0.udpExceptionPorts = [5]
                }
                try node.capture!.unenrol(namespaceCookie: try node.cookie("a"))
                #expect(try node.linkNumbers() == before)
                for map in ["pods", "listeners", "addresses", "port_lists", "excluded_prefixes", "connecting", "bypass"] {
                    #expect(try node.entries(in: map) == 0, "\(map)")
                }
                // Letting go of what is not held is fine.
                try node.capture!.unenrol(namespaceCookie: 12345)
            }
        }

        @Test func verdictsCannotBeWritten() throws {
            try ScratchNode.with { node in
                try node.start()
                #expect(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, node.capture!.verdicts, 0) == MAP_FAILED)
                let page = mmap(nil, 4096, PROT_READ, MAP_SHARED, node.capture!.verdicts, 0)
                #expect(page != MAP_FAILED)
                #expect(mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0)
                munmap(page, 4096)
            }
        }

        /// The verifier's last words are our error: a program whose first instruction is `exit` never reaches its second.
        @Test func refusedProgramIsNamedWithTheReason() throws {
            try ScratchNode.with { node in
                var image = try Data(contentsOf: URL(filePath: ScratchNode.object))
                let exit = Data([0x95, 0, 0, 0, 0, 0, 0, 0])
                let start = try Self.offset(ofSection: "cgroup/connect4", in: image)
                image.replaceSubrange(start..<start + exit.count, with: exit)
                var configuration = node.configuration
                configuration.objectPath = node.directory + ".o"
                try image.write(to: URL(filePath: configuration.objectPath))
                defer { unlink(configuration.objectPath) }
                #expect {
                    _ = try Capture(configuration)
                } throws: { error in
                    guard case .rejected(program: "weft_connect4", let lastLines) = error as? CaptureError else { return false }
                    return lastLines.contains { $0.contains("unreachable insn") }
                }
                #expect(access(configuration.pinDirectory, F_OK) != 0)
            }
        }

        /// Where a section's bytes begin in an ELF64 file (gabi: e_shoff, e_shentsize, e_shnum, e_shstrndx; sh_name, sh_offset).
        private static func offset(ofSection name: String, in image: Data) throws -> Int {
            func number<Number: FixedWidthInteger>(_ type: Number.Type, at offset: Int) -> Int {
                Int(image.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) })
            }
            let table = number(UInt64.self, at: 40), stride = number(UInt16.self, at: 58)
            let names = number(UInt64.self, at: table + number(UInt16.self, at: 62) * stride + 24)
            let wanted = Data(name.utf8 + [0])
            for index in 0..<number(UInt16.self, at: 60) {
                let header = table + index * stride, start = names + number(UInt32.self, at: header)
                if image[start...].starts(with: wanted) { return number(UInt64.self, at: header + 24) }
            }
            throw Person.Trouble(description: "the object has no section \(name)")
        }

        @Test func missingThingsAreNamed() throws {
            try ScratchNode.with { node in
                func failure(_ change: (inout CaptureConfiguration) -> Void) -> String {
                    var configuration = node.configuration
                    change(&configuration)
                    do {
                        _ = try Capture(configuration)
                        return "no failure"
                    } catch {
                        // A start that failed leaves no hook behind.
                        #expect(access(configuration.pinDirectory, F_OK) != 0)
                        return error.description
                    }
                }
                #expect(failure { $0.objectPath = "/nowhere/capture.bpf.o" }.contains("make builds it"))
                #expect(failure { $0.pinDirectory = node.directory + "/plain" }.contains("mount -t bpf"))
                #expect(failure { $0.podsCgroup = "/tmp" }.contains("cgroup v2"))
                #expect(failure { $0.podsCgroup = node.cgroups + "/nowhere" }.contains("No such file"))
            }
        }
    }
}
