"""ROS in tests: a domain for each, nodes in one executor, sensors to publish with."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from heisd_ros.msg import ActionDelta, StepTelemetry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64, String
from support.fake_scene import REST
from support.workers import next_domain_id

from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS
from heisd_ros.nodes import qos

TIMEOUT_SEC = 120.0
ASKED_AGAIN_SEC = 20.0
LONGEST_TURN_SEC = 0.03
"""Time that a turn of the executor counts for at most: a stall of the machine is no time."""
DO_NOT_FOLLOW = {"input.frozen_joint_sec": 0.0, "input.follow_distance_m": 0.0}
"""Parameters with which an arm may stand whatever it is told."""


class World:
    """A context in a domain of its own, with an executor that the test spins."""

    def __init__(self):
        self.domain_id = next_domain_id()
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.launched = []  # parameters of the nodes that run as processes

    def add(self, make, *args, parameters=None, **kwargs):
        """Makes a node in this world; beside an arm that stands it does not ask for motion."""
        stands = any(getattr(node, "stands", False) for node in self.nodes)
        given = {**(DO_NOT_FOLLOW if stands else {}), **(parameters or {})}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = make(*args, context=self.context, parameter_overrides=overrides, **kwargs)
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def vla_node(self, folder, parameters=None, load=(), activate=True):
        """Makes a VLA node with the model of a folder; active unless told otherwise."""
        from support.tiny_vla import INSTRUCTIONS  # which imports PyTorch

        from heisd_ros.nodes.vla_node import VlaNode

        given = {
            "model.path": str(folder),
            "model.threads": 1,
            "instruction": INSTRUCTIONS[0],
            "command.max_action_age_sec": 30.0,
            **(parameters or {}),
        }
        node = self.add(VlaNode, *load, parameters=given)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert not activate or node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    def spin_until(self, condition, what="condition", doing=None):
        """Spins until the condition holds; `doing` is called every 20 ms meanwhile."""
        deadline, last = time.monotonic() + TIMEOUT_SEC, 0.0
        while not condition():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_SEC:g} s for: {what}"
            if doing is not None and time.monotonic() - last > 0.02:
                doing()
                last = time.monotonic()
            self.executor.spin_once(timeout_sec=0.01)

    def spin_for(self, seconds, doing=None):
        """Spins for a time in which the executor has turns."""
        left, last = seconds, time.monotonic()

        def over():
            nonlocal left, last
            now = time.monotonic()
            left, last = left - min(now - last, LONGEST_TURN_SEC), now
            return left <= 0.0

        self.spin_until(over, doing=doing)

    def call(self, kind, name, request=None):
        """Calls a service and returns its response; asks again if none comes.

        A server drops its response to a client that it has not discovered after 0.1 s, which a busy
        machine makes likely right after a start (rmw_fastrtps: "client will not receive response").
        """
        client = self.nodes[0].create_client(kind, name)
        self.spin_until(client.service_is_ready, f"service {name}")
        asked, last = [], -math.inf

        def answered():
            nonlocal last
            if time.monotonic() - last > ASKED_AGAIN_SEC:
                asked.append(client.call_async(request or kind.Request()))
                last = time.monotonic()
            return any(future.done() for future in asked)

        self.spin_until(answered, f"answer of {name}")
        self.nodes[0].destroy_client(client)
        return next(future.result() for future in asked if future.done())

    def close(self):
        for node in reversed(self.nodes):
            if hasattr(node, "stop"):
                node.stop()
        self.executor.shutdown(timeout_sec=1.0)
        for node in self.nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)


def image(shade=100, size=32, encoding="rgb8", stamp=None, channels=3):
    """An image of one shade."""
    message = Image(height=size, width=size, encoding=encoding, step=size * channels)
    message.data.frombytes(np.full(size * size * channels, shade, np.uint8).tobytes())
    if stamp is not None:
        message.header.stamp = stamp
    return message


def joint_state(positions=REST, velocities=(0.0,) * 7, fingers=(0.02, 0.02), stamp=None):
    """A joint state of the Panda."""
    message = JointState(
        name=[*PANDA_JOINTS, *PANDA_FINGER_JOINTS],
        position=[*map(float, positions), *fingers],
        velocity=[*map(float, velocities), 0.0, 0.0] if velocities is not None else [],
    )
    if stamp is not None:
        message.header.stamp = stamp
    return message


class Bench(Node):
    """Publishes what a cell measures to a vla_node and records what it commands.

    Each message is made by a function of the stamp that a test may replace; None: nothing is sent.
    A prefix is the namespace of the node. The arm stands whatever it is told.
    """

    stands = True

    def __init__(self, views=("image", "image_wrist"), compressed=False, prefix="", **kwargs):
        super().__init__("bench", **kwargs)
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self.shade = itertools.count()
        self.image_of = dict.fromkeys(views, self._fresh_image)
        self.joints_of = lambda stamp: joint_state(stamp=stamp)
        publisher = self.create_publisher
        inputs = f"{prefix}/vla_node/input"
        self._images = {v: publisher(kind, f"{inputs}/{v}{suffix}", 1) for v in views}
        self._joints = publisher(JointState, f"{inputs}/joint_states", 1)
        self.instruction = publisher(String, f"{inputs}/instruction", 1)
        self.description = publisher(String, f"{prefix}/robot_description", qos.latched())
        self.twists, self.poses, self.deltas, self.grippers, self.telemetry = ([] for _ in range(5))
        self.joint_states = []  # published ones
        for kind, topic, record in (
            (TwistStamped, f"{prefix}/vla_node/output/twist", self.twists),
            (PoseStamped, f"{prefix}/vla_node/output/pose", self.poses),
            (ActionDelta, f"{prefix}/vla_node/output/delta", self.deltas),
            (Float64, f"{prefix}/vla_node/output/gripper", self.grippers),
            (StepTelemetry, f"{prefix}/vla_node/telemetry", self.telemetry),
        ):
            self.create_subscription(kind, topic, record.append, 100)

    def _fresh_image(self, stamp):
        return image(next(self.shade) % 200, stamp=stamp)

    def publish(self):
        """Publishes one observation with one stamp."""
        stamp = self.get_clock().now().to_msg()
        joints = self.joints_of(stamp)
        if joints is not None:
            self._joints.publish(joints)
            self.joint_states.append(joints)
        for view, publisher in self._images.items():
            message = self.image_of[view](stamp)
            if message is not None:
                publisher.publish(message)

    def steps(self):
        """Telemetry of the steps that moved the arm."""
        return [message for message in self.telemetry if not message.hold]

    def holds(self):
        """Reasons of the holds, without their details."""
        return [message.reason.split(":")[0] for message in self.telemetry if message.hold]
