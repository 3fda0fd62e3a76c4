import Foundation

/// What an agent leaves for the next one: the last generation it published, so that generations only grow, and the
/// objects in force, so that one that is faulty now keeps its last good version over a restart.
struct StateFile {
    let path: String
    /// The manifests directory the state is about; state of another directory is no state.
    let manifests: String

    private struct Content: Codable {
        var manifests: String
        var generation: UInt64
        var objects: Data
    }

    /// Nil when there is none, or none that can be read.
    func load() throws -> (generation: UInt64, objects: Data)? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let content = try JSONDecoder().decode(Content.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        return content.manifests == manifests ? (content.generation, content.objects) : (content.generation, Data("[]".utf8))
    }

    /// Written beside and renamed over the old one: a crash leaves the old or the new state, never half of one.
    func save(generation: UInt64, objects: Data) throws {
        let data = try JSONEncoder().encode(Content(manifests: manifests, generation: generation, objects: objects))
        try data.write(to: URL(fileURLWithPath: path), options: .atomic)
    }
}
