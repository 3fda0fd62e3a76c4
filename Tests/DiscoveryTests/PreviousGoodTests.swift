@testable import Discovery
import MeshModel
import Testing

/// A fault touches nothing but its own object, and that one keeps its last good version.
@Suite struct PreviousGoodTests {
    private func ports(_ view: ClusterView, _ name: String = "cart") -> [UInt16]? {
        view.state.services.first { $0.name == name }?.ports.map(\.port)
    }

    @Test func aFaultyObjectKeepsItsLastGoodVersionAndTheRestMovesOn() {
        var scene = Scene(["a.yaml": Sample.documents(Sample.service(), Sample.service("pay", ip: "10.96.0.11", port: 90))])
        #expect(scene.view().faults.isEmpty)

        scene.files["a.yaml"] = Sample.documents(Sample.service(port: 70000), Sample.service("pay", ip: "10.96.0.11", port: 91))
        let broken = scene.view()
        #expect(ports(broken) == [80])
        #expect(ports(broken, "pay") == [91])
        #expect(broken.faults.map(\.consequence) == [.previousKept])
        #expect(broken.faults.map(\.object) == ["Service shop/cart"])

        scene.files["a.yaml"] = Sample.service(port: 81)
        let repaired = scene.view()
        #expect(repaired.faults.isEmpty)
        #expect(ports(repaired) == [81])
        #expect(ports(repaired, "pay") == nil, "an object that no file mentions is gone")
    }

    @Test func anObjectThatNeverWasRightIsLeftOut() {
        var scene = Scene(["a.yaml": Sample.documents(Sample.service(port: 0), Sample.namespace)])
        let view = scene.view()
        #expect(view.state.services.isEmpty)
        #expect(view.state.namespaces.map(\.name) == ["shop"])
        #expect(view.faults.map(\.consequence) == [.leftOut])
    }

    @Test(arguments: ["kind: [", "a: 1\n  b: 2\n: :", "apiVersion: v1\nkind: Service\n", "apiVersion: v1\nkind: Service\nmetadata: {nam: cart}\nspec: {}"])
    func aFileThatDoesNotSayWhatItHoldsKeepsAllItHeld(_ text: String) {
        var scene = Scene(["a.yaml": Sample.documents(Sample.service(), Sample.namespace), "b.yaml": Sample.service("pay", ip: "10.96.0.11")])
        _ = scene.view()
        scene.files["a.yaml"] = text
        scene.files["b.yaml"] = Sample.service("pay", ip: "10.96.0.11", port: 99)
        let view = scene.view()
        #expect(ports(view) == [80])
        #expect(view.state.namespaces.count == 1)
        #expect(ports(view, "pay") == [99])
        #expect(view.faults.map(\.consequence) == [.previousKept])
    }

    @Test func anUnreadableFileOrDirectoryKeepsAllItHeld() {
        var scene = Scene(["a.yaml": Sample.service()])
        _ = scene.view()
        let unreadable = scene.manifests.take(DirectoryReading(files: ["a.yaml": .unreadable("Permission denied")]))
        #expect(ports(unreadable) == [80])
        #expect(unreadable.faults.first?.description.contains("a.yaml: cannot be read: Permission denied") == true)
        let gone = scene.manifests.take(DirectoryReading(failure: "No such file or directory"))
        #expect(ports(gone) == [80])
        #expect(gone.faults.count == 1)
    }

    @Test func deletedFilesTakeTheirObjectsWithThem() {
        var scene = Scene(["a.yaml": Sample.service()])
        _ = scene.view()
        scene.files = [:]
        #expect(scene.view().state.services.isEmpty)
    }

    @Test func anObjectDefinedTwiceIsAFaultAndTheLastGoodVersionStays() {
        var scene = Scene(["a.yaml": Sample.service()])
        _ = scene.view()
        scene.files["b.yaml"] = Sample.service(port: 90)
        let view = scene.view()
        #expect(ports(view) == [80])
        #expect(view.faults.map(\.description) == ["b.yaml:1: Service shop/cart: is defined at a.yaml:1 already; keep one of the two definitions"])

        // Moving an object between files passes through this state and ends well.
        scene.files["a.yaml"] = nil
        #expect(ports(scene.view()) == [90])
    }

    @Test func anObjectDefinedTwiceFromTheStartIsLeftOut() {
        var scene = Scene(["a.yaml": Sample.documents(Sample.service(), Sample.service(port: 90))])
        let view = scene.view()
        #expect(view.state.services.isEmpty)
        #expect(view.faults.map(\.line) == [9])
    }

    @Test func whatWasRightSurvivesARestart() throws {
        var before = Scene(["a.yaml": Sample.documents(Sample.service(), Sample.namespace, Sample.pod(), Sample.slice())])
        let good = before.view()
        let kept = try before.manifests.encodedObjects()

        var after = Scene(["a.yaml": "kind: ["])
        try after.manifests.restore(kept)
        let view = after.view()
        #expect(view.state == good.state)
        #expect(view.pods == good.pods)
        #expect(view.faults.map(\.consequence) == [.previousKept])
    }
}
