"""Keeps the newest complete observation, and finds faults of the inputs. Imports no ROS.

One thread adds messages, another takes observation sets. A set is one image of every view and one
joint state whose header stamps are within a tolerance; it is handed out once, and a newer set
replaces one that was not taken. Ages count from reception on a steady clock, so that neither a
stopped simulation clock nor a wrong wall clock hides a dead camera; stamps are compared with the
node's clock as well, since a slow pipeline delivers old messages.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inputs import (
    NANOSECONDS,
    IngestLimits,
    InputHealth,
    ObservationSet,
    Received,
    stamp_ns,
)
from heisd_ros.control.pictures import FrozenPicture
from heisd_ros.control.stamps import StampAges
from heisd_ros.errors import ImageError, JointStateError
from heisd_ros.kinematics.joint_states import ArmState, JointStateReader
from heisd_ros.kinematics.joint_stream import PlausibleJoints
from heisd_ros.kinematics.metric import MetricSample

# Enough to match a camera against another that is 100 ms late, and against joint states at 1 kHz.
IMAGE_HISTORY, JOINT_HISTORY = 8, 512
CLOCK_JUMP = NANOSECONDS // 2
"""A stamp that is this much older than the newest one means that the clock jumped back, ns."""


class ObservationBuffer:
    """Thread-safe buffer of the inputs of the VLA node. Times `now` are steady, ns.

    Args:
        views: Names of the camera views, in the model's order; none: it has joint states only.
        limits: Ages and tolerances.
        check_image: Raises ImageError for an image message that cannot be used.
        measure: Takes the arm and its stamp (s) into the kinematic metric, whose value then belongs
            to every set with that joint state.
    """

    def __init__(
        self,
        views: Sequence[str],
        limits: IngestLimits,
        check_image: Callable[[Any], None],
        measure: Callable[[ArmState, float], MetricSample | None] = lambda arm, stamp_sec: None,
    ) -> None:
        self.limits = limits
        self.image_health = [InputHealth(view) for view in views]
        self.joint_health = InputHealth("joint_states")
        self.counts: Counter[str] = Counter()
        """Sets `complete`, `superseded` by newer ones; images `unsynchronised`; messages
        `out_of_order`; `clock_jumps`."""
        self.moving = False
        """Whether the arm is commanded to move; set by the sender of commands."""
        self.stamps = StampAges([*views, self.joint_health.name])
        self.publishers: Callable[[str], Sequence[str]] = lambda name: ()
        """Names of the nodes that publish an input; set by its subscriber."""
        self._check_image, self._measure = check_image, measure
        self._reader: JointStateReader | None = None
        self._plausible: PlausibleJoints | None = None
        self._robot_fault = "nothing received yet"
        self._condition = threading.Condition()
        self._pictures = [FrozenPicture() for _ in views]
        self._arm: ArmState | None = None
        self._repeats = 0  # joint states with the same positions while the arm was to move
        self._pending: ObservationSet | None = None
        self._complete: int | None = None
        self._first: int | None = None
        self._clear()

    def set_robot(self, reader: JointStateReader) -> None:
        """Sets the arm whose joints are read."""
        with self._condition:
            self._reader = reader
            self._plausible = PlausibleJoints(reader.kinematics, reader.limits)

    def refuse_robot(self, fault: str) -> None:
        """Records a robot description that cannot be used; the previous one stays in use."""
        with self._condition:
            self._robot_fault = fault

    def add_image(self, view: int, message: Any, now: int, clock: int | None = None) -> None:
        """Adds an image message of a view; a bad one becomes the view's fault.

        Args:
            view: Index of the view.
            message: sensor_msgs/Image or CompressedImage.
            now: Steady time, ns.
            clock: Time on the clock that stamps are compared with, ns; None or 0: not compared.
        """
        with self._condition:
            health, stamp = self.image_health[view], stamp_ns(message)
            try:
                self._check_image(message)
            except ImageError as error:
                health.reject(str(error), now)
                return
            if self._wrong_time(health, stamp, now, clock):
                return
            health.accept(now, self.limits.recovery_sec)
            if self._arm is not None and self._reader is not None:
                picture, taken_at = self._pictures[view], self._positions_at(stamp)
                way = self._reader.kinematics.way
                picture.note(message.data, self._arm.positions, self.moving, taken_at, way)
            if not self._in_order(self._images[view], stamp):
                return
            history = self._images[view]
            if len(history) == IMAGE_HISTORY and history[0].stamp > self._used_stamps[view]:
                self.counts["unsynchronised"] += 1
            history.append(Received(stamp, now, message))
            self._match(now)

    def add_joint_state(self, message: Any, now: int, clock: int | None = None) -> ArmState | None:
        """Adds a joint-state message; a bad one becomes the input's fault.

        Args:
            message: sensor_msgs/JointState.
            now: Steady time, ns.
            clock: As in `add_image`.

        Returns:
            The arm's state, or None where the message gave none.
        """
        with self._condition:
            if self._reader is None:
                return None
            health, reader, stamp = self.joint_health, self._reader, stamp_ns(message)
            try:
                if not reader.concerns_arm(message):
                    self._foreign_joint_state(reader, message, now)
                    return None
                arm = reader.read(message, now)
                if self._wrong_time(health, stamp, now, clock):
                    return None
                arm = self._believable(arm, stamp, now)
            except JointStateError as error:
                health.reject(str(error), now)
                return None
            health.accept(now, self.limits.recovery_sec)
            if not self._in_order(self._joints, stamp):
                return None
            arm = replace(arm, motion=self._measure(arm, stamp / NANOSECONDS))
            self._note_positions(arm)
            self._joints.append(Received(stamp, now, arm))
            self._match(now)
            return arm

    def take(self, timeout_sec: float) -> ObservationSet | None:
        """Waits for a set that was not handed out yet, and returns the newest."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending is not None, timeout_sec)
            taken, self._pending = self._pending, None
            return taken

    def newest(self) -> tuple[Any | None, ArmState | None]:
        """Returns the first view's newest image message and the newest arm state, or None each."""
        with self._condition:
            image = self._images[0][-1].content if self._images[0] else None
            return image, self._joints[-1].content if self._joints else None

    def arm(self, now: int) -> ArmState | None:
        """Returns the arm's state; None if the newest joint states are stale or cannot be used."""
        with self._condition:
            return None if self._joint_problem(now) else self._arm

    def arm_age_sec(self, now: int) -> float:
        """Returns the age of `arm` by its stamp, s; 0 if stamps are not checked."""
        with self._condition:
            age = self.stamps.newest(self.joint_health.name)
            if age is None or self.limits.max_stamp_age_sec == 0.0:
                return 0.0
            return max(age + self.joint_health.age_sec(now), 0.0)

    def begin(self) -> None:
        """Starts over as `discard` does, and also resets the checks for frozen inputs."""
        with self._condition:
            self._clear()
            self._pictures = [FrozenPicture() for _ in self._pictures]
            self._arm, self._repeats, self.moving = None, 0, False

    def forget_repeats(self) -> None:
        """Lets joint states repeat from now on, as those of an arm that stood while it was held."""
        with self._condition:
            self._repeats, self.moving = 0, False

    def discard(self) -> None:
        """Drops all sets and messages, so that the next set is made of new ones only."""
        with self._condition:
            self._clear()

    def problem(self, now: int) -> Hold | None:
        """Returns the hold for the inputs, the most basic fault first; None if there is none."""
        with self._condition:
            for view, health in enumerate(self.image_health):
                hold = self._image_problem(view, health, now)
                if hold:
                    return hold
            return self._joint_problem(now) or self._sync_problem(now)

    def joint_problem(self, now: int) -> Hold | None:
        """Returns the hold for the joint states alone; None if there is none."""
        with self._condition:
            return self._joint_problem(now)

    def _image_problem(self, view: int, health: InputHealth, now: int) -> Hold | None:
        if health.fault:
            return self._faulty(health, HoldReason.BAD_IMAGE, f"view {health.name}: ")
        if health.received is None:
            return Hold(HoldReason.NO_IMAGE, f"view {health.name}: nothing received yet")
        age = health.age_sec(now)
        if age > self.limits.image_timeout_sec:
            limit = self.limits.image_timeout_sec
            return Hold(
                HoldReason.STALE_IMAGE,
                f"view {health.name}: newest is {age:.2f} s old; accepted: up to {limit:g} s",
            )
        frozen = self._pictures[view].fault(self.limits)
        return Hold(HoldReason.FROZEN_IMAGE, f"view {health.name}: {frozen}") if frozen else None

    def _faulty(self, health: InputHealth, reason: HoldReason, where: str = "") -> Hold:
        """The hold for a bad message; several nodes that publish an input are the likely cause."""
        names = self.publishers(health.name)
        told = f"; published by {', '.join(names)}" if len(names) > 1 else ""
        return Hold(health.reason or reason, f"{where}{health.fault}{told}")

    def _joint_problem(self, now: int) -> Hold | None:
        health, limit = self.joint_health, self.limits.joint_state_timeout_sec
        if self._reader is None:
            return Hold(HoldReason.NO_ROBOT_DESCRIPTION, self._robot_fault)
        if health.fault:
            named = f"{health.name}: " if health.reason else ""
            return self._faulty(health, HoldReason.BAD_JOINT_STATES, named)
        if health.received is None:
            return Hold(HoldReason.NO_JOINT_STATES, "nothing received yet")
        age = health.age_sec(now)
        if age > limit:
            return Hold(
                HoldReason.STALE_JOINT_STATES,
                f"newest is {age:.2f} s old; accepted: up to {limit:g} s",
            )
        if 0 < self.limits.frozen_joint_states <= self._repeats:
            return Hold(
                HoldReason.FROZEN_JOINT_STATES,
                f"positions unchanged in {self._repeats} messages while the arm was to move",
            )
        return None

    def _sync_problem(self, now: int) -> Hold | None:
        limit = max(self.limits.image_timeout_sec, self.limits.joint_state_timeout_sec)
        since = self._complete if self._complete is not None else self._first
        if since is None or (now - since) / NANOSECONDS <= limit:
            return None
        stamps = [history[-1].stamp for history in (*self._images, self._joints) if history]
        spread = (max(stamps) - min(stamps)) / NANOSECONDS
        return Hold(
            HoldReason.UNSYNCHRONISED,
            f"no complete set for {(now - since) / NANOSECONDS:.2f} s; newest stamps differ by "
            f"{spread:.3f} s; accepted: up to {self.limits.sync_tolerance_sec:g} s",
        )

    def _clear(self) -> None:
        views = len(self.image_health)
        self._images = [deque[Received](maxlen=IMAGE_HISTORY) for _ in range(views)]
        self._joints = deque[Received](maxlen=JOINT_HISTORY)
        self._used_stamps = [-1] * views
        self._pending = self._complete = self._first = None

    def _in_order(self, history: deque[Received], stamp: int) -> bool:
        """Whether a stamp is new; starts over if the clock was set back.

        A repeated or slightly older stamp is ignored. One far back means that a simulation or bag
        was restarted or a clock was set: earlier messages belong to another time.
        """
        if not history or stamp > history[-1].stamp:
            return True
        if stamp > history[-1].stamp - CLOCK_JUMP:
            self.counts["out_of_order"] += 1
            return False
        self.counts["clock_jumps"] += 1
        self._clear()
        return True

    def _foreign_joint_state(self, reader: JointStateReader, message: Any, now: int) -> None:
        """Handles a message without any joint of the arm: a gripper's, or one with wrong names."""
        reader.read_fingers(message, now)
        health = self.joint_health
        if health.received is None and health.fault is None:  # no word of the arm yet
            expected = list(reader.kinematics.joint_names)
            health.reject(
                f"joint names are {list(message.name)}; accepted: messages that name {expected}"
            )

    def _wrong_time(self, health: InputHealth, stamp: int, now: int, clock: int | None) -> bool:
        """Whether a message is rejected because its stamp is too far from the clock."""
        limit = self.limits.max_stamp_age_sec
        if not clock:
            return False
        self.stamps.note(health.name, stamp, clock)
        fault = self.stamps.complaint(health.name, limit) if limit > 0.0 else None
        if fault is not None:
            health.reject(fault, now, HoldReason.BAD_STAMPS)
        return fault is not None

    def _believable(self, arm: ArmState, stamp: int, now: int) -> ArmState:
        """Returns the arm's state without implausible velocities.

        Raises:
            JointStateError: Its positions are implausible.
        """
        plausible = self._plausible
        assert plausible is not None, "it comes with the reader"
        margin = self.limits.joint_margin_rad
        plausible.check(arm.positions, margin, stamp / NANOSECONDS, now / NANOSECONDS)
        return arm if plausible.usable(arm.velocities) else replace(arm, velocities=None)

    def _note_positions(self, arm: ArmState) -> None:
        """Counts joint states that repeat the previous one while the arm is commanded to move."""
        if self._arm is None or not np.array_equal(arm.positions, self._arm.positions):
            self._repeats = 0
        elif self.moving:
            self._repeats += 1
        self._arm = arm

    def _positions_at(self, stamp: int) -> np.ndarray | None:
        """The joints' positions within the tolerance of a stamp; None if none are kept."""
        if not self._joints:
            return None
        arm = _nearest(self._joints, stamp)
        within = abs(arm.stamp - stamp) <= self.limits.sync_tolerance_sec * NANOSECONDS
        return arm.content.positions if within else None

    def _match(self, now: int) -> None:
        """Forms a set around the newest unused image of the first view that has partners."""
        if not self._images or not all((*self._images, self._joints)):
            return
        if self._first is None:
            self._first = now
        tolerance = self.limits.sync_tolerance_sec * NANOSECONDS
        for anchor in reversed(self._images[0]):
            if anchor.stamp <= self._used_stamps[0]:
                return
            others = (_nearest(history, anchor.stamp) for history in self._images[1:])
            images = [anchor, *others]
            arm = _nearest(self._joints, anchor.stamp)
            stamps = [arm.stamp, *(image.stamp for image in images)]
            spread = max(stamps) - min(stamps)
            if spread <= tolerance:
                self._offer(ObservationSet(tuple(images), arm, now, spread))
                return

    def _offer(self, observation: ObservationSet) -> None:
        self.counts["complete"] += 1
        if self._pending is not None:
            self.counts["superseded"] += 1
        for view, image in enumerate(observation.images):
            self._used_stamps[view] = image.stamp
        self._pending, self._complete = observation, observation.complete
        self._condition.notify_all()


def _nearest(history: deque[Received], stamp: int) -> Received:
    return min(history, key=lambda item: abs(item.stamp - stamp))
