"""Computes the action of a recorded step from the messages after it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.data.read_report import SECOND
from heisd_ros.data.recorded_actions import displacement, gripper_action, motion_action
from heisd_ros.data.recording_layout import ActionRule, RecordingLayout
from heisd_ros.data.tracks import Tracks
from heisd_ros.kinematics.pose import Pose


@dataclass
class StepActions:
    """Computes actions by the layout's rule.

    Attributes:
        layout: Topics, times and rules.
        tracks: What was recorded.
        period: A control step, ns.
    """

    layout: RecordingLayout
    tracks: Tracks
    period: int

    def at(self, stamp: int) -> NDArray[np.float64] | str:
        """Returns the action at a time, (7,) in the model's units, or why there is none."""
        rule = self.layout.action
        made = self._rules()[rule.kind](stamp)
        if isinstance(made, str) or rule.kind == "action":
            return made
        opening = self._opening(stamp)
        if isinstance(opening, str):
            return opening
        return np.append(motion_action(made, rule), gripper_action(opening, rule))

    def _rules(self) -> dict[str, Callable[[int], NDArray[np.float64] | str]]:
        return {
            "action": self._published,
            "measured": self._measured,
            "pose": self._posed,
            "twist": self._twisted,
        }

    def _following(self, stamp: int, topic: str) -> list[int]:
        """Returns the messages of the control step that begins at a time."""
        stamps = self.tracks.track(topic).stamps
        begin, end = bisect_left(stamps, stamp), bisect_left(stamps, stamp + self.period)
        return list(range(begin, end))

    def _published(self, stamp: int) -> NDArray[np.float64] | str:
        topic = self.layout.action.topic
        found = self._following(stamp, topic)
        if not found:
            return f"no action on {topic} within a control step"
        action: NDArray[np.float64] = self.tracks.track(topic).values[found[0]]
        if action.shape != (7,) or not np.isfinite(action).all():
            return f"action on {topic} is not 7 finite numbers"
        return action

    def _twisted(self, stamp: int) -> NDArray[np.float64] | str:
        topic, rule = self.layout.action.topic, self.layout.action
        found = [self.tracks.track(topic).values[i] for i in self._following(stamp, topic)]
        if not found:
            return f"no twist on {topic} within a control step"
        frames = {frame for _, frame in found}
        if len(frames) > 1:
            return f"twists on {topic} in two frames"
        twist = np.mean([values for values, _ in found], axis=0)
        if frames != {rule.frame}:
            turn = self._tip(stamp).rotation
            turn = turn.T if self._in_tip(rule) else turn
            twist = np.concatenate([turn @ twist[:3], turn @ twist[3:]])
        return twist * (self.period / SECOND)

    def _measured(self, stamp: int) -> NDArray[np.float64] | str:
        joints = self.tracks.track(self.layout.joint_states)
        return self._moved(stamp, self.layout.joint_states, lambda i: joints.values[i].tip())

    def _posed(self, stamp: int) -> NDArray[np.float64] | str:
        topic = self.layout.action.topic
        return self._moved(stamp, topic, self.tracks.track(topic).values.__getitem__)

    def _moved(
        self, stamp: int, topic: str, pose: Callable[[int], Pose]
    ) -> NDArray[np.float64] | str:
        """Returns the motion of a pose in a control step, from the messages nearest to its ends."""
        track, tolerance = self.tracks.track(topic), round(self.layout.tolerance_sec * SECOND)
        begin = track.within(stamp, tolerance)
        end = track.within(stamp + self.period, tolerance)
        if begin is None or end is None or begin == end:
            return f"no two messages of {topic} a control step apart"
        share = self.period / (track.stamps[end] - track.stamps[begin])
        return share * displacement(pose(begin), pose(end), self._in_tip(self.layout.action))

    def _in_tip(self, rule: ActionRule) -> bool:
        return rule.frame == self.layout.tip_frame

    def _tip(self, stamp: int) -> Pose:
        joints = self.tracks.track(self.layout.joint_states)
        nearest = joints.nearest(stamp)
        assert nearest is not None, "a step has a joint state"
        pose: Pose = joints.values[nearest].tip()
        return pose

    def _opening(self, stamp: int) -> float | str:
        """Returns the gripper's command at the end of the step, or else its measured opening."""
        end, topic = stamp + self.period, self.layout.action.gripper_topic
        if topic:
            told = self.tracks.track(topic).last(end)
            return "no gripper command yet" if told is None else float(told)
        joints = self.tracks.track(self.layout.joint_states)
        nearest = joints.nearest(end)
        opening = None if nearest is None else joints.values[nearest].gripper_opening
        return 0.0 if opening is None else float(opening)
