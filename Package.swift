// swift-tools-version: 6.2
import PackageDescription

/// The house rule for every Weft target: Swift 6 language mode (the tools version's default), warnings are errors.
let house: [SwiftSetting] = [.treatAllWarnings(as: .error)]
/// Data-path targets: hot generic code crosses module borders, so its bodies must too (engine cost 371 → 338 ns).
let hot: [SwiftSetting] = house + [
    .enableExperimentalFeature("Lifetimes"),
    .unsafeFlags(["-cross-module-optimization"]),
]
/// The executables carry the Swift runtime inside, so a node needs no toolchain and the proxy maps fewer pages.
let standalone: [LinkerSetting] = [.unsafeFlags(["-static-stdlib"])]
/// What static Foundation leans on; the toolchain's autolinking names these only for wholly static builds.
let standaloneFoundation = standalone + ["CoreFoundation", "_FoundationICU", "_FoundationCollections", "_FoundationCShims", "stdc++"]
    .map { .linkedLibrary($0) }

let package = Package(
    name: "weft",
    products: [
        .executable(name: "weft", targets: ["Weft"]),
        .executable(name: "weft-proxy", targets: ["WeftProxy"]),
    ],
    dependencies: [
        // Command line of `weft`: subcommands, help, shell completion.
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        // Structured logs of the control plane.
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        // Start order and graceful stop of the agent's services.
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        // Kubernetes YAML, with the line and column of every node for error messages.
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        // HTTP client over the admin's unix socket (`weft status`).
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        // Admin, metrics and health endpoints of the agent.
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        // Addresses and channels below Hummingbird (unix-socket listener).
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        // The certificate authority: requests, certificates, their DER; and the keys it signs with.
        .package(url: "https://github.com/apple/swift-certificates", exact: "1.21.1"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
        // Who is at the other end of the controller's HTTPS.
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
    ],
    targets: [
        // Floor 0: the operating system, one module per C library.
        .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall", "-Werror"])]),
        .target(
            name: "COpenSSL", cSettings: [.unsafeFlags(["-Wall", "-Werror"])],
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .systemLibrary(name: "CLibBPF", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev", "libelf-dev"])]),
        .systemLibrary(name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "CaptureABI", path: "bpf/abi"),

        // Floor 1: words everyone uses.
        .target(name: "Bytes", swiftSettings: hot),
        .target(name: "MeshModel", dependencies: ["CLinux"], swiftSettings: hot),
        .target(name: "Telemetry", dependencies: ["CLinux"], swiftSettings: hot),

        // Floor 2: one skill each, no knowledge of each other.
        .target(name: "EventLoop", dependencies: ["CLinux"], swiftSettings: hot),
        .target(name: "HTTPCodec", dependencies: ["Bytes", "CNGHTTP2"], swiftSettings: hot),
        .target(name: "MutualTLS", dependencies: ["COpenSSL"], swiftSettings: hot),
        .target(name: "Balancing", swiftSettings: hot),
        .target(name: "ControlChannel", dependencies: ["CLinux"], swiftSettings: hot),
        .target(name: "Capture", dependencies: ["CLibBPF", "CaptureABI", "CLinux"], swiftSettings: house),
        .target(name: "NodeSignals", swiftSettings: house),

        // Floor 3: decisions on the way of a request.
        .target(name: "Routing", dependencies: ["MeshModel", "Balancing"], swiftSettings: hot),
        .target(name: "Upstream", dependencies: ["EventLoop", "ControlChannel"], swiftSettings: hot),
        .target(
            name: "Discovery",
            dependencies: ["MeshModel", "Yams"],
            swiftSettings: house),

        .target(
            name: "Identity",
            dependencies: [
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "_CryptoExtras", package: "swift-crypto"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
            ],
            swiftSettings: house),

        // Floor 4: the journey itself, and the two processes that make it possible.
        .target(
            name: "Proxy",
            dependencies: [
                "EventLoop", "HTTPCodec", "MutualTLS", "Routing", "Upstream", "Balancing", "Telemetry", "ControlChannel", "MeshModel", "Bytes",
                "CLinux",
            ],
            swiftSettings: hot),
        .target(name: "Node", dependencies: ["Capture", "ControlChannel", "Telemetry", "CLinux"], swiftSettings: house),
        .target(
            name: "Agent",
            dependencies: [
                "Discovery", "Identity", "Routing", "ControlChannel", "MeshModel", "Telemetry", "NodeSignals", "CLinux",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: house),
        .target(
            name: "Controller",
            dependencies: [
                "Discovery", "Identity", "MeshModel", "Telemetry",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: house),

        // Floor 5: the programs.
        .executableTarget(name: "WeftProxy", dependencies: ["Proxy", "CLinux"], swiftSettings: hot, linkerSettings: standalone),
        .executableTarget(
            name: "Weft",
            dependencies: [
                "Node", "Agent", "Controller", "Discovery", "Identity", "CLinux",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: house, linkerSettings: standaloneFoundation),

        // Plays `weft node` towards the proxy on one port, without BPF: benches and proxy tests.
        .executableTarget(
            name: "weft-proxy-host", dependencies: ["MeshModel", "ControlChannel", "Telemetry", "CLinux"], path: "Tests/ProxyHost",
            swiftSettings: house, linkerSettings: standaloneFoundation),

        .testTarget(name: "BytesTests", dependencies: ["Bytes"]),
        .testTarget(name: "HTTPCodecTests", dependencies: ["HTTPCodec", "Bytes"]),
        .testTarget(name: "MutualTLSTests", dependencies: ["MutualTLS", "COpenSSL"]),
        .testTarget(name: "MeshModelTests", dependencies: ["MeshModel"]),
        .testTarget(name: "TelemetryTests", dependencies: ["Telemetry", "CLinux"]),
        .testTarget(name: "BalancingTests", dependencies: ["Balancing"]),
        .testTarget(name: "RoutingTests", dependencies: ["Routing", "MeshModel", "Balancing"]),
        .testTarget(name: "EventLoopTests", dependencies: ["EventLoop"]),
        .testTarget(name: "UpstreamTests", dependencies: ["Upstream", "EventLoop", "ControlChannel"]),
        .testTarget(name: "ProxyTests", dependencies: ["Proxy", "Routing", "ControlChannel", "COpenSSL", "MutualTLS", "Upstream", "HTTPCodec", "MeshModel", "Telemetry", "EventLoop", "Bytes"]),
        .testTarget(name: "ControlChannelTests", dependencies: ["ControlChannel", "CLinux"]),
        .testTarget(name: "CaptureTests", dependencies: ["Capture", "CaptureABI", "CLinux"]),
        .testTarget(name: "NodeTests", dependencies: ["Node", "ControlChannel", "CLinux"]),
        .testTarget(name: "DiscoveryTests", dependencies: ["Discovery", "MeshModel"]),
        .testTarget(name: "AccessTests", dependencies: ["Discovery", "Routing", "MeshModel"]),
        .testTarget(name: "RoutesTests", dependencies: ["Discovery", "Routing", "HTTPCodec", "MeshModel", "Bytes"]),
        .testTarget(name: "NodeSignalsTests", dependencies: ["NodeSignals"]),
        .testTarget(
            name: "AgentTests",
            dependencies: [
                "Agent", "ControlChannel", "Discovery", "Identity", "MeshModel", "NodeSignals", "Telemetry",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .testTarget(
            name: "IdentityTests",
            dependencies: [
                "Identity",
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "_CryptoExtras", package: "swift-crypto"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
            ]),
        .testTarget(
            name: "ControllerTests",
            dependencies: [
                "Controller", "Agent", "Identity",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        .testTarget(name: "HouseRulesTests"),
    ]
)
