"""/diagnostics over DDS: by our own lines, and by diagnostic_updater as its upstream has it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from heisd_ros.nodes.updater import DiagnosticsUpdater


class Updater:
    """As diagnostic_updater.Updater, as far as it is used."""

    def __init__(self, node, period=1.0):
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self.period = node.declare_parameter("diagnostic_updater.period", period).value
        self.timer = node.create_timer(self.period, self.fail)

    def fail(self):
        raise AssertionError("a timer on ROS time")

    def publish(self, statuses):
        for status in statuses:
            status.name = f"{self._node.get_name()}: {status.name}"
        self._publisher.publish(DiagnosticArray(status=statuses))


def lacking(monkeypatch):
    monkeypatch.setitem(sys.modules, "diagnostic_updater", None)


def standing_in(monkeypatch):
    module = ModuleType("diagnostic_updater")
    module.Updater = Updater
    monkeypatch.setitem(sys.modules, "diagnostic_updater", module)


def real(monkeypatch):
    pytest.importorskip("diagnostic_updater", reason="it comes with a ROS installation only")


@pytest.mark.parametrize("package", [lacking, standing_in, real])
def test_statuses_are_heard_under_the_name_of_the_node(world, monkeypatch, package):
    package(monkeypatch)
    node, heard = world.add(Node, "arm"), []
    world.add(Node, "looks").create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    said = lambda: [DiagnosticStatus(name="control", message="well")]  # noqa: E731
    DiagnosticsUpdater(node, said)
    world.spin_until(lambda: len(heard) >= 2, "diagnostics")
    assert [(s.name, s.message) for s in heard[-1].status] == [("arm: control", "well")]
    assert node.has_parameter("diagnostic_updater.period") == (package is not lacking)


def test_two_arms_can_be_told_apart(world, monkeypatch):
    lacking(monkeypatch)
    heard = []
    world.add(Node, "looks").create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    for side in ("left", "right"):
        arm = world.add(Node, "arm", namespace=side)
        DiagnosticsUpdater(arm, lambda: [DiagnosticStatus(name="control")])
    names = lambda: {status.name for array in heard for status in array.status}  # noqa: E731
    world.spin_until(lambda: len(names()) >= 2, "both")
    assert names() == {"left/arm: control", "right/arm: control"}
