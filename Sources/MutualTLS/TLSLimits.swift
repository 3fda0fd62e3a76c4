/// Bounds of this module, each with its unit.
public enum TLSLimits {
    /// OpenSSL's secure heap: a loaded key takes 4 to 8 KiB of it, a node's 250 service accounts 2 MiB.
    public static let secretBytes = 4 << 20
    /// Its smallest piece: a P-256 scalar.
    public static let secretPieceBytes = 32
    /// How far the clocks of two nodes may differ when a certificate's times are judged.
    public static let clockSkewSeconds: Int64 = 300
    /// A peer's whole chain, DER. Leaf and two intermediates of P-256 have 2 KB, of RSA-4096 6 KB.
    public static let chainBytesMax = 24 * 1024
    /// Certificates between leaf and root.
    public static let intermediatesMax: Int32 = 4
    /// Bytes of a serial number (RFC 5280, 4.1.2.2).
    public static let serialBytesMax = 20
    /// A PEM file with a private key. RSA-8192 has 6.4 KB.
    public static let keyFileBytesMax = 32 * 1024
    /// A chain in PEM, and a trust bundle in PEM.
    public static let chainTextBytesMax = 64 * 1024
    /// Roots of one trust bundle.
    public static let rootsMax = 64
    /// Leaves that a worker remembers as verified: as many as the workloads it talks to, or they are verified again. 80 bytes each and their texts.
    public static let verifiedLeavesMax = 4_096
    /// How long a ticket may be used. Its session's keys are as old as that.
    public static let ticketSeconds = 7_200
    /// One record (RFC 8446, 5.1).
    public static let recordBytesMax = 16 * 1024
    /// The last flight of a handshake, client's chain and all, that waits for company.
    static let flightBytesMax = 2 * 1024
    /// What sealing adds to a record, and what may have to be said before it: twice RFC 8446's 256 bytes.
    static let sealBytesMax = 512
    /// Content bytes that one read of the socket (16 KiB) must have brought for another to follow at once.
    static let contentPerReadBytesMin = 8 * 1024
    /// Reads of the socket in one step of a handshake: its longest flight, a chain, is shorter.
    static let handshakeReadsMax: UInt8 = 4
    /// Lines of a revocation list.
    public static let revocationsMax = 100_000
    public static let revocationTextBytesMax = 8 << 20
}
