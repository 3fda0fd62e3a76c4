import MeshModel

/// A match with what decides whether it is compared before another (HTTPRouteRule.matches, GRPCRouteRule.matches). Less comes first.
///
/// Hosts go first: whole names before wildcards, longer before shorter. HTTP: a whole path, the longest prefix, the longest expression, the
/// rest; then a method, more headers, more parameters. gRPC: the longest service, the longest method, more headers; names before
/// expressions. Among equals the oldest route, then its name, then the order in which matches are written.
struct RankedMatch: Comparable {
    let match: RouteMatch
    private let rank: [Int]
    private let createdAt: String
    private let namespace: String
    private let name: String
    private let order: [Int]

    init(_ match: RouteMatch, _ written: RouteObject.Match, of route: RouteObject, rule: Int, order: Int) {
        self.match = match
        let host =
            switch match.hostname {
            case .exact(let name): [0, -name.utf8.count]
            case .suffix(let end): [1, -end.utf8.count]
            case .any: [2, 0]
            }
        if let call = written.call {
            let isAny = call.serviceCount + call.methodCount == 0
            rank = host + [isAny ? 2 : call.isExpression ? 1 : 0, -call.serviceCount, -call.methodCount, -match.headers.count]
        } else {
            let path =
                switch match.path {
                case .exact: [0, 0]
                case .prefix(let prefix): [1, -prefix.utf8.count]
                case .expression(let expression): [2, -expression.utf8.count]
                case .any: [3, 0]
                }
            rank = host + path + [match.method == nil ? 1 : 0, -match.headers.count, -match.query.count]
        }
        // What the API server has not dated is younger than all that it has.
        createdAt = route.metadata.createdAt ?? "~"
        (namespace, name) = (route.metadata.namespace, route.metadata.name)
        self.order = [rule, order]
    }

    static func < (left: RankedMatch, right: RankedMatch) -> Bool {
        if left.rank != right.rank { return left.rank.lexicographicallyPrecedes(right.rank) }
        if left.createdAt != right.createdAt { return left.createdAt < right.createdAt }
        // Alphabetical order of “namespace/name”, byte by byte as everywhere in Kubernetes.
        let (one, two) = ("\(left.namespace)/\(left.name)", "\(right.namespace)/\(right.name)")
        if one != two { return one.utf8.lexicographicallyPrecedes(two.utf8) }
        return left.order.lexicographicallyPrecedes(right.order)
    }

    static func == (left: RankedMatch, right: RankedMatch) -> Bool {
        left.rank == right.rank && left.createdAt == right.createdAt && left.namespace == right.namespace && left.name == right.name && left.order == right.order
    }
}
