import COpenSSL
import Glibc
import Testing

@testable import MutualTLS

/// Where private keys lie, looked for in this process's own memory.
@Suite(.serialized) struct SecretTests {
    /// A key's scalar, in memory that the search does not see: the key memory of a stored key, PKCS#8 of P-256, whose scalar stands behind a fixed beginning.
    private final class Scalar {
        let memory: UnsafeMutableRawPointer
        let offset: Int

        init(_ key: borrowing KeyPair) throws {
            let descriptor = try key.store()
            guard let mapped = copenssl_key_map(descriptor) else { throw Wire.NoMemory() }
            close(descriptor)
            memory = mapped
            // ECPrivateKey (RFC 5915): version 1, then an OCTET STRING of 32 bytes.
            let bytes = UnsafeRawBufferPointer(start: mapped, count: 256)
            var found = -1
            for place in 0..<200 where bytes[place] == 2 && bytes[place + 1] == 1 && bytes[place + 2] == 1 && bytes[place + 3] == 4 && bytes[place + 4] == 32 {
                found = place + 5
            }
            guard found > 0 else { throw Wire.NoMemory() }
            offset = found
        }

        deinit { copenssl_key_unmap(memory) }

        var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory + offset, count: 32) }
    }

    /// Places outside of secret memory that hold the 32 bytes in either order. What the kernel does not read for /proc/self/mem is not there for anybody's dump.
    private func places(of scalar: Scalar) throws -> Int {
        let memory = open("/proc/self/mem", O_RDONLY)
        defer { close(memory) }
        let maps = try #require(fopen("/proc/self/maps", "r"))
        defer { fclose(maps) }
        var ranges: [(UInt, UInt)] = []
        var line: UnsafeMutablePointer<CChar>?
        var room = 0
        while getline(&line, &room, maps) > 0 {
            guard let line else { break }
            let text = String(cString: line), words = text.split(separator: " ")
            guard words[1].hasPrefix("r"), let dash = words[0].firstIndex(of: "-"), let start = UInt(words[0][..<dash], radix: 16),
                let end = UInt(words[0][words[0].index(after: dash)...], radix: 16)
            else { continue }
            ranges.append((start, end))
        }
        free(line)
        // What is read is read into pages of its own, and those are left out: a copy in the window is not one that lies anywhere.
        let window = 1 << 20
        guard let chunk = mmap(nil, window, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), chunk != MAP_FAILED else { throw Wire.NoMemory() }
        defer {
            memset(chunk, 0, window)
            munmap(chunk, window)
        }
        let own = UInt(bitPattern: chunk), ownEnd = own + UInt(window)
        ranges = ranges.flatMap { start, end in
            own >= end || ownEnd <= start ? [(start, end)] : [(start, own), (ownEnd, end)].filter { $0.0 < $0.1 && $0.0 >= start && $0.1 <= end }
        }
        let needle = scalar.bytes
        let reversed = UnsafeMutableRawPointer(mutating: scalar.memory) + 2_048
        for place in 0..<32 { reversed.storeBytes(of: needle[31 - place], toByteOffset: place, as: UInt8.self) }
        var found = 0
        for (start, end) in ranges {
            var place = start
            while place < end {
                let wanted = min(window, Int(end - place))
                let count = pread(memory, chunk, wanted, Int(bitPattern: place))
                guard count > 0 else { break }
                if holds(chunk, count, needle.baseAddress!) { found += 1 }
                if holds(chunk, count, UnsafeRawPointer(reversed)) { found += 1 }
                if count < wanted { break }
                place += UInt(count) - (place + UInt(count) < end ? 31 : 0)
            }
        }
        return found
    }

    private func holds(_ memory: UnsafeMutableRawPointer, _ count: Int, _ needle: UnsafeRawPointer) -> Bool {
        var place = UnsafeRawPointer(memory)
        let end = place + count
        let first = Int32(needle.load(as: UInt8.self))
        while end - place >= 32, let next = memchr(place, first, end - place - 31) {
            if memcmp(next, needle, 32) == 0 { return true }
            place = UnsafeRawPointer(next) + 1
        }
        return false
    }

    @Test func noScalarLiesInOrdinaryMemory() throws {
        let protection = try library.get()
        guard protection == .secret else { return withKnownIssue("this kernel has no memfd_secret(2): /proc/PID/mem reads everything") { Issue.record("not protected") } }
        let authority = try Authority(), spaces = try Spaces()
        let roots = try authority.roots()
        // A key's whole life: made, requested for, stored, loaded by the next proxy, used on both sides.
        let key = try KeyPair.generate()
        _ = try key.request(for: Array(cartURI.utf8))
        let stored = try key.store()
        defer { close(stored) }
        let loaded = try KeyPair.load(from: stored)
        let chain = authority.chain(.workload(cartURI), key: loaded)
        let cart = try TLSCredentials(identity: 1, generation: 1, uri: Array(cartURI.utf8), chain: chain, key: loaded, roots: roots, now: testNow)
        let front = try authority.credentials(frontURI, roots: roots)
        for _ in 0..<3 {
            var wire = try Wire.make(client: front, server: cart, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.client == .done)
        }
        let scalar = try Scalar(key)
        #expect(try places(of: scalar) == 0)
        #expect(TLSLibrary.secretBytes > 0)
    }

    /// From a PEM file the key comes through decoders that copy it about; none of the copies stays.
    @Test(arguments: ["EC"]) func noScalarOfAFileStays(_ kind: String) throws {
        guard try library.get() == .secret else { return withKnownIssue("this kernel has no memfd_secret(2)") { Issue.record("not protected") } }
        // The file's text is made where the search does not look, by another key's way out.
        copenssl_enter_vault()
        let made = copenssl_generate_p256()
        let bio = BIO_new(BIO_s_mem())
        PEM_write_bio_PrivateKey(bio, made, nil, nil, 0, nil, nil)
        copenssl_leave_vault()
        var path = Array("/tmp/weft-key-XXXXXX".utf8CString)
        let file = mkstemp(&path)
        unlink(path)
        defer { close(file) }
        var text: UnsafeMutableRawPointer?
        let count = BIO_ctrl(bio, BIO_CTRL_INFO, 0, &text)
        _ = write(file, text, count)
        BIO_free(bio)
        EVP_PKEY_free(made)
        let key = try KeyPair.read(file: file)
        let scalar = try Scalar(key)
        #expect(try places(of: scalar) == 0)
    }

    /// The control: a key as OpenSSL would keep it by itself is found by the same search.
    @Test func theSearchFindsWhatIsThere() throws {
        _ = try library.get()
        let key = try KeyPair.generate()
        let scalar = try Scalar(key)
        let copy = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
        defer {
            memset(copy, 0, 32)
            copy.deallocate()
        }
        copy.copyMemory(from: scalar.bytes.baseAddress!, byteCount: 32)
        #expect(try places(of: scalar) >= 1)
        for place in 0..<32 { copy.storeBytes(of: scalar.bytes[31 - place], toByteOffset: place, as: UInt8.self) }
        #expect(try places(of: scalar) >= 1, "the other byte order too")
    }
}
