"""Draws pictures, motion and steps into a recording of Rerun."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.decoding.types import Source
from heisd_ros.errors import ViewError
from heisd_ros.view import layout, sdk
from heisd_ros.view.moment import LONGEST, PARTS, Moment, colour_of

MOST_WIDE = 640
"""Wider pictures are scaled down, pixels."""
QUALITY = 80
"""Of the JPEGs that a browser gets."""
JUMP_M = 0.1
"""Points further apart are not joined: the arm was reset, or messages are missing."""
FLUSH_SEC = 60.0
"""How long a viewer or a disk may take for what is in memory, s."""
QUIET_NS = 500_000_000
"""The node says nothing for this long: the arm is moved by somebody else, ns."""
PUSH_SEC = 0.2
"""Length of the arrow of the command: how far it leads in this time."""
_GREY, _RED, _BLUE = (160, 160, 160), (213, 94, 0), (0, 114, 178)
_PART_COLOURS = {
    part: tuple(int(channel) for channel in colour)
    for part, colour in zip(
        PARTS,
        np.array([[136, 204, 238], [68, 170, 153], [17, 119, 51], [51, 34, 136], [221, 204, 119],
                  [204, 102, 119], [136, 34, 85], [170, 68, 153], [100, 100, 220], [153, 153, 51],
                  [150, 150, 150], [0, 114, 178]]),
        strict=True,
    )
}  # fmt: skip
"""Paul Tol's muted palette, which can be told apart with any colour vision."""


class Screen:
    """One recording: what it shows is logged with the time at which it was true.

    Args:
        recording: Rerun's recording stream, connected.
        live: Whether it shows the last minute instead of everything.
        since_start: Whether times count from 0 instead of from the epoch.
        base_frame: Frame of the path; commands in others are not drawn.
        listed: Whether it is one of several, which the window lists.
    """

    def __init__(
        self,
        recording: Any,
        live: bool,
        since_start: bool = False,
        base_frame: str = "",
        listed: bool = False,
    ) -> None:
        self._rerun, self._recording = sdk.load(), recording
        self._live, self._listed = live, listed
        self._kind = "timedelta64" if since_start else "datetime64"
        self._base_frame = base_frame
        self._sizes: dict[str, tuple[int, int]] = {}  # width and height by camera
        self._parts: set[str] = set()
        self._said: dict[str, str] = {}
        self._tip: np.ndarray | None = None
        self._drawn: np.ndarray | None = None
        self._newest: Moment | None = None
        self._stepped = -QUIET_NS  # when the newest was
        self._style()
        self.arrange(())

    def arrange(self, cameras: tuple[str, ...]) -> None:
        """Arranges the window for these cameras."""
        self._recording.send_blueprint(layout.layout(cameras, self._live, self._listed))

    def workspace(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Draws the box that the tip stays in, from its lower to its upper corner, m."""
        box = self._rerun.Boxes3D(
            mins=[low], sizes=[np.subtract(high, low)], colors=[_GREY], fill_mode="majorwireframe"
        )
        self._recording.log(f"{layout.ROBOT}/workspace", box, static=True)

    def picture(self, now: int, camera: str, pixels: np.ndarray) -> None:
        """Shows a camera's picture.

        Args:
            now: Time, ns.
            camera: Name of the camera.
            pixels: (height, width, 3) uint8 RGB.
        """
        every = max(1, math.ceil(pixels.shape[1] / MOST_WIDE))
        small = Image.fromarray(np.ascontiguousarray(pixels[::every, ::every]))
        data = io.BytesIO()
        small.save(data, "JPEG", quality=QUALITY)
        image = self._rerun.EncodedImage(contents=data.getvalue(), media_type="image/jpeg")
        self._log(now, layout.camera_path(camera), image)
        if self._sizes.get(camera) != small.size:
            self._sizes[camera] = small.size
            if self._newest is not None:
                self._overlay(camera, self._newest)

    def arm(self, now: int, points: np.ndarray) -> None:
        """Shows where the arm is; while no step comes, its path is grey.

        Args:
            now: Time, ns.
            points: (m, 3) line from the base to the tip, m, base frame.
        """
        line = self._rerun.LineStrips3D([points], radii=0.008, colors=[_GREY])
        self._log(now, f"{layout.ROBOT}/arm", line)
        self.tip(points[-1])
        if not 0 <= now - self._stepped < QUIET_NS:
            self._path(now, _GREY)

    def tip(self, position: np.ndarray) -> None:
        """Takes the position of the tip, (3,) m, base frame, at which the next step is drawn."""
        self._tip = position

    def moment(self, now: int, moment: Moment) -> None:
        """Shows a control step at the place where the tip is.

        Args:
            now: Time, ns.
            moment: The step.
        """
        self._newest, self._stepped = moment, now
        rr = self._rerun
        self._log(now, layout.STATE, rr.TextDocument("\n".join(moment.lines())))
        if math.isfinite(moment.metric):
            self._log(now, f"{layout.METRIC}/F", rr.Scalars(moment.metric))
        if math.isfinite(moment.boundary):
            self._log(now, f"{layout.METRIC}/boundary", rr.Scalars(moment.boundary))
        # A part that never takes time is left out; one that did once falls back to 0.
        self._parts |= {part for part, ms in moment.latency_ms.items() if ms > 0.0}
        for part in self._parts & moment.latency_ms.keys():
            self._log(now, f"{layout.LATENCY}/{part}", rr.Scalars(moment.latency_ms[part]))
        for camera in self._sizes:
            self._overlay(camera, moment)
        self._path(now, moment.colour)
        self._push(now, moment)
        self._changes(now, moment)

    def note(self, now: int, text: str, level: str = "WARN") -> None:
        """Writes a line of the log; levels are those of Rerun: INFO, WARN, ERROR."""
        self._log(now, layout.LOG, self._rerun.TextLog(text[:LONGEST], level=level))

    def flush(self, timeout_sec: float = FLUSH_SEC) -> None:
        """Waits until the viewer has what was logged, so that no more than that is in memory.

        Raises:
            ViewError: It is not taken in time.
        """
        try:
            self._recording.flush(timeout_sec=timeout_sec)
        except Exception as error:  # Rerun has no class of its own for it
            raise ViewError(f"the viewer does not take what is shown: {error}") from error

    def close(self, timeout_sec: float = FLUSH_SEC) -> None:
        """Ends the recording, once the viewer or the file has all of it.

        Raises:
            ViewError: It is not taken in time.
        """
        self.flush(timeout_sec)
        self._recording.disconnect()

    def _at(self, now: int) -> None:
        name = "duration" if self._kind == "timedelta64" else "timestamp"
        moment = getattr(np, self._kind)(now, "ns")
        self._recording.set_time(layout.TIME, **{name: moment})

    def _log(self, now: int, path: str, entity: Any) -> None:
        self._at(now)
        self._recording.log(path, entity)

    def _style(self) -> None:
        rr = self._rerun

        def fix(path: str, entity: Any) -> None:
            self._recording.log(path, entity, static=True)

        fix(layout.ROBOT, rr.ViewCoordinates.RIGHT_HAND_Z_UP)
        fix(f"{layout.METRIC}/F", rr.SeriesLines(names="F", colors=[_BLUE], widths=2))
        line = rr.SeriesLines(names="boundary", colors=[_RED], widths=1)
        fix(f"{layout.METRIC}/boundary", line)
        for part, colour in _PART_COLOURS.items():
            style = rr.SeriesLines(names=part, colors=[colour], widths=2 if part == "total" else 1)
            fix(f"{layout.LATENCY}/{part}", style)
        lane = rr.StateConfiguration(
            values=[str(source) for source in Source],
            labels=[source.label for source in Source],
            colors=[colour_of(source) for source in Source],
        )
        fix(f"{layout.LANES}/decided_by", lane)

    def _overlay(self, camera: str, moment: Moment) -> None:
        """Frames a picture in the colour of what decided, with a line of text at its foot."""
        width, height = self._sizes[camera]
        # A label stands below its box, here a line: inside of the picture.
        boxes = self._rerun.Boxes2D(
            mins=[(0, 0), (0, 0.88 * height)],
            sizes=[(width, height), (width, 0)],
            colors=[moment.colour] * 2,
            labels=["", moment.headline()],
            show_labels=True,
        )
        self._recording.log(f"{layout.camera_path(camera)}/step", boxes)

    def _path(self, now: int, colour: tuple[int, int, int]) -> None:
        """Draws the tip, and the line from where it was."""
        tip, before, self._drawn = self._tip, self._drawn, self._tip
        if tip is None:
            return
        ball = self._rerun.Points3D([tip], radii=0.012, colors=[colour])
        self._log(now, f"{layout.ROBOT}/tip", ball)
        if before is not None and np.linalg.norm(tip - before) < JUMP_M:
            line = self._rerun.LineStrips3D([[before, tip]], radii=0.004, colors=[colour])
            self._log(now, layout.PATH, line)

    def _push(self, now: int, moment: Moment) -> None:
        """Draws where the command leads."""
        if self._tip is None or moment.twist is None or moment.frame != self._base_frame:
            return
        arrow = self._rerun.Arrows3D(
            origins=[self._tip], vectors=[PUSH_SEC * moment.twist[:3]], colors=[moment.colour]
        )
        self._log(now, f"{layout.ROBOT}/command", arrow)

    def _changes(self, now: int, moment: Moment) -> None:
        """Logs what has changed since the step before."""
        for lane, state in (("decided_by", moment.source), ("commanded_by", moment.commander)):
            if self._news(lane, state):
                path = f"{layout.LANES}/{lane}"
                self._log(now, path, self._rerun.StateChange(state=str(state)))
        held = moment.reason if moment.held else ""
        # The numbers in a reason change all the time.
        if self._news("hold", held.partition(":")[0]):
            self.note(now, f"hold: {held}" if held else "the arm acts", "WARN" if held else "INFO")
        if self._news("instruction", moment.instruction):
            self.note(now, f"instruction: {moment.instruction or 'none'}", "INFO")
        if moment.corrected:
            self.note(now, f"step {moment.step}: the model disagreed with the step before", "INFO")

    def _news(self, name: str, text: str) -> bool:
        changed = self._said.get(name) != text
        self._said[name] = text
        return changed
