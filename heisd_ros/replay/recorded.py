"""What was commanded when the recording was made, and how far a replay is from it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.replay.mode_replay import ReplayedStep
from heisd_ros.replay.topics import DELTA, TELEMETRY

AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")


class RecordedActions:
    """Commands of a recording, found again by the step that they belong to.

    A `StepTelemetry` names the observation it answers by its stamp. Other commands are stamped with
    the time they were sent, so the first within a control period of the step is taken.

    Args:
        kind: Message type.
        rate_hz: Control steps a second.
        start: Time on the bag's clock at which the replay began, ns.
    """

    def __init__(self, kind: str, rate_hz: float, start: int) -> None:
        self._kind, self._start = kind, start
        self._period = round(NANOSECONDS / rate_hz)
        self._keys: list[int] = []
        self._values: list[NDArray[np.float64]] = []

    @property
    def is_twist(self) -> bool:
        """Whether a step's twist is held against them, not its action."""
        return self._kind not in (TELEMETRY, DELTA)

    def __len__(self) -> int:
        """How many commands there were."""
        return len(self._keys)

    def add(self, message: Any, now: int) -> None:
        """Takes a message; a hold or stop commands no action.

        Args:
            message: Of the type given.
            now: Its time on the bag's clock, ns.
        """
        if self._kind == TELEMETRY:
            if not message.hold:
                self._append(stamp_ns(message), message.action)
        elif self._kind == DELTA:
            if not message.stop:
                self._append(now - self._start, message.action)
        else:
            linear, angular = message.twist.linear, message.twist.angular
            numbers = [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]
            self._append(now - self._start, numbers)

    def _append(self, key: int, numbers: Sequence[float]) -> None:
        # Telemetry of a clock that was set back would break the order that is searched.
        if not self._keys or key >= self._keys[-1]:
            self._keys.append(key)
            self._values.append(np.asarray(numbers, np.float64))

    def of(self, step: ReplayedStep) -> NDArray[np.float64] | None:
        """What was commanded at a step: (7,) action, or (6,) twist; None where nothing was."""
        exact = self._kind == TELEMETRY
        wanted = step.stamp if exact else step.at
        place = bisect_left(self._keys, wanted)
        if place == len(self._keys):
            return None
        late = self._keys[place] - wanted
        return self._values[place] if late <= (0 if exact else self._period) else None


def deviation(
    ours: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]], unit: str
) -> dict[str, Any] | None:
    """How far numbers are apart, axis by axis.

    Args:
        ours: One array a step, as long as `theirs`.
        theirs: What they are held against.
        unit: Of the numbers, in words.

    Returns:
        The unit, the steps, and mean, p95 and max of the distance on each axis; None without steps.
    """
    if not ours:
        return None
    apart = np.abs(np.stack(ours) - np.stack(theirs))
    axes = {
        name: {
            "mean": round(float(column.mean()), 6),
            "p95": round(float(np.percentile(column, 95)), 6),
            "max": round(float(column.max()), 6),
        }
        for name, column in zip(AXES, apart.T, strict=False)
    }
    return {"unit": unit, "steps": len(ours), "axes": axes}
