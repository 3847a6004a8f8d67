"""The live view over DDS: it finds a node's topics by itself, and only listens."""

from __future__ import annotations

import time

import numpy as np
import pytest
from heisd_ros.msg import StepTelemetry
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from support.ros import image, joint_state
from support.views import Remembering

from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes import qos
from heisd_ros.nodes.tools import view_node
from heisd_ros.nodes.tools.view_node import ViewNode
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.robot.declare import with_values
from heisd_ros.view.feed import Feed

CAMERA, JOINTS = "/front/image_raw", "/arm/joint_states"


class Watched(Node):
    """What the view sees of a VLA node: subscriptions under any name, and telemetry."""

    def __init__(self, kind=Image, name="vla_node", **kwargs):
        super().__init__(name, **kwargs)
        self.create_subscription(kind, CAMERA, lambda _: None, qos.sensor_data())
        self.create_subscription(JointState, JOINTS, lambda _: None, qos.sensor_data())
        self.create_subscription(String, "/robot_description", lambda _: None, qos.latched())
        self.telemetry = self.create_publisher(StepTelemetry, "~/telemetry", qos.reliable(100))


class Sensors(Node):
    """A camera and an arm, with whatever a test gives them to say."""

    def __init__(self, kind=Image, **kwargs):
        super().__init__("sensors", **kwargs)
        self._images = self.create_publisher(kind, CAMERA, qos.sensor_data())
        self._joints = self.create_publisher(JointState, JOINTS, qos.sensor_data())
        self.picture, self.joints = image(), joint_state()

    def publish(self):
        self._images.publish(self.picture)
        self._joints.publish(self.joints)


def watch(world, node="", parameters=None):
    """A view of the world, and the screen that it shows on."""
    screen = Remembering()
    return world.add(ViewNode, screen, Feed(screen, parameters or CellParameters()), node), screen


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(view_node, "LOOK_SEC", 0.1)


def publishing(sensors, watched, **fields):
    def publish():
        sensors.publish()
        watched.telemetry.publish(StepTelemetry(source="skip", **fields))

    return publish


def test_cameras_arm_and_steps_of_a_node_are_shown_whatever_its_topics_are_called(world):
    watched, sensors = world.add(Watched), world.add(Sensors)
    view, screen = watch(world)
    world.spin_until(
        lambda: screen.moments and screen.calls["picture"] and screen.calls["arm"],
        "the view",
        publishing(sensors, watched, step=3, instruction="pick it up"),
    )
    assert (view.watched, view.cameras) == ("/vla_node", (CAMERA,))
    assert (screen.moments[0].step, screen.moments[0].instruction) == (3, "pick it up")
    _, camera, pixels = screen.calls["picture"][0]
    assert camera == CAMERA and (pixels == 100).all()
    assert screen.calls["arm"][0][1].shape == (9, 3)


def test_the_view_publishes_nothing_and_changes_nothing(world):
    watched = world.add(Watched)
    view, _ = watch(world)
    world.spin_until(lambda: view.watched, "the node")
    published = {t for t, _ in watched.get_publisher_names_and_types_by_node("heisd_view", "/")}
    assert published <= {"/parameter_events"}
    offered = {service.srv_name.rpartition("/")[2] for service in view.services}
    assert offered <= {"get_type_description"} and not list(view.clients)
    asked = next(s for s in view.subscriptions if s.topic_name == CAMERA).qos_profile
    assert (asked.depth, asked.reliability) == (1, qos.sensor_data().reliability)


def test_the_node_may_come_later_and_its_silence_is_noted(world, monkeypatch):
    monkeypatch.setattr(view_node, "SILENT_SEC", 0.2)
    _, screen = watch(world)
    world.spin_until(lambda: screen.notes, "the note")
    assert screen.notes == ["no telemetry of any VLA node"]
    watched, sensors = world.add(Watched), world.add(Sensors)
    world.spin_until(lambda: screen.moments, "a step", publishing(sensors, watched))
    world.spin_until(lambda: "no telemetry of /vla_node" in screen.notes, "the second note")


def test_of_two_nodes_the_one_that_is_named_is_shown(world):
    world.add(Watched)
    world.add(Watched, name="other")
    view, screen = watch(world, node="other")
    world.spin_until(lambda: view.watched, "the node")
    assert view.watched == "/other"
    assert screen.notes == ["watching /other; not shown: /vla_node, choose with --node"]


def test_bad_messages_are_noted_once_and_the_rest_is_shown(world):
    watched, sensors = world.add(Watched), world.add(Sensors)
    sensors.picture = image(encoding="32FC1")
    sensors.joints = joint_state(positions=[float("nan")] * 7)
    _, screen = watch(world)
    step = publishing(sensors, watched)
    world.spin_until(lambda: len(screen.moments) > 20 and len(screen.notes) >= 3, "steps", step)
    assert sum("is not shown" in note for note in screen.notes) == 1
    assert sum("the arm is not drawn" in note for note in screen.notes) == 1
    assert not screen.calls["picture"] and not screen.calls["arm"]


def test_a_compressed_picture_that_is_none_does_not_end_the_view(world):
    watched, sensors = world.add(Watched, CompressedImage), world.add(Sensors, CompressedImage)
    sensors.picture = CompressedImage(format="jpeg", data=b"\xff\xd8\xff no picture")
    _, screen = watch(world)
    step = publishing(sensors, watched)
    world.spin_until(lambda: screen.calls["arm"] and len(screen.notes) >= 2, "the arm", step)
    assert any("is not shown" in note for note in screen.notes)


def test_a_description_comes_from_its_topic(world):
    watched, sensors = world.add(Watched), world.add(Sensors)
    description = world.add(Node, "state_publisher").create_publisher(
        String, "/robot_description", qos.latched()
    )
    description.publish(String(data=panda_urdf()))
    settings = with_values(CellParameters(), {"robot.source": "topic"})
    _, screen = watch(world, parameters=settings)
    world.spin_until(lambda: screen.calls["arm"], "the arm", publishing(sensors, watched))
    assert np.isfinite(screen.calls["arm"][-1][1]).all()


def test_pictures_are_thinned_out(world):
    watched, sensors = world.add(Watched), world.add(Sensors)
    _, screen = watch(world)
    step = publishing(sensors, watched)
    world.spin_until(lambda: screen.calls["picture"], "a picture", step)
    began, before = time.monotonic(), len(screen.calls["picture"])
    world.spin_for(1.0, step)
    shown = len(screen.calls["picture"]) - before
    assert shown <= 10 * (time.monotonic() - began) + 1
