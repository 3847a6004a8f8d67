"""Whatever happened in a test: no command was out of the limits of the node that sent it."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.spatial.transform import Rotation

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

DEFAULTS = {info.name: info.default for info in parameters_of(VlaNodeParameters)}
PARTS = (("linear", slice(0, 3)), ("angular", slice(3, 6)))
ROUND_OFF = 1e-9
SLACK, JITTER_SEC = 1.05, 0.01
"""Of differences of targets: a stamp is read a moment before the time that the node counts by."""
LATE_TICKS, BUSY_SHARE, STALL_SEC = 1.9, 0.25, 0.1
"""Ticks from which a target is late; share of late ones on a machine that is too busy, and how long
that may stall between the stamp and the time that the node counts by."""
WINDOW, NEAR = 10, 4
"""Commands over which changes are added up; ticks on both sides of a late one that it changes."""


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
        if most > 0.0 and len(twists) > 1:
            # By stamps: a message that was missed is no jump.
            spans = np.maximum(np.diff(stamps), 1.0 / one["command.rate_hz"])
            # After a gap that is longer than the timeout of a controller the arm starts from rest.
            rested = spans > one["command.controller_timeout_sec"]
            slack_sec = STALL_SEC if _is_busy(stamps, one) else JITTER_SEC
            # What the slack lets pass at one command, it does not at each of several.
            for many in (1, min(WINDOW, len(spans))):
                sums = sliding_window_view(spans, many).sum(axis=-1)
                rests = sliding_window_view(rested, many).any(axis=-1)
                before = np.where(rests[:, None], 0.0, velocities[:-many])
                changes = _lengths(velocities[many:] - before)
                skipped = rests & (many > 1)
                assert (skipped | (changes <= most * (sums + slack_sec) + ROUND_OFF)).all(), part


def _is_busy(stamps, one):
    """Whether the machine was too busy for most ticks."""
    return (np.diff(stamps) * one["command.rate_hz"] > LATE_TICKS).mean() > BUSY_SHARE


def _check_poses(bench, heard, settings):
    """Every target is in the box, or no further out than the arm was, and follows smoothly.

    What is checked are differences of the targets as they were received, none excepted: the first
    for the speed, the second for the acceleration and the third for the jerk.
    """
    places = np.array([_place(pose) for pose in heard])
    turns = np.array([_quaternion(pose) for pose in heard])
    assert np.isfinite(places).all() and np.isfinite(turns).all()
    assert np.allclose(np.linalg.norm(turns, axis=1), 1.0, atol=1e-6)
    assert (np.sum(turns[1:] * turns[:-1], axis=1) > 0.0).all(), "a quaternion changed its sign"
    tips, _ = _tips(bench)
    assert len(tips), "a target without an arm"
    for axis, name in enumerate("xyz"):
        low = min(each[f"workspace.{name}_min"] for each in settings)
        high = max(each[f"workspace.{name}_max"] for each in settings)
        assert places[:, axis].min() >= min(low, tips[0, axis]) - ROUND_OFF, name
        assert places[:, axis].max() <= max(high, tips[0, axis]) + ROUND_OFF, name
    if len(settings) > 1 or len(places) < 2:
        return
    (one,), turns = settings, Rotation.from_quat(turns)
    spans = np.diff(_stamps(heard))
    for part, steps in (
        ("linear", np.diff(places, axis=0)),
        ("angular", (turns[1:] * turns[:-1].inv()).as_rotvec()),
    ):
        clocked = one["command.rate_hz"] > 0.0
        slack_sec = STALL_SEC if clocked else JITTER_SEC
        speed = one[f"command.max_{part}_speed"]
        assert (_lengths(steps) <= speed * (spans + slack_sec)).all(), part
        if not clocked:
            continue
        # After a gap that is longer than the timeout of a controller the target starts from rest.
        starts = np.flatnonzero(spans > one["command.controller_timeout_sec"])
        for i, leg in enumerate(np.split(steps, starts)):
            passed = np.split(spans, starts)[i]
            if i > 0:
                passed[0] = 1.0 / one["command.rate_hz"]
            _check_leg(leg, passed, part, one)


def _check_leg(steps, spans, part, one):
    """The motion of targets that come by a clock is within speed, acceleration and jerk.

    Near a late tick it is not seen for how many ticks a target counts: a late one counts for one,
    or, from the third in a row, for those that passed by the node's own clock. There the speeds on
    both sides are compared, over the time between.
    """
    tick = 1.0 / one["command.rate_hz"]
    late = np.convolve(spans > LATE_TICKS * tick, np.ones(2 * NEAR + 1))[NEAR:-NEAR] > 0.0
    calm = np.flatnonzero(~late)
    velocities, ends = steps[calm] / tick, np.cumsum(spans)[calm]
    apart = np.diff(ends) + STALL_SEC
    apart[np.diff(calm) == 1] = tick
    changes = np.diff(velocities, axis=0) / apart[:, None]
    beside = np.flatnonzero((np.diff(calm, n=2) == 0) & (np.diff(calm)[1:] == 1))
    for order, values in (
        ("speed", velocities),
        ("acceleration", changes),
        ("jerk", np.diff(changes, axis=0)[beside] / tick),
    ):
        most = one[f"command.max_{part}_{order}"] or np.inf
        worst = _lengths(values).max(initial=0.0)
        assert worst <= most * SLACK, (part, order, worst)


def _check_deltas(bench, heard, settings):
    """No limit of the node applies to one; but no two are for the same time."""
    for delta in heard:
        assert len(delta.action) == (0 if delta.stop else 7)
        assert np.isfinite(delta.action).all() and delta.duration > 0.0
        assert delta.rotation in {each["command.rotation_convention"] for each in settings}
    moving = [delta for delta in heard if not delta.stop]
    if len(settings) == 1 and moving:
        stamps = _stamps(moving)
        assert len(moving) <= (stamps[-1] - stamps[0]) / moving[0].duration + 2.5


def _check_grippers(bench, heard, settings):
    accepted = {each[f"gripper.{end}_position"] for each in settings for end in ("open", "closed")}
    assert {opening.data for opening in heard} <= accepted


def _tips(bench):
    """Where the arm was said to be, in order: (n, 3) m and n rotations."""
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
    said = dict.fromkeys(tuple(state.position[:7]) for state in bench.joint_states)
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
