"""A running system against a robot's file, over real DDS."""

from __future__ import annotations

import pytest
from geometry_msgs.msg import PoseStamped
from heisd_ros.msg import ArmStatus
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from support.robots import robot_files, urdf_of
from support.ros import image, joint_state

from heisd_ros.nodes import qos
from heisd_ros.nodes.running_checks import Listener
from heisd_ros.robot.robot_file import read_robot_file


def listen(world, seconds, doing=None):
    file = robot_files()["panda"]
    listener = world.add(lambda **kw: Listener(read_robot_file(file), **kw))
    world.spin_for(seconds, doing)
    seen = {}
    for level, name, text in listener.report(seconds):
        before = seen.get(name, (level, ""))
        seen[name] = (before[0], before[1] + text)
    return seen


def test_an_empty_system_lacks_everything(world):
    seen = listen(world, 0.3)
    for topic in ("/camera/image_raw", "/joint_states", "/robot_description"):
        assert seen[topic][0] == "bad" and "no publisher" in seen[topic][1]
    assert seen["/target_pose"] == ("warning", "no subscriber: is the controller up?")
    assert seen["heisd_guard"][0] == "good" and "does not run" in seen["heisd_guard"][1]


def test_a_system_that_fits_is_good(world):
    driver = world.add(Node, "driver")
    driver.create_subscription(PoseStamped, "/target_pose", lambda message: None, 1)
    states = driver.create_publisher(JointState, "/joint_states", 1)
    description = driver.create_publisher(String, "/robot_description", qos.latched())
    description.publish(String(data=urdf_of("panda")))

    def publish():
        states.publish(joint_state(stamp=driver.get_clock().now().to_msg()))

    seen = listen(world, 2.0, publish)
    for name in ("/joint_states", "/robot_description", "/target_pose", "joints", "description"):
        assert seen[name][0] == "good", seen[name]


def test_a_picture_that_would_hold_the_arm_is_named(world):
    driver = world.add(Node, "driver")
    camera = driver.create_publisher(Image, "/camera/image_raw", 1)

    def publish():
        stamp = driver.get_clock().now().to_msg()
        camera.publish(image(encoding="16UC1", channels=2, stamp=stamp))

    level, text = listen(world, 1.0, publish)["/camera/image_raw"]
    assert level == "bad" and "image encoding is '16UC1'; accepted: rgb8" in text


def test_what_does_not_fit_is_named(world):
    driver = world.add(Node, "driver")
    driver.create_publisher(PoseStamped, "/target_pose", 1)
    driver.create_publisher(String, "/robot_description", qos.reliable())
    states = driver.create_publisher(JointState, "/joint_states", 1)

    def publish():
        states.publish(JointState(name=["fr3_joint1"], position=[0.0]))

    seen = listen(world, 1.0, publish)
    assert "['driver'] command it too" in seen["/target_pose"][1]
    assert "another QoS" in seen["/robot_description"][1]
    assert "'panda_joint1'" in seen["joints"][1] and "fr3_joint1" in seen["joints"][1]
    assert "clocks" in seen["/joint_states"][1]  # no stamp at all


@pytest.mark.parametrize(
    ("code", "level", "words"),
    [
        (ArmStatus.NO_WARNING, "good", "passes commands"),
        (ArmStatus.INACTIVE, "good", "waits: no_commands"),
        (ArmStatus.HELD, "bad", "tripped: no_commands; ~/reset of heisd_guard ends it"),
    ],
)
def test_a_guard_that_runs_is_no_rival_and_says_how_it_is(world, code, level, words):
    guard, driver = world.add(Node, "heisd_guard"), world.add(Node, "driver")
    driver.create_subscription(PoseStamped, "/target_pose", lambda message: None, 1)
    guard.create_publisher(PoseStamped, "/target_pose", 1)
    status = guard.create_publisher(ArmStatus, "/heisd_guard/status", qos.reliable())
    said = ArmStatus(code=code, message="no_commands")
    seen = listen(world, 0.5, lambda: status.publish(said))
    assert seen["/target_pose"][0] == "good"
    assert seen["heisd_guard"][0] == level and words in seen["heisd_guard"][1]


def test_a_guard_that_commands_nothing_is_named(world):
    guard = world.add(Node, "heisd_guard")
    status = guard.create_publisher(ArmStatus, "/heisd_guard/status", qos.reliable())
    seen = listen(world, 0.5, lambda: status.publish(ArmStatus(code=ArmStatus.INACTIVE)))
    level, words = seen["/target_pose"]
    assert level == "warning" and "heisd_guard runs and does not command it" in words


def test_a_node_that_goes_past_the_guard_is_named(world):
    guard, node = world.add(Node, "heisd_guard"), world.add(Node, "vla_node")
    for each in (guard, node):
        each.create_publisher(PoseStamped, "/target_pose", 1)
    status = guard.create_publisher(ArmStatus, "/heisd_guard/status", qos.reliable())
    seen = listen(world, 0.5, lambda: status.publish(ArmStatus(code=ArmStatus.NO_WARNING)))
    assert "vla_node commands it past heisd_guard" in seen["/target_pose"][1]
