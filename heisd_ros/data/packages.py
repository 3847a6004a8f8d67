"""Packages of the extra `lerobot`, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from heisd_ros.errors import MissingPackageError


def package(name: str) -> Any:
    """Imports a package.

    Raises:
        MissingPackageError: It is not installed; names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"LeRobot data sets need {name.split('.')[0]}: pip install 'heisd_ros[lerobot]'"
        ) from error
