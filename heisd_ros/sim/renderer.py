"""Which renderer MuJoCo can use here: OSMesa in software, or EGL on a GPU or in software."""

from __future__ import annotations

import ctypes

LIBRARIES = {"osmesa": ("libOSMesa.so.8", "libOSMesa.so"), "egl": ("libEGL.so.1",)}
"""Shared libraries of each value of MUJOCO_GL, one of which is enough; osmesa is preferred."""


def renderers() -> list[str]:
    """Returns the values of MUJOCO_GL whose libraries are installed, the preferred first."""
    return [kind for kind, names in LIBRARIES.items() if any(map(loads, names))]


def default_renderer() -> str:
    """Returns the default value of MUJOCO_GL."""
    return next(iter(renderers()), "osmesa")  # MuJoCo then says that it is missing


def loads(library: str) -> bool:
    """Whether a shared library can be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
