"""Groups messages into steps, and steps into episodes.

Steps are on a grid of the control period, or of a multiple of it if the first camera is slower. A
step consists of the first camera's image nearest to a grid point, and of the message of every other
topic nearest to that image. Where a step cannot be made the episode ends: all of its steps are
evenly spaced.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heisd_ros.data.marks import Outcome, outcomes, reported_of
from heisd_ros.data.read_report import SECOND
from heisd_ros.data.recording_layout import RecordingLayout
from heisd_ros.data.step_actions import StepActions
from heisd_ros.data.tracks import Track, Tracks
from heisd_ros.kinematics.joint_states import ArmState

STILL_OPENING = 5e-4
"""The fingers stand still if they move less than this per step, m."""
DISCARDED = "step of an episode that was reported as to be discarded"
"""Reason for which steps are left out."""
SHORTEST = 2
"""Least number of steps in an episode: a single step has no motion."""


@dataclass
class Step:
    """One step and the messages that it consists of.

    Attributes:
        grid: Index on the grid.
        stamp: Stamp of the first view's picture, ns.
        received: When each view's picture was received, ns.
        stamps: Stamp of each view's picture, ns.
        arm: The robot.
        opening: Between the fingers, m.
        action: (7,) in the model's units.
        instruction: The task in words.
        part: What else separates episodes: the marker's count, the goal's id, the outcomes so far.
        person: Whether a person had the arm; None: nothing recorded says it.
    """

    grid: int
    stamp: int
    received: tuple[int, ...]
    stamps: tuple[int, ...]
    arm: ArmState
    opening: float
    action: NDArray[np.float64]
    instruction: str
    part: tuple[object, ...]
    person: bool | None

    @property
    def attempt(self) -> tuple[object, ...]:
        """What steps share that one report of an outcome is about."""
        return (self.instruction, *self.part)


@dataclass(frozen=True)
class Plan:
    """An episode of T steps, without its pictures.

    Attributes:
        instruction: The task in words.
        begin: Stamp of the first step, ns.
        received: (T, V) when each view's picture was received, ns.
        stamps: (T, V) stamps of these pictures, ns.
        actions: (T, 7) in the model's units.
        positions: (T, n) of the joints, rad.
        velocities: (T, n) rad/s, or None where one is missing.
        openings: (T,) between the fingers, m.
        stride: Control steps from one to the next.
        ended_by: Why it ends.
        person: (T,) bool, the steps in which a person had the arm; None: nothing recorded says it.
        outcome: How it ended, as reported; empty where it was not.
    """

    instruction: str
    begin: int
    received: NDArray[np.int64]
    stamps: NDArray[np.int64]
    actions: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64] | None
    openings: NDArray[np.float64]
    stride: int
    ended_by: str
    person: NDArray[np.bool_] | None
    outcome: str

    @classmethod
    def of(cls, steps: list[Step], stride: int, ended_by: str, outcome: str = "") -> Plan:
        """Makes the plan of the given steps."""
        velocities = [s.arm.velocities for s in steps if s.arm.velocities is not None]
        persons = [step.person for step in steps]
        any_known = any(person is not None for person in persons)
        return cls(
            instruction=steps[0].instruction,
            begin=steps[0].stamp,
            received=np.array([step.received for step in steps], np.int64),
            stamps=np.array([step.stamps for step in steps], np.int64),
            actions=np.stack([step.action for step in steps]),
            positions=np.stack([step.arm.positions for step in steps]),
            velocities=np.stack(velocities) if len(velocities) == len(steps) else None,
            openings=np.array([step.opening for step in steps]),
            stride=stride,
            ended_by=ended_by,
            person=np.array([bool(person) for person in persons]) if any_known else None,
            outcome=outcome,
        )

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.actions)


@dataclass
class Aligner:
    """Makes episodes from tracks.

    Attributes:
        layout: Topics, times and rules.
        rate_hz: Control steps a second.
        dropped: Counts steps that were left out, by reason.
        cuts: Counts ends of episodes, by reason.
    """

    layout: RecordingLayout
    rate_hz: float
    dropped: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)

    def plans(self, tracks: Tracks, instruction: str) -> list[Plan]:
        """Returns the episodes in a stretch of time without a clock jump.

        Args:
            tracks: What was recorded.
            instruction: The task in words, used if no topic holds it.
        """
        stride = self._stride(tracks)
        steps, reasons = self._steps(tracks, stride, instruction)
        self._drop_pauses(steps, reasons, stride)
        plans = []
        ends = outcomes(tracks.outcomes.values)
        reported = reported_of([step.attempt for step in steps], ends)
        for run, ended_by in self._runs(steps, reasons, stride):
            outcome = reported.get(run[0].attempt, "")
            if outcome == Outcome.DISCARD:
                self.dropped[DISCARDED] += len(run)
                continue
            if len(run) < SHORTEST:
                self.dropped[f"episode of fewer than {SHORTEST} steps"] += len(run)
                continue
            self.cuts[ended_by] += 1
            plans.append(Plan.of(run, stride, ended_by, outcome))
        return plans

    @property
    def _period(self) -> int:
        return round(SECOND / self.rate_hz)

    def _stride(self, tracks: Tracks) -> int:
        stamps = tracks.track(self.layout.images[0]).stamps
        if len(stamps) < 2:
            return 1
        # A camera that is up to a tenth slower than nominal still counts as being on time.
        return max(1, math.ceil(float(np.median(np.diff(stamps))) / self._period - 0.1))

    def _steps(
        self, tracks: Tracks, stride: int, instruction: str
    ) -> tuple[list[Step], dict[int, str]]:
        """Returns the steps on the grid, and why others are missing, by grid index."""
        steps, reasons = [], {}
        begun = begun_by(tracks.get(self.layout.marker_topic, Track()).values)
        for grid, anchor in self._anchors(tracks, stride * self._period):
            made = self._step(tracks, grid, anchor, instruction, begun)
            if isinstance(made, str):
                self.dropped[made] += 1
                reasons[grid] = made
            else:
                steps.append(made)
        return steps, reasons

    def _anchors(self, tracks: Tracks, spacing: int) -> Iterator[tuple[int, int]]:
        """Yields a grid index and the index of the first view's picture nearest to it.

        After a gap the grid starts again, some indices further on.
        """
        stamps = tracks.track(self.layout.images[0]).stamps
        ends = [i for i in range(1, len(stamps)) if stamps[i] - stamps[i - 1] > 1.5 * spacing]
        grid, begin = 0, 0
        for end in (*ends, len(stamps)):
            run, used = stamps[begin:end], -1
            for count in range(round((run[-1] - run[0]) / spacing) + 1 if run else 0):
                wanted = run[0] + count * spacing
                after = bisect_left(run, wanted)
                near = [i for i in (after - 1, after) if used < i < len(run)]
                if near:
                    used = min(near, key=lambda i: abs(run[i] - wanted))
                    yield grid, begin + used
                grid += 1
            grid += 1
            begin = end

    def _step(
        self,
        tracks: Tracks,
        grid: int,
        anchor: int,
        instruction: str,
        begun: Sequence[int | None],
    ) -> Step | str:
        """Returns a step, or why there is none."""
        layout, tolerance = self.layout, round(self.layout.tolerance_sec * SECOND)
        first = tracks.track(layout.images[0])
        stamp = first.stamps[anchor]
        received, stamps = [first.received[anchor]], [stamp]
        for topic in layout.images[1:]:
            track = tracks.track(topic)
            found = track.within(stamp, tolerance)
            if found is None:
                return f"no picture of {topic} within {layout.tolerance_sec:g} s"
            received.append(track.received[found])
            stamps.append(track.stamps[found])
        joints = tracks.track(layout.joint_states)
        nearest = joints.within(stamp, tolerance)
        if nearest is None:
            return f"no joint state within {layout.tolerance_sec:g} s"
        arm: ArmState = joints.values[nearest]
        if layout.gripper_joints and arm.gripper_opening is None:
            return "no finger joint seen yet"
        said, goal = tracks.said.last(stamp) or ("", "")
        if not (said or instruction):
            return "no instruction"
        marker = self._marker(tracks, stamp, begun)
        if marker is None:
            return f"outside of what {layout.marker_topic} marks"
        action = StepActions(layout, tracks, self._period).at(stamp)
        if isinstance(action, str):
            return action
        ended = len(outcomes(tracks.outcomes.values[: bisect_left(tracks.outcomes.stamps, stamp)]))
        return Step(
            grid, stamp, tuple(received), tuple(stamps), arm, arm.gripper_opening or 0.0, action,
            said or instruction, (marker, goal, ended), tracks.persons.last(stamp),
        )  # fmt: skip

    def _marker(self, tracks: Tracks, stamp: int, begun: Sequence[int | None]) -> int | None:
        """Returns how many markers have begun; None if none is active."""
        if not self.layout.marker_topic:
            return 0
        passed = bisect_right(tracks.track(self.layout.marker_topic).stamps, stamp)
        return begun[passed - 1] if passed else None

    def _drop_pauses(self, steps: list[Step], reasons: dict[int, str], stride: int) -> None:
        """Removes steps in which the arm stands still for long."""
        if self.layout.pause_sec <= 0.0 or len(steps) < 2:
            return
        spacing = stride / self.rate_hz
        still = [self._still(a, b) for a, b in pairwise(steps)]
        paused: set[int] = set()
        begin: int | None = None
        for index, stands in enumerate([*still, False]):
            if stands and begin is None:
                begin = index
            if not stands and begin is not None:
                if (index - begin) * spacing >= self.layout.pause_sec:
                    # The steps into and out of the standstill belong to the motion.
                    paused |= set(range(begin + 1, index))
                begin = None
        for index in sorted(paused):
            reasons[steps[index].grid] = "pause"
            self.dropped["pause"] += 1
        steps[:] = [step for index, step in enumerate(steps) if index not in paused]

    def _still(self, one: Step, other: Step) -> bool:
        seconds = (other.stamp - one.stamp) / SECOND
        turned = np.abs(other.arm.positions - one.arm.positions).max()
        moved = abs(other.opening - one.opening)
        return bool(turned <= self.layout.pause_speed * seconds and moved < STILL_OPENING)

    def _runs(
        self, steps: list[Step], reasons: dict[int, str], stride: int
    ) -> Iterator[tuple[list[Step], str]]:
        """Yields runs of evenly spaced steps of one instruction, and why each run ends."""
        longest = max(SHORTEST, int(self.layout.longest_sec * self.rate_hz / stride))
        run: list[Step] = []
        for step in steps:
            why = _cut(run, step, reasons, longest) if run else ""
            if why:
                yield run, why
                run = []
            run.append(step)
        if run:
            yield run, "end of the recording"


def begun_by(markers: Sequence[object]) -> list[int | None]:
    """Returns how many markers have begun at each message of their topic; None: none is active."""
    found: list[int | None] = []
    before: object = False
    begun = 0
    for value in markers:
        begun += value == "begin" or (value is True and before is False)
        found.append(None if value is False else begun)
        before = value
    return found


def _cut(run: list[Step], step: Step, reasons: dict[int, str], longest: int) -> str:
    """Returns why a step does not continue a run; empty if it does."""
    last = run[-1]
    if step.grid != last.grid + 1:
        return reasons.get(last.grid + 1, "gap in the first camera's pictures")
    if step.instruction != last.instruction:
        return "another instruction"
    for part, why in enumerate(("marker", "another goal", "outcome reported")):
        if step.part[part] != last.part[part]:
            return why
    return "longest episode" if len(run) >= longest else ""
