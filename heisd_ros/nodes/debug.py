"""Debug topics of the node, drawn only while they have subscribers: path and camera.

`~/debug/markers` shows the path of the end effector, coloured by the source of each step, and the
workspace box. `~/debug/overlay` is the newest picture of the first camera with what
the node does written on it. A timer of the executor checks for subscribers a few times a second;
decoding, drawing and publishing run in a separate thread, since the executor has to stop the arm.
Without subscribers a step only stores the position of the tip, and nothing is drawn.
"""

from __future__ import annotations

import contextlib
import math
import queue
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from PIL import Image as Picture
from PIL import ImageDraw
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from heisd_ros.control.session import Session
from heisd_ros.data import images
from heisd_ros.decoding.types import Source
from heisd_ros.errors import ImageError
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import qos
from heisd_ros.nodes.clock import steady_timer
from heisd_ros.nodes.image_message import image_message
from heisd_ros.robot.limit_parameters import Corner, WorkspaceParameters

RATE_HZ = 5.0
CLOSE_SEC = 2.0
"""How long to wait for the picture that is being drawn, s."""
PATH_POINTS = 600
"""Number of points of the path that are kept: half a minute at 20 Hz."""
CHARACTER_WIDTH, REASONING_LINES = 6, 4
"""Pixels of a character of the built-in font, and lines of a reasoning that are shown."""
OVERLAY_WIDTH = 640
"""Wider pictures are scaled down to this before drawing, pixels."""
PATH_WIDTH, TIP_SIZE = 0.004, 0.02
"""Width of the path and diameter of the ball at its end, m."""

Box = tuple[Corner, Corner]
"""Least and largest corner of the workspace, m, base frame."""


def colour(source: str) -> ColorRGBA:
    """Returns the colour of a source; white for an unknown one."""
    known = Source.named(source)
    red, green, blue = (1.0, 1.0, 1.0) if known is None else known.rgb
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def path_markers(path: Iterable[tuple[np.ndarray, str]], header: Header) -> list[Marker]:
    """Returns markers of the path and a ball at its end; none without a path.

    Args:
        path: Positions (3,) m in the header's frame with the source of each, oldest first.
        header: Stamp and frame.
    """
    line = _marker(header, "path", Marker.LINE_STRIP, (PATH_WIDTH, 0.0, 0.0))
    for position, source in path:
        line.points.append(_point(position))
        line.colors.append(colour(source))
    # A single point is no line, and viewers complain about it.
    if len(line.points) < 2:
        return []
    tip = _marker(header, "tip", Marker.SPHERE, (TIP_SIZE,) * 3)
    tip.pose.position, tip.color = line.points[-1], line.colors[-1]
    return [line, tip]


def box_marker(box: Box, header: Header) -> Marker:
    """Returns the marker of the workspace box, almost transparent.

    Args:
        box: The workspace, m, in the header's frame.
        header: Stamp and frame.
    """
    low, high = np.array(box)
    cube = _marker(header, "workspace", Marker.CUBE, tuple(high - low))
    cube.pose.position = _point((low + high) / 2.0)
    cube.color = ColorRGBA(r=0.2, g=0.7, b=0.9, a=0.12)
    return cube


def overlay(pixels: np.ndarray, step: StepTelemetry | None) -> np.ndarray:
    """Writes the newest step over the foot of a camera's picture.

    Args:
        pixels: (height, width, 3) uint8 RGB.
        step: The newest telemetry; None before the first.

    Returns:
        RGB as given, at most `OVERLAY_WIDTH` wide, with lines of text over its foot.
    """
    every = max(1, math.ceil(pixels.shape[1] / OVERLAY_WIDTH))
    picture = Picture.fromarray(np.ascontiguousarray(pixels[::every, ::every]))
    draw = ImageDraw.Draw(picture, "RGBA")
    lines = overlay_lines(step, (picture.width - 8) // CHARACTER_WIDTH)
    top = max(0, picture.height - 12 * len(lines) - 4)
    draw.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 150))
    tint = colour(step.source if step else "")
    shade = tuple(int(127 + 128 * part) for part in (tint.r, tint.g, tint.b))
    for number, line in enumerate(lines):
        draw.text((4, top + 2 + 12 * number), line, fill=shade)
    return np.asarray(picture)


def overlay_lines(step: StepTelemetry | None, width: int = 80) -> list[str]:
    """Returns the overlay's text: source or hold, metric, command, and what the model says.

    It is ASCII, for the built-in font.

    Args:
        step: The newest telemetry; None before the first.
        width: Characters that fit into a line. Of a long reasoning the last lines are shown: they
            are about the next motion.
    """
    if step is None:
        return ["no step yet"]
    if step.hold:
        held = f"HOLD {step.reason}" + (" (person)" if step.commander == "person" else "")
        return [_ascii(held)]
    metric = f"{step.metric.value:.2f}" if step.metric.ready else "-"
    linear, angular = np.linalg.norm(step.twist[:3]), np.linalg.norm(step.twist[3:])
    chunk, action = step.chunk, ""
    if chunk.length > 1:
        place = f"{chunk.index + 1}/{chunk.length}"
        action = f"  chunk {chunk.number}: {place}, {chunk.delay:.0f} ms"
    first = f"{step.source}  step {step.step}  {step.latency.inference:.0f} ms{action}"
    if step.commander == "person":
        first = f"PERSON  step {step.step}  disagreement {step.disagreement:.2f}"
    return [
        first,
        f"metric {metric}  {linear:.3f} m/s  {angular:.2f} rad/s  gripper {step.gripper:.3f} m",
        *textwrap.wrap(_ascii(step.reasoning), max(width, 20))[-REASONING_LINES:],
    ]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


class DebugViews:
    """The two debug topics of a configured node.

    Args:
        node: The node that owns them.
        base_frame: Frame of the end effector's path and of the box.
        box: The workspace; None where it is not limited.
        newest: The newest image message of the first camera; None before the first.
        to_rgb: Converts such a message to (height, width, 3) RGB; raises ImageError.
        tip: Position of the end effector, (3,), m, base frame; None if it is not known.

    Attributes:
        box: As given; may be replaced.
    """

    def __init__(
        self,
        node: Node,
        base_frame: str,
        box: Box | None,
        newest: Callable[[], Any],
        to_rgb: Callable[[Any], np.ndarray],
        tip: Callable[[], np.ndarray | None],
    ) -> None:
        self._node, self._newest, self._to_rgb, self._tip = node, newest, to_rgb, tip
        self._base_frame, self.box = base_frame, box
        self._path: deque[tuple[np.ndarray, str]] = deque(maxlen=PATH_POINTS)
        self._step: StepTelemetry | None = None
        self._markers, self._overlay = (
            qos.publisher(node, kind, topic)
            for kind, topic in ((MarkerArray, "~/debug/markers"), (Image, "~/debug/overlay"))
        )
        self._timer = steady_timer(node, 1.0 / RATE_HZ, self._look)
        self._work: queue.Queue[list[Callable[[], None]] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name="debug views", daemon=True)
        self._thread.start()

    def note(self, step: StepTelemetry) -> None:
        """Records the newest telemetry and the position of the end effector."""
        self._step, tip = step, self._tip()
        if tip is not None:
            self._path.append((tip, step.source))

    def close(self) -> None:
        """Ends the thread and destroys the topics; a picture that hangs is abandoned."""
        self._node.destroy_timer(self._timer)
        _put_newest(self._work, None)
        self._thread.join(CLOSE_SEC)
        if not self._thread.is_alive():
            self._node.destroy_publisher(self._markers)
            self._node.destroy_publisher(self._overlay)

    def _look(self) -> None:
        """Queues what there is to draw, if anybody subscribes; the newest replaces an older one."""
        stamp = self._node.get_clock().now().to_msg()
        wanted: list[Callable[[], None]] = []
        if self._markers.get_subscription_count():
            wanted.append(partial(self._draw_markers, stamp, list(self._path), self.box))
        message = self._newest() if self._overlay.get_subscription_count() else None
        if message is not None:
            wanted.append(partial(self._draw_overlay, stamp, message, self._step))
        if wanted:
            _put_newest(self._work, wanted)

    def _run(self) -> None:
        while (wanted := self._work.get()) is not None:
            try:
                for draw in wanted:
                    draw()
            except ImageError:
                pass  # the arm is held for it, and telemetry says so
            except Exception as error:
                self._node.get_logger().error(f"debug views: {error!r}", throttle_duration_sec=5.0)

    def _draw_markers(
        self, stamp: Time, path: list[tuple[np.ndarray, str]], box: Box | None
    ) -> None:
        header = Header(stamp=stamp, frame_id=self._base_frame)
        markers = path_markers(path, header)
        if box is not None:
            markers.append(box_marker(box, header))
        self._markers.publish(MarkerArray(markers=markers))

    def _draw_overlay(self, stamp: Time, message: Any, step: StepTelemetry | None) -> None:
        drawn = overlay(self._to_rgb(message), step)
        self._overlay.publish(image_message(drawn, stamp, "overlay"))


def session_views(node: Node, session: Session) -> DebugViews:
    """Creates the debug topics of a session."""
    parameters, buffer = session.parameters, session.buffer
    small = partial(images.compressed_to_rgb, least_side=OVERLAY_WIDTH)
    to_rgb = small if parameters.input.compressed else images.raw_to_rgb

    def tip() -> np.ndarray | None:
        _, arm = buffer.newest()
        return None if arm is None else arm.tip().position

    box, frame = workspace_box(parameters.workspace), parameters.robot.base_frame
    return DebugViews(node, frame, box, lambda: buffer.newest()[0], to_rgb, tip)


def workspace_box(workspace: WorkspaceParameters) -> Box | None:
    """Returns the box of the workspace; None for the defaults, 10 m each way."""
    return workspace.corners if workspace.bounded else None


def _put_newest(work: queue.Queue[Any], newest: Any) -> None:
    """Puts an item into a queue of one place, and replaces the one that waits there."""
    with contextlib.suppress(queue.Empty):
        work.get_nowait()
    work.put(newest)


def _marker(header: Header, name: str, kind: int, scale: tuple[float, ...]) -> Marker:
    marker = Marker(header=header, ns=name, type=kind, action=Marker.ADD)
    marker.scale.x, marker.scale.y, marker.scale.z = map(float, scale)
    marker.pose.orientation.w = 1.0
    return marker


def _point(position: np.ndarray) -> Point:
    x, y, z = map(float, position)
    return Point(x=x, y=y, z=z)
