"""Options of commands that read recordings, and what they make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heisd_ros.data.open_sources import Reading
    from heisd_ros.data.recording_layout import RecordingLayout
    from heisd_ros.data.source import Source
    from heisd_ros.robot.cell_parameters import CellParameters

Demonstrations = Annotated[
    list[Path],
    typer.Argument(help="Bags, LeRobot data sets, *_demo.hdf5 files, or folders of them."),
]
Params = Annotated[
    Path | None,
    typer.Option(
        help="The robot's YAML (config/robots), for LeRobot data sets and bags; empty: a bag's own."
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(help="YAML that says what a LeRobot data set's features are: docs/data.md."),
]
Urdf = Annotated[
    Path | None,
    typer.Option(help="URDF, where robot.source is 'topic' and the recording has none."),
]

Only = Annotated[
    list[str] | None,
    typer.Option(
        help="Take only episodes with this mark: success (reported), corrected (a person had the "
        "arm for a while); may be repeated."
    ),
]


def reading_of(
    params: Path | None, features: Path | None, urdf: Path | None, rate_hz: float
) -> Reading:
    """How sources are to be read.

    Args:
        params: The robot's YAML; None: that in the recording.
        features: The feature map.
        urdf: The robot's URDF.
        rate_hz: The model's control rate; 0: unknown.

    Raises:
        HeisdError, ValueError: A file cannot be read; the message is one line.
    """
    from heisd_ros.data.lerobot import FeatureMap
    from heisd_ros.data.open_sources import Reading
    from heisd_ros.errors import UrdfError
    from heisd_ros.kinematics.arm import ArmKinematics
    from heisd_ros.robot.cell_parameters import recording_layout
    from heisd_ros.robot.robot_file import read_cell_file, read_cell_text

    def noted(content: str) -> RecordingLayout:
        cell = read_cell_text(content)
        return recording_layout(cell, description_of(cell, urdf))

    mapped = FeatureMap.read(features) if features else None
    if params is None:
        return Reading(features=mapped, rate_hz=rate_hz, layout_of=noted)
    cell = read_cell_file(params)
    text = description_of(cell, urdf)

    def arm() -> ArmKinematics:
        if text is None:
            raise UrdfError(f"{params}: robot.source is 'topic'; name the URDF with --urdf")
        robot = cell.robot
        return ArmKinematics(text, robot.tip_frame, robot.joint_names, robot.base_frame)

    return Reading(recording_layout(cell, text), mapped, arm, rate_hz)


def description_of(cell: CellParameters, urdf: Path | None) -> str | None:
    """Returns the URDF's text: that of a file, or else the one of a robot's settings.

    Returns None where the robot is described on a topic.
    """
    from heisd_ros.errors import UrdfError
    from heisd_ros.files.bounded import read_text
    from heisd_ros.robot.robot_arm import urdf_text

    if urdf is not None:
        return read_text(urdf, UrdfError)
    return None if cell.robot.source == "topic" else urdf_text(cell)


def say_dropped(sources: Sequence[Source]) -> None:
    """Says what was left out of the sources and what is odd; `heisd data inspect` says more."""
    for source in sources:
        for line in source.report.lines():
            typer.echo(f"{source.label}: {line}", err=True)
