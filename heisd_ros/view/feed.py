"""Shows messages of ROS on a screen, live and from a recording alike, by their fields alone."""

from __future__ import annotations

from typing import Any

from heisd_ros.data.images import compressed_to_rgb, raw_to_rgb
from heisd_ros.errors import ImageError
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.view.arm import DrawnArm
from heisd_ros.view.moment import of_telemetry
from heisd_ros.view.screen import MOST_WIDE, Screen

PICTURE_HZ = 10.0
"""Pictures of a camera that are shown in a second."""
ARM_HZ = 20.0
"""Joint states that are shown in a second."""
HOLD_HZ = 5.0
"""Ticks of a hold that are shown in a second."""
SECOND = 1_000_000_000


class Pace:
    """Lets so many events of a kind pass in a second."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def due(self, kind: str, now: int, rate_hz: float) -> bool:
        """Whether an event at a time (ns) passes; after a clock was set back the next one does."""
        last = self._last.get(kind)
        if last is not None and 0 <= now - last < SECOND / rate_hz:
            return False
        self._last[kind] = now
        return True


class Feed:
    """Decodes messages and shows them; what cannot be shown is noted once."""

    def __init__(self, screen: Screen, parameters: VlaNodeParameters) -> None:
        self._screen, self._pace = screen, Pace()
        self.arm = DrawnArm(parameters)
        self._noted: set[str] = set()
        if parameters.workspace.bounded:
            screen.workspace(*parameters.workspace.corners)

    def wants_picture(self, now: int, camera: str) -> bool:
        """Whether a picture of a camera at a time (ns) is to be shown; the others are skipped."""
        return self._pace.due(camera, now, PICTURE_HZ)

    def picture(self, now: int, camera: str, message: Any) -> None:
        """Shows a sensor_msgs/Image or CompressedImage."""
        try:
            if hasattr(message, "encoding"):
                pixels = raw_to_rgb(message)
            else:
                pixels = compressed_to_rgb(message, least_side=MOST_WIDE)
        except ImageError as error:
            self.note_once(now, camera, f"{camera} is not shown: {error}")
            return
        self._screen.picture(now, camera, pixels)

    def joints(self, now: int, message: Any) -> None:
        """Shows a sensor_msgs/JointState."""
        points = self.arm.points(message) if self._pace.due("arm", now, ARM_HZ) else None
        if points is not None:
            self._screen.arm(now, points)
        elif self.arm.problem:
            self.note_once(now, "arm", f"the arm is not drawn: {self.arm.problem}; see --params")

    def describe(self, now: int, urdf: str) -> None:
        """Takes a robot description."""
        self.arm.describe(urdf)
        if self.arm.problem:
            self.note_once(now, "description", f"the arm is not drawn: {self.arm.problem}")

    def telemetry(self, now: int, message: Any) -> None:
        """Shows a StepTelemetry."""
        moment = of_telemetry(message)
        if not moment.held or self._pace.due(f"hold {moment.reason[:40]}", now, HOLD_HZ):
            self._screen.moment(now, moment)

    def note_once(self, now: int, kind: str, text: str) -> None:
        """Notes a problem; of one kind the first alone."""
        if kind not in self._noted:
            self._noted.add(kind)
            self._screen.note(now, text)
