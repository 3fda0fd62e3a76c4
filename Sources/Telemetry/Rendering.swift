// From the counters to Prometheus' text. A series' labels are written once and copied before each of its lines: a histogram
// repeats some 700 bytes twenty times.

extension CountersSnapshot {
    /// Writes all families. Append others before or after, never between.
    public func render(into page: inout PrometheusText) {
        renderCounters(into: &page)
        renderPods(into: &page)
        renderRequests(into: &page)
        renderTCP(into: &page)
        renderDecisions(into: &page)
    }

    // MARK: weft_*

    private func renderCounters(into page: inout PrometheusText) {
        var previous = ""
        for counter in Counter.allCases {
            let definition = counter.definition
            let name = "\(definition.name)"
            if name != previous {
                page.family(name, help: "\(definition.help)", kind: definition.kind == .gauge ? .gauge : .counter)
                previous = name
            }
            for (worker, value) in counters[Int(counter.rawValue)].enumerated() {
                var labels: [(name: String, value: String)] = []
                if definition.workers == .each { labels.append(("worker", "\(worker)")) }
                if let label = definition.label { labels.append(("\(label.name)", "\(label.value)")) }
                if let side = definition.side { labels.append(("side", "\(side)")) }
                page.start(name, labels)
                page.append(value, scale: definition.scale)
                page.endLine()
            }
        }
    }

    private func renderPods(into page: inout PrometheusText) {
        if pods.isEmpty { return }
        let labels = pods.map { pod in
            var labels: [UInt8] = []
            for (name, text) in zip(["{namespace=\"", "\",workload=\"", "\",pod=\""], pod.labels) {
                labels += name.utf8
                PrometheusText.escape(String(decoding: text, as: UTF8.self).utf8, quotes: true, into: &labels)
            }
            return labels + "\"} ".utf8
        }
        for counter in PodCounter.allCases {
            let definition = counter.definition
            let name = "\(definition.name)"
            page.family(name, help: "\(definition.help)", kind: definition.kind == .gauge ? .gauge : .counter)
            for (place, pod) in pods.enumerated() {
                page.append(name)
                page.append(labels[place])
                page.append(pod.values[Int(counter.rawValue)], scale: definition.scale)
                page.endLine()
            }
        }
    }

    // MARK: istio_*

    private func renderRequests(into page: inout PrometheusText) {
        if requests.keys.isEmpty { return }
        var writer = SeriesLabels(labels)
        let series = requests.keys.indices.map { place in
            (labels: writer.labels(of: requests.keys[place], isTCP: false), values: requests.values(at: place))
        }
        page.family("istio_requests_total", help: "Requests.", kind: .counter)
        for (labels, values) in series {
            page.append("istio_requests_total{")
            page.append(labels)
            page.append("} ")
            page.append(values[..<(CountersLayout.durationWords - 1)].reduce(0, &+))
            page.endLine()
        }
        renderHistogram(
            "istio_request_duration_milliseconds", help: "Time from a request's first byte to its response's last, in milliseconds.",
            bounds: HistogramScale.durationMilliseconds, sumScale: 1e-6, series.map { ($0.labels, $0.values.prefix(CountersLayout.durationWords)) },
            into: &page)
        renderHistogram(
            "istio_request_bytes", help: "Bytes of request bodies.", bounds: HistogramScale.bytes, sumScale: 1,
            series.map { ($0.labels, $0.values.dropFirst(CountersLayout.durationWords).prefix(CountersLayout.bytesWords)) }, into: &page)
        renderHistogram(
            "istio_response_bytes", help: "Bytes of response bodies.", bounds: HistogramScale.bytes, sumScale: 1,
            series.map { ($0.labels, $0.values.dropFirst(CountersLayout.durationWords + CountersLayout.bytesWords).prefix(CountersLayout.bytesWords)) },
            into: &page)
        renderMessages(requests.keys.indices.filter { requests.keys[$0].isOfCalls }.map { series[$0] }, into: &page)
    }

    private func renderMessages(_ calls: [(labels: [UInt8], values: [UInt64])], into page: inout PrometheusText) {
        if calls.isEmpty { return }
        let families = [("istio_request_messages_total", "Messages of gRPC clients."), ("istio_response_messages_total", "Messages of gRPC servers.")]
        for (field, family) in families.enumerated() {
            page.family(family.0, help: family.1, kind: .counter)
            for (labels, values) in calls {
                page.append(family.0)
                page.append("{")
                page.append(labels)
                page.append("} ")
                page.append(values[CountersLayout.requestWords - CountersLayout.messagesWords + field])
                page.endLine()
            }
        }
    }

    private func renderHistogram(
        _ name: String, help: String, bounds: [Double], sumScale: Double, _ series: [([UInt8], ArraySlice<UInt64>)],
        into page: inout PrometheusText
    ) {
        page.family(name, help: help, kind: .histogram)
        let start = [UInt8]("\(name)_bucket{".utf8)
        let ends = (bounds.map { $0.rounded() == $0 ? "\(UInt64($0))" : "\($0)" } + ["+Inf"]).map { [UInt8](",le=\"\($0)\"} ".utf8) }
        for (labels, values) in series {
            var total: UInt64 = 0
            for (end, value) in zip(ends, values) {
                total &+= value
                page.append(start)
                page.append(labels)
                page.append(end)
                page.append(total)
                page.endLine()
            }
            page.append(name)
            page.append("_sum{")
            page.append(labels)
            page.append("} ")
            page.append(Double(values.last ?? 0) * sumScale)
            page.endLine()
            page.append(name)
            page.append("_count{")
            page.append(labels)
            page.append("} ")
            page.append(total)
            page.endLine()
        }
    }

    private func renderTCP(into page: inout PrometheusText) {
        if tcp.keys.isEmpty { return }
        var writer = SeriesLabels(labels)
        let series = tcp.keys.indices.map { place in
            (labels: writer.labels(of: tcp.keys[place], isTCP: true), values: tcp.values(at: place))
        }
        let families = [
            ("istio_tcp_connections_opened_total", "Opaque connections opened."), ("istio_tcp_connections_closed_total", "Opaque connections closed."),
            ("istio_tcp_sent_bytes_total", "Bytes sent to the client in opaque connections."),
            ("istio_tcp_received_bytes_total", "Bytes received from the client in opaque connections."),
        ]
        for (field, family) in families.enumerated() {
            page.family(family.0, help: family.1, kind: .counter)
            for (labels, values) in series {
                page.append(family.0)
                page.append("{")
                page.append(labels)
                page.append("} ")
                page.append(values[field])
                page.endLine()
            }
        }
    }
}

extension CountersSnapshot {
    private func renderDecisions(into page: inout PrometheusText) {
        if decisions.keys.isEmpty { return }
        var writer = SeriesLabels(labels)
        page.family("weft_protocol_decisions_total", help: "Connections by what they were taken for, and why.", kind: .counter)
        for place in decisions.keys.indices {
            page.append("weft_protocol_decisions_total{")
            page.append(writer.decisionLabels(of: decisions.keys[place]))
            page.append("} ")
            page.append(decisions.values(at: place)[0])
            page.endLine()
        }
    }
}

extension PrometheusText {
    /// A slot's value in the metric's unit; whole numbers stay exact.
    fileprivate mutating func append(_ value: UInt64, scale: Double) {
        if scale == 1 { append(value) } else { append(Double(value) * scale) }
    }
}

/// Writes the labels of series; what several series share is escaped once.
private struct SeriesLabels {
    private let sets: SharedLabels
    private var fragments: [Fragment: [UInt8]] = [:]

    private struct Fragment: Hashable {
        var role: Role
        var set: Int
    }

    private enum Role { case source, destination, service }

    init(_ sets: SharedLabels) { self.sets = sets }

    private static let peerNames = [
        "workload", "workload_namespace", "principal", "app", "version", "canonical_service", "canonical_revision", "cluster",
    ]
    private static let serviceNames = ["destination_service", "destination_service_name", "destination_service_namespace"]

    mutating func labels(of key: SharedKey, isTCP: Bool) -> [UInt8] {
        let isOverflow = key == .overflow
        func known(_ text: String?) -> String { isOverflow ? "overflow" : text ?? "unknown" }
        var labels = [UInt8]("reporter=\"\(known(Reporter(rawValue: UInt8(truncatingIfNeeded: key.kind))?.text))\",".utf8)
        labels += fragment(.source, key.source)
        labels += fragment(.destination, key.destination)
        labels += fragment(.service, key.service)
        labels += "request_protocol=\"\(known(RequestProtocol(rawValue: UInt8(truncatingIfNeeded: key.kind >> 8))?.text))\"".utf8
        if !isTCP {
            labels += ",response_code=\"\(known("\(UInt16(truncatingIfNeeded: key.outcome))"))\"".utf8
            let grpcStatus = UInt8(truncatingIfNeeded: key.outcome >> 16)
            if isOverflow || grpcStatus != .max { labels += ",grpc_response_status=\"\(known("\(grpcStatus)"))\"".utf8 }
        }
        labels += ",response_flags=\"\(known(ResponseFlags(rawValue: UInt8(truncatingIfNeeded: key.kind >> 16))?.text))\"".utf8
        labels += ",connection_security_policy=\"\(known(SecurityPolicy(rawValue: UInt8(truncatingIfNeeded: key.kind >> 24))?.text))\"".utf8
        return labels
    }

    mutating func decisionLabels(of key: SharedKey) -> [UInt8] {
        let isOverflow = key == .overflow
        func known(_ text: String?) -> String { isOverflow ? "overflow" : text ?? "unknown" }
        let port = known("\(key.decidedPort)"), spoken = known(key.decidedProtocol?.text), reason = known(key.decisionReason?.text)
        return fragment(.service, key.service) + "port=\"\(port)\",protocol=\"\(spoken)\",reason=\"\(reason)\"".utf8
    }

    /// The labels of one set in one role, each followed by a comma.
    private mutating func fragment(_ role: Role, _ set: Int) -> [UInt8] {
        let key = Fragment(role: role, set: set)
        if let known = fragments[key] { return known }
        var names = SeriesLabels.serviceNames
        if role != .service { names = SeriesLabels.peerNames.map { (role == .source ? "source_" : "destination_") + $0 } }
        // A set of the other sort can only come from a damaged record: nothing is known then.
        let texts = set < 0 || sets.texts[set].count != names.count ? [] : sets.texts[set]
        var fragment: [UInt8] = []
        for (place, name) in names.enumerated() {
            fragment += "\(name)=\"".utf8
            let text = place < texts.count ? texts[place] : []
            if text.isEmpty {
                fragment += (set < 0 ? "overflow" : "unknown").utf8
            } else {
                // Decoding repairs what is no UTF-8; Prometheus would refuse the whole page.
                PrometheusText.escape(String(decoding: text, as: UTF8.self).utf8, quotes: true, into: &fragment)
            }
            fragment += "\",".utf8
        }
        fragments[key] = fragment
        return fragment
    }
}
