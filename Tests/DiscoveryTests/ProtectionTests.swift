import MeshModel
import Testing

@testable import Discovery

/// `weft.mesh/mtls`, what follows from it, and what a strict pod keeps open.
@Suite struct ProtectionTests {
    private func namespace(_ name: String = "shop", label: String? = nil, annotations: String = "") -> String {
        """
        apiVersion: v1
        kind: Namespace
        metadata:
          name: \(name)
          labels: {weft.mesh/mode: enabled\(label.map { ", weft.mesh/mtls: \($0)" } ?? "")}
          annotations: {\(annotations)}
        """
    }

    private func pod(annotation: String? = nil, containers: String = "[]") -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: cart
          namespace: shop
          annotations:
            weft.mesh/network-namespace: /run/netns/cart
            weft.mesh/cgroup: /sys/fs/cgroup/pods/cart
        \(annotation.map { "    \($0)" } ?? "")
        spec:
          nodeName: node-a
          containers: \(containers)
        status: {phase: Running, podIPs: [{ip: 10.1.0.5}]}
        """
    }

    private func enrolment(_ view: ClusterView) throws -> Enrolment {
        guard case .enrol(let enrolment) = try #require(view.pods.first).wish else { throw NotEnrolled() }
        return enrolment
    }

    private struct NotEnrolled: Error {}

    @Test(arguments: [
        // label, annotation, the pod's word, strict?
        (nil, "", nil, false), ("strict", "", nil, true), (nil, "weft.mesh/mtls: strict", nil, true), ("permissive", "", "strict", true),
        ("permissive", "", "permissive", false), ("strict", "", "strict", true),
    ] as [(String?, String, String?, Bool)])
    func aPodIsAsStrictAsItsNamespaceOrStricter(_ label: String?, _ annotations: String, _ own: String?, _ isStrict: Bool) throws {
        let view = Scene.view(Sample.documents(namespace(label: label, annotations: annotations), pod(annotation: own.map { "weft.mesh/mtls: \($0)" })))
        #expect(view.faults.isEmpty)
        let workload = try #require(view.state.workloads.first)
        #expect(workload.isStrict == isStrict && workload.failsOpen == !isStrict)
        let enrolment = try enrolment(view)
        #expect(enrolment.isStrict == isStrict && enrolment.isFailClosed == isStrict)
    }

    @Test func aPodCannotWeakenItsNamespace() throws {
        let view = Scene.view(Sample.documents(namespace(label: "strict"), pod(annotation: "weft.mesh/mtls: permissive")))
        #expect(view.state.workloads.first?.isStrict == true)
        #expect(view.state.namespaces.first?.mode == .strict)
        let fault = try #require(view.faults.first)
        #expect(fault.object == "Pod shop/cart" && fault.field == "metadata.annotations[weft.mesh/mtls]")
    }

    @Test func labelAndAnnotationMustAgree() throws {
        let view = Scene.view(namespace(label: "strict", annotations: "weft.mesh/mtls: permissive"))
        #expect(view.faults.map(\.field) == ["metadata.annotations[weft.mesh/mtls]"])
    }

    @Test func theKubeletsPortsAreRead() throws {
        let containers = """
            [{name: app, ports: [{name: health, containerPort: 8081}],
              livenessProbe: {httpGet: {path: /, port: health}}, readinessProbe: {tcpSocket: {port: 8080}},
              lifecycle: {preStop: {httpGet: {port: 8083}}}},
             {name: other, startupProbe: {grpc: {port: 9000}}, livenessProbe: {httpGet: {host: 1.2.3.4, port: 7000}},
              readinessProbe: {exec: {command: ["true"]}}}]
            """
        let view = Scene.view(Sample.documents(namespace(label: "strict"), pod(containers: containers)))
        #expect(view.faults.isEmpty)
        #expect(try enrolment(view).probePorts == [8080, 8081, 8083, 9000])
    }

    @Test func datagramExceptionsComeFromThePodElseItsNamespaceElseAreNameService() throws {
        let own = "weft.mesh/udp-exception-ports: \"123, 53\""
        #expect(try enrolment(Scene.view(Sample.documents(namespace(), pod()))).udpExceptionPorts == [53])
        let inherited = Sample.documents(namespace(annotations: "weft.mesh/udp-exception-ports: \"4433\""), pod())
        #expect(try enrolment(Scene.view(inherited)).udpExceptionPorts == [4433])
        let both = Sample.documents(namespace(annotations: "weft.mesh/udp-exception-ports: \"4433\""), pod(annotation: own))
        #expect(try enrolment(Scene.view(both)).udpExceptionPorts == [53, 123])
        let none = Sample.documents(namespace(annotations: "weft.mesh/udp-exception-ports: \"\""), pod())
        #expect(try enrolment(Scene.view(none)).udpExceptionPorts == [])
    }
}
