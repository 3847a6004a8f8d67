"""Imports Rerun, which is an extra of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heisd_ros.errors import MissingPackageError

REQUIREMENT = "rerun-sdk>=0.39,<1"
APPLICATION = "heisd"


def load() -> Any:
    """Returns the module rerun.

    Raises:
        MissingPackageError: It is not installed, or does not work here.
    """
    try:
        import rerun
        import rerun.blueprint
    except ImportError as error:
        raise missing(error) from error
    return rerun


def missing(error: ImportError) -> MissingPackageError:
    """Returns the error that says what to install."""
    return MissingPackageError(
        f"a view needs Rerun, which cannot be imported ({error}); install it: pip install "
        f"'{REQUIREMENT}'"
    )


def record(name: str, target: str | Path) -> Any:
    """Returns a new recording stream.

    Args:
        name: What the viewer lists it as.
        target: Address of a viewer's server, `rerun+http://...`, or a file.

    Raises:
        MissingPackageError: See `load`.
        OSError: The file cannot be written.
    """
    recording = load().RecordingStream(APPLICATION)
    if isinstance(target, Path):
        with target.open("xb"):  # rerun only logs that it could not
            pass
        recording.save(target)
    else:
        recording.connect_grpc(target)
    recording.send_recording_name(name)
    return recording
