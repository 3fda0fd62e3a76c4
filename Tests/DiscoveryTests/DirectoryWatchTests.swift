@testable import Discovery
import Foundation
import Testing

/// The watcher against a real directory: each change of the world arrives once and whole.
@Suite(.serialized) struct DirectoryWatchTests {
    /// A directory of its own that goes away with the test.
    final class Place {
        let path = NSTemporaryDirectory() + "weft-watch-\(UUID().uuidString)"
        var directory: String { path + "/manifests" }
        init() throws { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(atPath: path) }

        func write(_ text: String, _ name: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)")) }
        func move(_ from: String, _ to: String) throws { try #require(rename("\(directory)/\(from)", "\(directory)/\(to)") == 0) }
    }

    /// Readings as file name → text, with a deadline, so that a lost change fails the test instead of hanging it.
    struct Reader {
        let watch: DirectoryWatch
        init(_ place: Place) throws {
            var timing = DirectoryWatch.Timing()
            // A busy machine may stop this test for longer than the usual pause between two files.
            timing.quietMilliseconds = 250
            watch = try DirectoryWatch(place.directory, timing: timing)
        }

        func next(within seconds: Double = 60) async -> [String: String]? {
            await withTaskGroup(of: DirectoryReading?.self) { group in
                group.addTask { await watch.readings.first { _ in true } }
                group.addTask {
                    try? await Task.sleep(for: .seconds(seconds))
                    return nil
                }
                let reading = await group.next() ?? nil
                group.cancelAll()
                return reading?.files.mapValues { file in
                    if case .bytes(let bytes) = file { return String(decoding: bytes, as: UTF8.self) }
                    return "unreadable"
                }
            }
        }
    }

    @Test func manyFilesChangedTogetherAreOneReading() async throws {
        let place = try Place()
        try place.write("0", "f0.yaml")
        let reader = try Reader(place)
        #expect(await reader.next() == ["f0.yaml": "0"])
        for index in 0..<40 { try place.write("\(index)", "f\(index).yaml") }
        #expect(await reader.next()?.count == 40)
        #expect(await reader.next(within: 0.8) == nil)
    }

    @Test func aHalfWrittenFileIsNotRead() async throws {
        let place = try Place()
        let reader = try Reader(place)
        #expect(await reader.next() == [:])
        let file = open("\(place.directory)/slow.yaml", O_CREAT | O_WRONLY, 0o644)
        write(file, "first ", 6)
        try place.write("x", "other.yaml")
        try await Task.sleep(for: .milliseconds(300))
        write(file, "second", 6)
        close(file)
        #expect(await reader.next() == ["slow.yaml": "first second", "other.yaml": "x"])
    }

    @Test func anEditorsRenameArrivesWhole() async throws {
        let place = try Place()
        try place.write("old", "cart.yaml")
        let reader = try Reader(place)
        _ = await reader.next()
        // vim: the old file steps aside, a new one takes its name, the backup goes.
        try place.move("cart.yaml", "cart.yaml~")
        try place.write("new", "cart.yaml")
        try FileManager.default.removeItem(atPath: "\(place.directory)/cart.yaml~")
        #expect(await reader.next() == ["cart.yaml": "new"])
        // sed -i: a temporary file renamed over it.
        try place.write("newer", "sedA1B2")
        try place.move("sedA1B2", "cart.yaml")
        #expect(await reader.next() == ["cart.yaml": "newer"])
    }

    @Test func aConfigMapsLinkSwapIsOneReading() async throws {
        let place = try Place()
        let files = FileManager.default
        for version in ["..v1", "..v2"] {
            try files.createDirectory(atPath: "\(place.directory)/\(version)", withIntermediateDirectories: false)
            for name in ["a.yaml", "b.yaml"] { try place.write(version, "\(version)/\(name)") }
        }
        try files.createSymbolicLink(atPath: "\(place.directory)/..data", withDestinationPath: "..v1")
        for name in ["a.yaml", "b.yaml"] { try files.createSymbolicLink(atPath: "\(place.directory)/\(name)", withDestinationPath: "..data/\(name)") }
        let reader = try Reader(place)
        #expect(await reader.next() == ["a.yaml": "..v1", "b.yaml": "..v1"])
        try files.createSymbolicLink(atPath: "\(place.directory)/..data_tmp", withDestinationPath: "..v2")
        try place.move("..data_tmp", "..data")
        #expect(await reader.next() == ["a.yaml": "..v2", "b.yaml": "..v2"])
    }

    @Test func aDirectoryThatComesAndGoesIsFollowed() async throws {
        let place = try Place()
        try place.write("1", "a.yaml")
        let reader = try Reader(place)
        #expect(await reader.next() == ["a.yaml": "1"])
        let aside = place.path + "/aside"
        try #require(rename(place.directory, aside) == 0)
        #expect(await reader.next() == [:], "and the reading says that the directory is missing")
        try FileManager.default.createDirectory(atPath: place.directory, withIntermediateDirectories: false)
        try place.write("2", "a.yaml")
        #expect(await reader.next() == ["a.yaml": "2"])
    }

    @Test func fifosDirectoriesAndBrokenLinksDoNotStopTheRest() async throws {
        let place = try Place()
        try place.write("ok", "good.yaml")
        try #require(mkfifo("\(place.directory)/pipe.yaml", 0o644) == 0)
        try FileManager.default.createSymbolicLink(atPath: "\(place.directory)/lost.yaml", withDestinationPath: "nowhere")
        try FileManager.default.createDirectory(atPath: "\(place.directory)/dir.yaml", withIntermediateDirectories: false)
        let reader = try Reader(place)
        #expect(await reader.next() == ["good.yaml": "ok", "pipe.yaml": "unreadable", "lost.yaml": "unreadable", "dir.yaml": "unreadable"])
    }

    @Test func dirtyFilesOfEditorsAreNotManifests() {
        for name in [".cart.yaml.swp", "cart.yaml~", "#cart.yaml#", ".#cart.yaml", "README.md", "4913"] {
            #expect(!ManifestDirectory.isManifest(name), "\(name)")
        }
    }
}
