"""Where each part of a view stands in the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heisd_ros.view import sdk

TIME = "time"
"""The timeline: when a message came, or the time since an episode began."""
WINDOW_SEC = 60.0
"""Live, plots and the path show this much."""
EYE, TARGET = (1.1, -0.9, 0.8), (0.3, 0.0, 0.3)
"""Where an arm of usual size is looked at from, and where it is looked at, m, base frame."""
CAMERAS, ROBOT, PATH = "cameras", "robot", "robot/path"
METRIC, LATENCY, STATE, LANES, LOG = "metric", "latency", "state", "lanes", "log"


def camera_path(camera: str) -> str:
    """Returns the path of a camera's picture; a topic's slashes are no levels."""
    return f"{CAMERAS}/{sdk.load().escape_entity_path_part(camera)}"


def layout(cameras: Sequence[str], live: bool, listed: bool = False) -> Any:
    """Arranges pictures and path on the left, state and plots on the right.

    Args:
        cameras: Names of the cameras.
        live: Whether plots show the last minute instead of everything.
        listed: Whether the list of recordings is open.
    """
    rrb = sdk.load().blueprint
    boundary = rrb.TimeRangeBoundary
    begin = boundary.cursor_relative(seconds=-WINDOW_SEC) if live else boundary.infinite()
    past = rrb.VisibleTimeRange(TIME, start=begin, end=boundary.cursor_relative())
    shown = {"time_ranges": past} if live else {}
    pictures = [rrb.Spatial2DView(origin=camera_path(name), name=name) for name in cameras]
    path = rrb.Spatial3DView(
        origin=ROBOT,
        name="path of the end effector",
        overrides={PATH: rrb.VisibleTimeRanges([past])},
        eye_controls=rrb.EyeControls3D(position=EYE, look_target=TARGET),
    )
    left = [rrb.Horizontal(*pictures), path] if pictures else [path]
    right = [
        (rrb.TextDocumentView(origin=STATE, name="state"), 3),
        (rrb.StateTimelineView(origin=LANES, name="who decides"), 2),
        (rrb.TimeSeriesView(origin=METRIC, name="kinematic metric", **shown), 2),
        (rrb.TimeSeriesView(origin=LATENCY, name="latency, ms", **shown), 3),
        (rrb.TextLogView(origin=LOG, name="holds and changes"), 2),
    ]
    views, shares = zip(*right, strict=True)
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(*left), rrb.Vertical(*views, row_shares=shares), column_shares=(1, 1)
        ),
        rrb.BlueprintPanel(state="expanded" if listed else "collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        rrb.TimePanel(state="collapsed", timeline=TIME),
    )
