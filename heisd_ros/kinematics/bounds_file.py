"""The file of the metric's bounds, for models without a database."""

from __future__ import annotations

from pathlib import Path

from heisd_ros.files.bounded import expanded, naming, read_text
from heisd_ros.kinematics.metric import MetricBounds, MetricSettings
from heisd_ros.kinematics.motion import MetricKind

BOUNDS_FILE = "metric_bounds.json"


def load_bounds(kind: MetricKind, path: str, model_folder: Path) -> tuple[MetricBounds, str]:
    """Finds the metric's bounds.

    Args:
        kind: Kind of the metric.
        path: File of the bounds; empty: the one beside the checkpoint, if any.
        model_folder: Folder of the checkpoint.

    Returns:
        The bounds, and a description of where they came from.

    Raises:
        ValueError: The file is missing, not readable, or for another kind.
    """
    file = expanded(path) if path else model_folder / BOUNDS_FILE
    if not path and not file.exists():
        # A Panda under LIBERO's controller: 0.4 m/s is fast, and 15 samples at 20 Hz are 0.75 s.
        settings = MetricSettings(kind=kind)
        bounds = MetricBounds(settings, (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), boundary=0.25)
        return bounds, "built-in"
    try:
        bounds = MetricBounds.from_json(read_text(file))
    except ValueError as error:
        raise ValueError(f"parameter 'metric.bounds': {naming(file, error)}") from error
    if bounds.settings.kind != kind:
        raise ValueError(
            f"parameter 'metric.kind' is {kind!r}; accepted: {bounds.settings.kind!r}, for which "
            f"{file} was computed, or another file in 'metric.bounds'"
        )
    return bounds, str(file)
