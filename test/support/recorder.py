"""Whatever happened in a test: no command was out of the limits of the node that sent it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.nodes.declare import parameters_of
from heisd_ros.nodes.inputs import NANOSECONDS, stamp_ns
from heisd_ros.nodes.parameters import VlaNodeParameters

DEFAULTS = {info.name: field.default for field, info in parameters_of(VlaNodeParameters)}
PARTS = (("linear", slice(0, 3)), ("angular", slice(3, 6)))
ROUND_OFF = 1e-9
STILL_M, STILL_RAD = 1e-6, 1e-5
"""How near a target is that is where the arm was seen."""


def numbers(twist):
    """The six numbers of a TwistStamped."""
    linear, angular = twist.twist.linear, twist.twist.angular
    return [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]


def assert_commands_within_limits(world):
    """Checks every command that a bench of this world heard.

    The limits are those of its nodes, or of the processes it started. Several nodes on one topic
    go on each from its own last command, so how a command follows another is checked for one only.
    """
    settings = [_of_node(node) for node in world.nodes if node.has_parameter("command.interface")]
    settings += [{**DEFAULTS, **given} for given in world.launched]
    for bench in (node for node in world.nodes if hasattr(node, "twists")):
        for check, heard in (
            (_check_twists, bench.twists),
            (_check_poses, bench.poses),
            (_check_deltas, bench.deltas),
            (_check_grippers, bench.grippers),
        ):
            if heard:
                assert settings, "a command of nobody"
                check(bench, heard, settings)


def _of_node(node):
    return {name: node.get_parameter(name).value for name in DEFAULTS if node.has_parameter(name)}


def _check_twists(bench, heard, settings):
    one = settings[0] if len(settings) == 1 else None
    twists, stamps = np.array([numbers(twist) for twist in heard]), _stamps(heard)
    assert np.isfinite(twists).all()
    for part, axes in PARTS:
        velocities = twists[:, axes]
        if settings[0]["command.units"] == "unitless":
            velocities = velocities * settings[0][f"command.unitless_{part}"]
        speed = max(each[f"command.max_{part}_speed"] for each in settings)
        assert _lengths(velocities).max() <= speed * (1.0 + ROUND_OFF), part
        most = one[f"command.max_{part}_acceleration"] if one else 0.0
        if most > 0.0:
            # By stamps: a message that was missed is no jump.
            spans = np.maximum(np.diff(stamps), 1.0 / one["command.rate_hz"])
            changes = _lengths(np.diff(velocities, axis=0))
            assert (changes <= most * spans * (1.0 + 1e-6) + ROUND_OFF).all(), part


def _check_poses(bench, heard, settings):
    """A target is in the box, near the arm, and follows the one before at a bounded speed.

    A target may leave where the arm is seen no faster than the limit, and the arm may go no faster;
    so two targets differ by no more than twice that, unless the later one is where the arm was.
    """
    places = np.array([_place(pose) for pose in heard])
    turns = np.array([_quaternion(pose) for pose in heard])
    assert np.isfinite(places).all() and np.isfinite(turns).all()
    assert np.allclose(np.linalg.norm(turns, axis=1), 1.0, atol=1e-6)
    tips, axes = _tips(bench)
    assert len(tips), "a target without an arm"
    turns = Rotation.from_quat(turns)
    apart = np.linalg.norm(places[:, None] - tips[None], axis=2)
    turned = np.array([(turns[i] * axes.inv()).magnitude() for i in range(len(places))])
    for axis, name in enumerate("xyz"):
        low = min(each[f"workspace.{name}_min"] for each in settings)
        high = max(each[f"workspace.{name}_max"] for each in settings)
        assert places[:, axis].min() >= min(low, tips[:, axis].min()) - ROUND_OFF, name
        assert places[:, axis].max() <= max(high, tips[:, axis].max()) + ROUND_OFF, name
    for part, unit, distances, steps, still in (
        ("linear", "m", apart, _lengths(np.diff(places, axis=0)), STILL_M),
        ("angular", "rad", turned, (turns[1:] * turns[:-1].inv()).magnitude(), STILL_RAD),
    ):
        speed = max(each[f"command.max_{part}_speed"] for each in settings)
        lead = max(each[f"command.max_lead_{unit}"] for each in settings)
        tick = max(1.0 / (each["command.rate_hz"] or 20.0) for each in settings)
        # While a node closes it does not hear where the arm is, and goes on to a stand.
        assert distances.min(axis=1).max() <= lead + 0.5 * speed, part
        if len(settings) == 1:
            spans = np.maximum(np.diff(_stamps(heard)), tick)
            anchored = (apart[1:].min(axis=1) <= STILL_M) & (turned[1:].min(axis=1) <= STILL_RAD)
            assert (anchored | (steps <= 2.0 * speed * spans + still)).all(), part


def _check_deltas(bench, heard, settings):
    """No limit of the node applies to these; what is no action is sent as none."""
    for delta in heard:
        assert len(delta.action) == (0 if delta.stop else 7)
        assert np.isfinite(delta.action).all() and delta.duration > 0.0
        assert delta.rotation in {each["command.rotation_convention"] for each in settings}


def _check_grippers(bench, heard, settings):
    accepted = {each[f"gripper.{end}_position"] for each in settings for end in ("open", "closed")}
    assert {opening.data for opening in heard} <= accepted


def _tips(bench):
    """Where the arm was said to be: (n, 3) m and n rotations."""
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
    said = {tuple(state.position[:7]) for state in bench.joint_states}
    poses = [arm.forward(np.array(q)) for q in said if np.isfinite(q).all()]
    places = np.array([pose.position for pose in poses]).reshape(-1, 3)
    return places, Rotation.from_matrix([pose.rotation for pose in poses] or np.eye(3)[None])


def _place(message):
    p = message.pose.position
    return [p.x, p.y, p.z]


def _quaternion(message):
    q = message.pose.orientation
    return [q.x, q.y, q.z, q.w]


def _stamps(messages):
    return np.array([stamp_ns(message) for message in messages]) / NANOSECONDS


def _lengths(vectors):
    return np.linalg.norm(vectors, axis=-1)
