import Foundation
import Testing

@testable import Identity

/// Lists as `openssl ca -gencrl` writes them.
@Suite struct RevocationFileTests {
    private static let two = """
        -----BEGIN X509 CRL-----
        MIHvMIGXAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBGEgQ0EXDTI2MTEyMTE5
        MDQwMloXDTM2MTExODE5MDQwMlowRzATAgIBqxcNMjUwMTAxMDAwMDAwWjAwAhEA
        /ty6mHZUMhD+3LqYdlQyEBcNMjUwMTAxMDAwMDAwWjAMMAoGA1UdFQQDCgEBoA4w
        DDAKBgNVHRQEAwIBATAKBggqhkjOPQQDAgNHADBEAiAWc1BSGrBSQIBHCqrpUn2k
        fR5F/JzvOZOvwqIbCQ2D3gIgDEukRv8egXBX7N58RIweNSC4iSmEJ8pO9YHltd7p
        tgU=
        -----END X509 CRL-----
        """
    private static let none = """
        -----BEGIN X509 CRL-----
        MIGmME4CAQEwCgYIKoZIzj0EAwIwDzENMAsGA1UEAwwEYSBDQRcNMjYxMTIxMTkw
        NDAyWhcNMzYxMTE4MTkwNDAyWqAOMAwwCgYDVR0UBAMCAQIwCgYIKoZIzj0EAwID
        SAAwRQIhAJlGTRC0ZEQVJVAI19p7skyjSBxS4ldiWG13gjy4Lb16AiBg/iNys865
        8q6wuEg+6du/aOwN5o3OXOsAmOljS3BYAw==
        -----END X509 CRL-----
        """

    private func serials(_ text: String) throws -> [String] { try RevocationFile.serials(pem: Data(text.utf8)) }

    @Test func serialsAreReadWithoutLeadingZeros() throws {
        #expect(try serials(Self.two) == ["1ab", "fedcba9876543210fedcba9876543210"])
    }

    @Test func aListMayBeEmptyAndAFileMayHoldSeveral() throws {
        #expect(try serials(Self.none) == [])
        #expect(try serials(Self.none + "\n" + Self.two + "\n" + Self.two) == ["1ab", "fedcba9876543210fedcba9876543210"])
    }

    @Test func whatIsNoListIsAFault() {
        #expect(throws: RevocationFile.Fault.noList) { try serials("") }
        #expect(throws: RevocationFile.Fault.noList) { try serials(Self.two.replacing("X509 CRL", with: "CERTIFICATE")) }
        #expect(throws: RevocationFile.Fault.malformed) { try serials("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----") }
    }

    /// A cut or changed list ends in serials or in a fault, never in a trap.
    @Test func changedListsAreReadOrRefused() throws {
        let lines = Self.two.split(separator: "\n")
        var der = [UInt8](try #require(Data(base64Encoded: lines.dropFirst().dropLast().joined())))
        for place in der.indices {
            der[place] ^= 0x41
            let text = "-----BEGIN X509 CRL-----\n\(Data(der).base64EncodedString(options: .lineLength64Characters))\n-----END X509 CRL-----\n"
            _ = try? serials(text)
            der[place] ^= 0x41
        }
    }
}
