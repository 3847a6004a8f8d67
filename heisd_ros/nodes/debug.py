"""Pictures of what the node does, made only while somebody looks: the path and the camera.

`~/debug/markers` draws the path of the end effector, each part in the colour of what decided the
step, and the workspace box. `~/debug/overlay` is the newest picture of the first camera with what
the node does written on it. Both run on a timer of the executor at a few hertz, never in the
inference thread; while nobody subscribes, a step costs the place of the tip and nothing is drawn.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
from geometry_msgs.msg import Point
from PIL import Image as Picture
from PIL import ImageDraw
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from heisd_ros.errors import ImageError
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import images, qos
from heisd_ros.nodes.image_message import image_message
from heisd_ros.nodes.limit_parameters import Corner, LimitParameters
from heisd_ros.nodes.session import Session

RATE_HZ = 5.0
PATH_POINTS = 600
"""Points of the path that are kept: half a minute at 20 Hz."""
OVERLAY_WIDTH = 640
"""Wider pictures are made smaller before anything is drawn, pixels."""
PATH_WIDTH, TIP_SIZE = 0.004, 0.02
"""Width of the path and diameter of the ball at its end, m."""
COLOURS = {
    "autoregressive": (0.55, 0.55, 0.55),
    "retrieval": (0.12, 0.47, 0.71),
    "last_command": (0.34, 0.71, 0.91),
    "drafter": (1.00, 0.50, 0.05),
    "skip": (0.17, 0.63, 0.17),
    "hold": (0.84, 0.15, 0.16),
}
"""Red, green and blue, 0 to 1, of each source of a step."""

Box = tuple[Corner, Corner]
"""Least and largest corner of the workspace, m, base frame."""


def colour(source: str, alpha: float = 1.0) -> ColorRGBA:
    """Colour of a source; white for one that is not known."""
    red, green, blue = COLOURS.get(source, (1.0, 1.0, 1.0))
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


def path_markers(path: Iterable[tuple[np.ndarray, str]], header: Header) -> list[Marker]:
    """The path and a ball at its end; nothing where there is no path yet.

    Args:
        path: Positions (3,) m in the header's frame and what decided each, oldest first.
        header: Stamp and frame.
    """
    line = _marker(header, "path", Marker.LINE_STRIP, (PATH_WIDTH, 0.0, 0.0))
    for position, source in path:
        line.points.append(_point(position))
        line.colors.append(colour(source))
    # One point is no line, and a viewer complains about it.
    if len(line.points) < 2:
        return []
    tip = _marker(header, "tip", Marker.SPHERE, (TIP_SIZE,) * 3)
    tip.pose.position, tip.color = line.points[-1], line.colors[-1]
    return [line, tip]


def box_marker(box: Box, header: Header) -> Marker:
    """The workspace box, nearly clear.

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
    """Writes what the node does below a camera's picture.

    Args:
        pixels: (height, width, 3) uint8 RGB.
        step: The newest telemetry; None before the first.

    Returns:
        RGB as given, at most `OVERLAY_WIDTH` wide, with lines of text over its foot.
    """
    picture = Picture.fromarray(pixels)
    picture = picture.reduce(max(1, math.ceil(picture.width / OVERLAY_WIDTH)))
    draw = ImageDraw.Draw(picture, "RGBA")
    lines = overlay_lines(step)
    top = max(0, picture.height - 12 * len(lines) - 4)
    draw.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 150))
    tint = COLOURS.get(step.source if step else "", (1.0, 1.0, 1.0))
    shade = tuple(int(127 + 128 * part) for part in tint)
    for number, line in enumerate(lines):
        draw.text((4, top + 2 + 12 * number), line, fill=shade)
    return np.asarray(picture)


def overlay_lines(step: StepTelemetry | None) -> list[str]:
    """The overlay in words: source or hold, metric, command. ASCII, as the built-in font is."""
    if step is None:
        return ["no step yet"]
    if step.hold:
        return [f"HOLD {step.reason}".encode("ascii", "replace").decode()]
    metric = f"{step.metric.value:.2f}" if step.metric.ready else "-"
    linear, angular = np.linalg.norm(step.twist[:3]), np.linalg.norm(step.twist[3:])
    return [
        f"{step.source}  step {step.step}  {step.latency.inference:.0f} ms",
        f"metric {metric}  {linear:.3f} m/s  {angular:.2f} rad/s  gripper {step.gripper:.3f} m",
    ]


class DebugViews:
    """The two debug topics of a configured node.

    Args:
        node: The node that owns them.
        base_frame: Frame of the end effector's path and of the box.
        box: The workspace; None where it is not limited.
        picture: The newest picture of the first camera, (height, width, 3) RGB; None before the
            first. Raises ImageError.
        tip: Where the end effector is, (3,), m, base frame; None where that is not known.

    Attributes:
        box: As given; may be replaced.
    """

    def __init__(
        self,
        node: Node,
        base_frame: str,
        box: Box | None,
        picture: Callable[[], np.ndarray | None],
        tip: Callable[[], np.ndarray | None],
    ) -> None:
        self._node, self._picture, self._tip = node, picture, tip
        self._base_frame, self.box = base_frame, box
        self._path: deque[tuple[np.ndarray, str]] = deque(maxlen=PATH_POINTS)
        self._step: StepTelemetry | None = None
        self._markers, self._overlay = (
            node.create_publisher(
                kind, topic, qos.reliable(), qos_overriding_options=qos.overrides()
            )
            for kind, topic in ((MarkerArray, "~/debug/markers"), (Image, "~/debug/overlay"))
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(1.0 / RATE_HZ, self._publish, clock=steady)

    def note(self, step: StepTelemetry) -> None:
        """Takes the newest telemetry, and where the end effector is."""
        self._step, tip = step, self._tip()
        if tip is not None:
            self._path.append((tip, step.source))

    def close(self) -> None:
        """Destroys the topics."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._markers)
        self._node.destroy_publisher(self._overlay)

    def _publish(self) -> None:
        stamp = self._node.get_clock().now().to_msg()
        if self._markers.get_subscription_count():
            header = Header(stamp=stamp, frame_id=self._base_frame)
            markers = path_markers(self._path, header)
            if self.box is not None:
                markers.append(box_marker(self.box, header))
            self._markers.publish(MarkerArray(markers=markers))
        if self._overlay.get_subscription_count():
            try:
                pixels = self._picture()
            except ImageError:
                return  # the arm is held for it, and telemetry says so
            if pixels is not None:
                drawn = overlay(pixels, self._step)
                self._overlay.publish(image_message(drawn, stamp, "overlay"))


def session_views(node: Node, session: Session) -> DebugViews:
    """The debug topics of what was configured."""
    parameters, buffer = session.parameters, session.buffer
    to_rgb = images.compressed_to_rgb if parameters.compressed else images.raw_to_rgb

    def picture() -> np.ndarray | None:
        message, _ = buffer.newest()
        return None if message is None else to_rgb(message)

    def tip() -> np.ndarray | None:
        _, arm = buffer.newest()
        return None if arm is None else arm.tip().position

    box = workspace_box(parameters)
    return DebugViews(node, parameters.robot_base_frame, box, picture, tip)


def workspace_box(parameters: LimitParameters) -> Box | None:
    """The box of the parameters; None for the defaults, 10 m each way, that nobody wants to see."""
    return parameters.workspace if parameters.bounded else None


def _marker(header: Header, name: str, kind: int, scale: tuple[float, ...]) -> Marker:
    marker = Marker(header=header, ns=name, type=kind, action=Marker.ADD)
    marker.scale.x, marker.scale.y, marker.scale.z = map(float, scale)
    marker.pose.orientation.w = 1.0
    return marker


def _point(position: np.ndarray) -> Point:
    x, y, z = map(float, position)
    return Point(x=x, y=y, z=z)
