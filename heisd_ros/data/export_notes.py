"""What an exported data set says beyond its format: `meta/heisd.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heisd_ros.data.lerobot_features import FeatureMap
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.bounded import read_object, shown

NOTES = "meta/heisd.json"
ROBOT_FILE = "meta/robot.yaml"


@dataclass(frozen=True)
class Notes:
    """What our reader takes from there.

    Attributes:
        features: What is what.
        stride: Control steps from a frame to the next.
        sources: Label, robot, number of episodes and the recorder's notes, of each source.
    """

    features: FeatureMap
    stride: int = 1
    sources: list[dict[str, Any]] = field(default_factory=list)

    def content(self, version: str, fps: float) -> dict[str, Any]:
        """Returns the content of the file, as JSON values.

        Args:
            version: Of this package.
            fps: Frames a second.
        """
        features = {key: value for key, value in asdict(self.features).items() if value}
        return {
            "heisd_ros": version,
            "fps": fps,
            "features": features,
            "control_steps_per_frame": self.stride,
            "sources": self.sources,
        }

    @classmethod
    def read(cls, folder: Path) -> Notes | None:
        """Reads the file of a data set; None where it has none.

        Raises:
            DemonstrationError: It is damaged.
        """
        path = folder / NOTES
        if not path.exists():
            return None
        content = read_object(path, DemonstrationError)
        stride = content.get("control_steps_per_frame", 1)
        if not isinstance(stride, int) or isinstance(stride, bool) or not 1 <= stride <= 1000:
            raise DemonstrationError(
                f"{path}: control_steps_per_frame is {shown(stride)}; accepted: 1 to 1000"
            )
        features = FeatureMap.of(content.get("features"), path)
        sources = content.get("sources")
        return cls(features, stride, sources if isinstance(sources, list) else [])
