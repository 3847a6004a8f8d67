"""The commands of a recording, and the deviation of a replay from them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.data.marks import is_persons
from heisd_ros.replay.mode_replay import ReplayedStep
from heisd_ros.replay.topics import DELTA, TELEMETRY

AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")


class RecordedActions:
    """Commands of a recording, looked up by step.

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
        """Whether they are twists, to be compared with a step's twist instead of its action."""
        return self._kind not in (TELEMETRY, DELTA)

    def __len__(self) -> int:
        """Number of commands."""
        return len(self._keys)

    def add(self, message: Any, now: int) -> None:
        """Adds a message; a hold, a stop or a person's step is no action of the policy's.

        Args:
            message: Message of the given type.
            now: Its time on the bag's clock, ns.
        """
        if self._kind == TELEMETRY:
            if not message.hold and not is_persons(message):
                self._append(stamp_ns(message), message.action)
        elif self._kind == DELTA:
            if not message.stop:
                self._append(now - self._start, message.action)
        else:
            linear, angular = message.twist.linear, message.twist.angular
            numbers = [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]
            self._append(now - self._start, numbers)

    def _append(self, key: int, numbers: Sequence[float]) -> None:
        # After a clock was set back, telemetry would break the order that the search needs.
        if not self._keys or key >= self._keys[-1]:
            self._keys.append(key)
            self._values.append(np.asarray(numbers, np.float64))

    def of(self, step: ReplayedStep) -> NDArray[np.float64] | None:
        """Returns the command at a step: (7,) action or (6,) twist; None if there was none."""
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
    """Computes the deviation of numbers, axis by axis.

    Args:
        ours: One array per step, as long as `theirs`.
        theirs: The numbers they are compared with.
        unit: Unit of the numbers.

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
