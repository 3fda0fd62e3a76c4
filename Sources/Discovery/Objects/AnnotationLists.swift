import MeshModel

// Annotations are single strings; these read the lists that people write into them.
extension ObjectReader {
    /// The words of a list separated by commas.
    private func items(_ name: String) -> [String] {
        let items = (string(name) ?? "").split(separator: ",").map { item in
            String(item.trimmingPrefix { $0 == " " }.reversed().trimmingPrefix { $0 == " " }.reversed())
        }
        guard items.count <= DiscoveryLimits.exclusionsMax else {
            fault(name, "lists \(items.count) items", remedy: "list at most \(DiscoveryLimits.exclusionsMax); ranges may be joined")
            return []
        }
        return items
    }

    /// Port numbers separated by commas, sorted.
    func ports(_ name: String) -> [UInt16] {
        var ports: Set<UInt16> = []
        for item in items(name) {
            if let port = UInt16(item), port > 0 {
                ports.insert(port)
            } else {
                fault(name, "“\(item)” is not a port", remedy: "write port numbers separated by commas, such as \"5432,6379\"")
            }
        }
        return ports.sorted()
    }

    /// Ranges of addresses separated by commas.
    func prefixes(_ name: String) -> [AddressPrefix] {
        items(name).compactMap { item in
            if let prefix = AddressPrefix(item) { return prefix }
            fault(name, "“\(item)” is not a range of addresses", remedy: "write ranges such as \"10.9.0.0/16,fd00::/8\"")
            return nil
        }
    }
}
