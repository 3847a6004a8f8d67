"""Import paths of modules that have moved: the old ones work until 0.4.0, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "control.images": "data.images",
    "nodes.ingest": "control.ingest",
    "nodes.motion_feed": "control.motion_feed",
    "nodes.parameters": "robot.flat",
    "nodes.policy": "control.policy",
    "nodes.robot_file": "robot.robot_file",
    "nodes.worker": "control.worker",
    "training.deepen": "families.openvla.layers",
    "vla.checkpoint": "families.openvla.checkpoint",
    "vla.preprocessing": "families.openvla.preprocessing",
}
"""Old module name to new one, below heisd_ros."""


class _MovedFinder(MetaPathFinder, Loader):
    """Finds the new module under the old name; asked only after every other finder."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        moved = name.startswith("heisd_ros.") and name.removeprefix("heisd_ros.") in MOVED
        return ModuleSpec(name, self) if moved else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = "heisd_ros." + MOVED[spec.name.removeprefix("heisd_ros.")]
        warnings.warn(f"{spec.name} has moved to {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Runs nothing: the module was imported by its new name, whose spec it keeps."""
        module.__spec__ = module.__spec__ and module.__spec__.loader_state


def install() -> None:
    """Lets old import paths work in this process."""
    sys.meta_path.append(_MovedFinder())
