"""An arm and a commander on both sides of the guard, which share no code with it.

The Panda's kinematics are those of Franka's Denavit-Hartenberg table, and every command that
reaches the arm is checked by plain arithmetic.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from heisd_ros.msg import ArmStatus
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState

JOINTS = [f"panda_joint{i}" for i in range(1, 8)]
READY = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.785])
TICK_SEC, TIMEOUT_SEC = 0.02, 0.1
SPEED, ACCELERATION = 0.1, 1.0
TURN, TURN_ACCELERATION = 0.5, 5.0
JERK, TURN_JERK = 40.0, 100.0
BY_STALLS = {"stale_joint_states", "no_commands", "bad_stamps", "workspace", "jerk", "too_fast"}
"""What trips where the machine stalls: a timeout, an arm that moves on, a late or lost command."""
SMOOTH = 5
"""Ticks of a mean: of 0.9 of the acceleration, each way, so many make less than the jerk."""
MARGIN_M = 0.01
LOW, HIGH = np.array([0.3, -0.25, 0.2]), np.array([0.7, 0.25, 0.7])
SETTINGS = {
    "command.rate_hz": 1.0 / TICK_SEC,
    "command.controller_timeout_sec": TIMEOUT_SEC,
    "command.max_linear_speed": SPEED,
    "command.max_angular_speed": TURN,
    "command.max_linear_acceleration": ACCELERATION,
    "command.max_angular_acceleration": TURN_ACCELERATION,
    "command.max_linear_jerk": JERK,
    "command.max_angular_jerk": TURN_JERK,
    "command.max_lead_m": 0.02,
    "command.max_lead_rad": 0.1,
    "input.joint_state_timeout_sec": 0.15,
    "input.recovery_sec": 0.1,
    **{f"workspace.{axis}_min": float(low) for axis, low in zip("xyz", LOW, strict=True)},
    **{f"workspace.{axis}_max": float(high) for axis, high in zip("xyz", HIGH, strict=True)},
}
_PI = np.pi / 2.0
# a, d, alpha of each joint, then flange, hand and tip (Craig's convention; franka's documentation)
_TABLE = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -_PI),
    (0.0, 0.316, _PI),
    (0.0825, 0.0, _PI),
    (-0.0825, 0.384, -_PI),
    (0.0, 0.0, _PI),
    (0.088, 0.0, _PI),
]
_TOOL = (0.0, 0.107 + 0.1034, 0.0, -np.pi / 4.0)


def tip(q):
    """Position (3,), m, and rotation (3, 3) of the hand's tip in the base."""
    pose = np.eye(4)
    for a, d, alpha, theta in [(*row, angle) for row, angle in zip(_TABLE, q, strict=True)] + [
        _TOOL
    ]:
        ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [ct, -st, 0.0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
    return pose[:3, 3], pose[:3, :3]


def moved(q, twist, seconds):
    """Joint positions after a twist, by differences of `tip`."""
    place, turn = tip(q)
    columns = []
    for i in range(7):
        there, turned = tip(q + 1e-6 * np.eye(7)[i])
        spin = Rotation.from_matrix(turned @ turn.T).as_rotvec()
        columns.append(np.concatenate([there - place, spin]) / 1e-6)
    jacobian = np.array(columns).T
    return q + np.linalg.pinv(jacobian, rcond=1e-3) @ twist * seconds


def command_message(kind, values, stamp, frame_id="panda_link0"):
    """TwistStamped of six numbers, or PoseStamped of a position and a rotation."""
    message = TwistStamped() if kind == "twist" else PoseStamped()
    message.header.frame_id, message.header.stamp = frame_id, stamp
    if kind == "twist":
        for part, numbers in (("linear", values[:3]), ("angular", values[3:])):
            vector = getattr(message.twist, part)
            vector.x, vector.y, vector.z = map(float, numbers)
        return message
    place, turn = values
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = map(float, place)
    quaternion = Rotation.from_matrix(turn).as_quat()
    orientation.x, orientation.y, orientation.z, orientation.w = map(float, quaternion)
    return message


def joint_message(q, stamp, names=JOINTS):
    """JointState of an arm."""
    message = JointState(name=list(names), position=list(map(float, q)))
    message.header.stamp = stamp
    return message


class Driver:
    """Makes the commands of a well-behaved node: a velocity that follows `goal` smoothly.

    Attributes:
        goal: (6,), wanted, m/s and rad/s.
        velocity: (6,), of the newest command: the mean of some ticks of one whose acceleration is
            limited, so that it changes within the limit of the jerk.
        target: Position and rotation of the newest target.
        acceleration: Limit of the linear one, m/s^2.
    """

    acceleration = ACCELERATION

    def __init__(self, kind, q):
        self.kind, self.goal, self.velocity = kind, np.zeros(6), np.zeros(6)
        self.target = tip(q)
        self._ramped = [np.zeros(6)] * SMOOTH

    def next(self):
        """Values of the next command."""
        ramped = self._ramped[-1].copy()
        for part, most in ((slice(0, 3), self.acceleration), (slice(3, 6), TURN_ACCELERATION)):
            change = self.goal[part] - ramped[part]
            length = np.linalg.norm(change) or 1.0
            ramped[part] += change * min(1.0, 0.9 * most * TICK_SEC / length)
        self._ramped = [*self._ramped[1:], ramped]
        self.velocity = np.mean(self._ramped, axis=0)
        if self.kind == "twist":
            return self.velocity.copy()
        place, turn = self.target
        spin = Rotation.from_rotvec(self.velocity[3:] * TICK_SEC).as_matrix()
        self.target = place + self.velocity[:3] * TICK_SEC, spin @ turn
        return self.target

    def rest_at(self, q):
        """Stands still where the arm is, as a node does that is activated."""
        self.goal, self.target = np.zeros(6), tip(q)
        self.runs_at(np.zeros(6))

    def runs_at(self, velocity):
        """Moves at a velocity from the next command on, however it moved before."""
        self.velocity, self._ramped = velocity.copy(), [velocity.copy()] * SMOOTH


class Arm:
    """Moves as it is commanded, and remembers everything.

    Attributes:
        q: (7,), rad.
        heard: Commands: steady time, stamp (s), and values as `command_message` takes them.
        tips: (3,) each, m, where the tip was.
    """

    def __init__(self, kind, q=READY):
        self.kind, self.q, self.heard, self.tips = kind, q.copy(), [], []

    def hear(self, message, at):
        stamp = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        self.heard.append((at, stamp, values_of(message)))

    def advance(self, now, seconds):
        """Moves for a time by the newest command; a twist that is too old has no effect."""
        if self.heard:
            at, _, values = self.heard[-1]
            if self.kind == "twist":
                twist = values if now - at <= TIMEOUT_SEC else np.zeros(6)
            else:
                place, turn = tip(self.q)
                spin = Rotation.from_matrix(values[1] @ turn.T).as_rotvec()
                twist = np.concatenate([values[0] - place, spin]) / (3.0 * TICK_SEC)
            self.q = moved(self.q, twist, seconds)
        self.tips.append(tip(self.q)[0])

    def stands(self):
        """Whether the newest commands move nothing."""
        if len(self.heard) < 2:
            return False
        if self.kind == "twist":
            return not np.any(self.heard[-1][2])
        (place, turn), (before, turned) = self.heard[-1][2], self.heard[-2][2]
        return np.abs(place - before).max() < 1e-9 and np.abs(turn - turned).max() < 1e-9

    def check(self):
        """Every command was finite, within speed, acceleration and jerk, the tip within the box."""
        tips = np.array(self.tips)
        assert (tips >= LOW - 1.5 * MARGIN_M).all() and (tips <= HIGH + 1.5 * MARGIN_M).all()
        stamps = np.array([stamp for _, stamp, _ in self.heard])
        if self.kind == "twist":
            twists = np.array([values for _, _, values in self.heard])
            spans = np.maximum(np.round(np.diff(stamps) / TICK_SEC), 1.0) * TICK_SEC
        else:
            places = np.array([place for _, _, (place, _) in self.heard])
            turns = Rotation.from_matrix([turn for _, _, (_, turn) in self.heard])
            spans = np.maximum(np.round(np.diff(stamps) / TICK_SEC), 1.0) * TICK_SEC
            spins = (turns[1:] * turns[:-1].inv()).as_rotvec()
            # One command may move the target by one tick, however late it comes.
            twists = np.column_stack([np.diff(places, axis=0), spins]) / spans[:, None]
            spans = (spans[1:] + spans[:-1]) / 2.0
        assert np.isfinite(twists).all()
        # Four commands in a row, each a tick after the one before: their jerk is certain.
        on_time = np.abs(np.diff(stamps) / TICK_SEC - 1.0) < 0.4
        if self.kind == "pose":
            on_time = on_time[1:] & on_time[:-1]
        certain = on_time[1:] & on_time[:-1]
        for part, speed, most, jerk in (
            (slice(0, 3), SPEED, ACCELERATION, JERK),
            (slice(3, 6), TURN, TURN_ACCELERATION, TURN_JERK),
        ):
            turns_of = np.linalg.norm(np.diff(twists[:, part], n=2, axis=0), axis=1)[certain]
            assert turns_of.max(initial=0.0) <= jerk * TICK_SEC**2 * 1.12 + 4e-4
            lengths = np.linalg.norm(twists[:, part], axis=1)
            assert lengths.max(initial=0.0) <= speed * 1.12
            changes = np.linalg.norm(np.diff(twists[:, part], axis=0), axis=1)
            rested = spans > TIMEOUT_SEC - TICK_SEC
            late = spans > 1.4 * TICK_SEC if self.kind == "pose" else np.zeros(len(spans), bool)
            late = late | np.append(False, late[:-1]) | np.append(late[1:], False)
            smooth = (changes <= most * spans * 1.12 + 1e-3) | rested | late
            assert smooth.all(), changes[~smooth]


def values_of(message):
    """Values of a message, as `command_message` takes them."""
    if hasattr(message, "twist"):
        linear, angular = message.twist.linear, message.twist.angular
        return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    p, q = message.pose.position, message.pose.orientation
    return np.array([p.x, p.y, p.z]), Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()


class Line(Node):
    """A commander before the guard and an arm behind it, over DDS.

    Attributes:
        arm: The arm.
        driver: What makes the commands.
        bend: Called with each command's message; returns what is sent in its place, if anything.
        joints_of: Returns the message of joint states; None: none is sent.
    """

    def __init__(self, kind="twist", **kwargs):
        super().__init__("line", **kwargs)
        self.arm, self.driver = Arm(kind), Driver(kind, READY)
        self.bend = lambda message: message
        self.joints_of = joint_message
        self.statuses, self.reports = [], []
        message_kind = TwistStamped if kind == "twist" else PoseStamped
        self.commands = self.create_publisher(message_kind, f"/heisd_guard/input/{kind}", 1)
        self._joints = self.create_publisher(JointState, "/heisd_guard/input/joint_states", 1)
        self.node_status = self.create_publisher(ArmStatus, "/heisd_guard/input/status", 1)
        hear = lambda message: self.arm.hear(message, time.monotonic())  # noqa: E731
        self.create_subscription(message_kind, f"/heisd_guard/output/{kind}", hear, 100)
        self.create_subscription(ArmStatus, "/heisd_guard/status", self.statuses.append, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)
        self._at = time.monotonic()
        self.create_timer(TICK_SEC, self._tick)

    def _tick(self):
        now = time.monotonic()
        self.arm.advance(now, min(now - self._at, 2.0 * TICK_SEC))
        self._at = now
        stamp = self.get_clock().now().to_msg()
        joints = self.joints_of(self.arm.q, stamp)
        if joints is not None:
            self._joints.publish(joints)
        message = self.bend(command_message(self.driver.kind, self.driver.next(), stamp))
        if message is not None:
            self.commands.publish(message)

    def said(self, reason):
        """Whether the newest status names a reason."""
        return bool(self.statuses) and self.statuses[-1].message.startswith(reason)

    def passes(self):
        """Whether the newest status is that commands are passed."""
        return bool(self.statuses) and self.statuses[-1].code == ArmStatus.NO_WARNING


def shifted(message, seconds):
    """A message with its stamp moved in time."""
    total = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + int(seconds * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(total, 10**9)
    return message


class Simulated:
    """A gate between a driver and an arm in simulated time, tick by tick.

    Attributes:
        now: Steady time and clock, ns.
        bend: As in `Line`.
        joints_of: Likewise.
        clock_offset: ns, by which the clock is ahead of steady time.
    """

    def __init__(self, gate, kind, q=READY, driver=None):
        self.gate, self.now, self.clock_offset = gate, 10**12, 0
        self.arm, self.driver = Arm(kind, q), driver or Driver(kind, q)
        self.bend, self.joints_of = (lambda message: message), joint_message
        self.passed = []

    def run(self, ticks, until=lambda: False):
        """Runs for some ticks, or until a condition holds; returns whether it does."""
        for _ in range(ticks):
            self._tick()
            if until():
                return True
        return False

    def tripped(self):
        """Reason of the trip; empty without one."""
        return "" if self.gate.trip is None else str(self.gate.trip)

    def _tick(self):
        self.now += int(TICK_SEC * 1e9)
        stamp = self.stamp()
        self.arm.advance(self.now / 1e9, TICK_SEC)
        joints = self.joints_of(self.arm.q, stamp)
        clock = self.now + self.clock_offset
        if joints is not None:
            self.gate.joints.add_joint_state(joints, self.now, clock)
        message = self.bend(command_message(self.driver.kind, self.driver.next(), stamp))
        if message is not None and self.gate.take(message, self.now, clock):
            self.passed.append(message)
            self.arm.hear(message, self.now / 1e9)
        self.gate.check(self.now, clock)
        stop = self.gate.stopping(self.now)
        if stop is not None:
            values = stop.twist
            if values is None:
                values = stop.target.position, stop.target.rotation
            self.arm.hear(command_message(self.driver.kind, values, stamp), self.now / 1e9)

    def stamp(self):
        """The clock now."""
        seconds, nanoseconds = divmod(self.now + self.clock_offset, 10**9)
        return Time(sec=seconds, nanosec=nanoseconds)


def nan(message):
    """A command with a number that is none."""
    if hasattr(message, "twist"):
        message.twist.angular.y = float("nan")
    else:
        message.pose.position.z = float("nan")
    return message


def other_frame(message):
    """A command in the frame of a camera."""
    message.header.frame_id = "camera"
    return message


def leap(message):
    """A command that does not follow from the one before."""
    if hasattr(message, "twist"):
        message.twist.linear.z += 0.05
    else:
        message.pose.position.z += 0.001
    return message


def shaking():
    """Makes every other target leap."""
    metres = itertools.cycle((0.0011, 0.0))

    def shake(message):
        message.pose.position.z += next(metres)
        return message

    return shake
