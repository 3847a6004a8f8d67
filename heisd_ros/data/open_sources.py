"""Finds and opens the sources of episodes under a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heisd_ros.data.bag import Bag
from heisd_ros.data.bag_files import METADATA, is_storage
from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.export_notes import Notes
from heisd_ros.data.lerobot import INFO, FeatureMap, LeRobotSource
from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.recording_layout import RecordingLayout
from heisd_ros.data.recording_notes import PARAMETERS_NOTE, read_notes
from heisd_ros.data.source import Source
from heisd_ros.errors import DemonstrationError
from heisd_ros.kinematics.arm import ArmKinematics

ACCEPTED = (
    "*.hdf5 files (`heisd demos` makes them), a rosbag2 folder, a .mcap or .db3 file, also with "
    ".zstd, folders of bags, or a LeRobot data set"
)


@dataclass(frozen=True)
class Reading:
    """How sources are read.

    Attributes:
        layout: Layout of bags; None: as the robot's YAML in the bag says, and bags without one are
            refused.
        features: Features of LeRobot data sets; None: such data sets are refused.
        arm: Makes the kinematics for LeRobot data sets.
        rate_hz: Control rate if neither source nor layout names one.
        layout_of: Makes a layout of the text of the robot's YAML in a bag.
    """

    layout: RecordingLayout | None = None
    features: FeatureMap | None = None
    arm: Callable[[], ArmKinematics] | None = None
    rate_hz: float = 0.0
    layout_of: Callable[[str], RecordingLayout] | None = None


def open_sources(paths: Sequence[Path], reading: Reading) -> list[Source]:
    """Opens every source under some paths, in order.

    Raises:
        DemonstrationError: Nothing is there, or what is there needs options that were not given.
        HeisdError: A source cannot be opened.
    """
    return [source for path in paths for source in _under(path, reading)]


def _under(path: Path, reading: Reading) -> list[Source]:
    if path.is_file() and path.suffix == ".hdf5":
        return [_demos(path, reading)]
    if is_bag(path):
        return [_bag(path, reading)]
    if (path / INFO).is_file():
        return [_lerobot(path, reading)]
    if path.is_dir():
        files = sorted(path.glob("*_demo.hdf5")) or sorted(path.glob("*.hdf5"))
        if files:
            return [_demos(file, reading) for file in files]
        bags = [entry for entry in sorted(path.iterdir()) if is_bag(entry)]
        if bags:
            return [_bag(bag, reading) for bag in bags]
    raise DemonstrationError(f"{path} holds nothing that can be read; accepted: {ACCEPTED}")


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag."""
    if path.is_dir():
        return (path / METADATA).is_file() or any(map(is_storage, path.iterdir()))
    return is_storage(path)


def _demos(path: Path, reading: Reading) -> Source:
    return LiberoSource(path, reading.rate_hz, reading.layout.instruction if reading.layout else "")


def _bag(path: Path, reading: Reading) -> Source:
    return BagSource(path, reading.layout or _noted_layout(path, reading), reading.rate_hz)


def _noted_layout(path: Path, reading: Reading) -> RecordingLayout:
    """Returns the layout by the robot's YAML that `heisd record` put into a bag."""
    with Bag(path) as bag:
        noted = read_notes(bag).get(PARAMETERS_NOTE, "")
    if reading.layout_of is None or not noted:
        raise DemonstrationError(
            f"{path} is a bag; name the robot's YAML with --params, which says what its topics are"
        )
    try:
        return reading.layout_of(noted)
    except ValueError as error:
        raise DemonstrationError(
            f"{path}: the robot's YAML in it: {error}; name another with --params"
        ) from error


def _lerobot(path: Path, reading: Reading) -> Source:
    features = reading.features
    if features is None:
        notes = Notes.read(path)
        features = None if notes is None else notes.features
    if features is None or reading.arm is None:
        raise DemonstrationError(
            f"{path} is a LeRobot data set; name the robot's YAML with --params, and with "
            "--features a YAML that says what its features are (`heisd data export` writes that "
            "into the data set)"
        )
    return LeRobotSource(path, features, reading.arm())
