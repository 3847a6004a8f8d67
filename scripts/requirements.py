#!/usr/bin/env python3
"""Print Python requirements of this package, one a line, in the form that `pip install -r` reads.

pyproject.toml is the only list; this prints its `dependencies` and the optional groups asked for:

    scripts/requirements.py sim fleet ray test jazzy    what `make` installs
    scripts/requirements.py --apt sim         the pip step of a colcon build: ROS comes from apt
    scripts/requirements.py --torch           the torch release that `make` installs, "2.13.0"

It needs nothing but Python, so that it can run before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pip brings the same parser
    from pip._vendor import tomli as tomllib

ROSDEP = {"pin"}
"""What rosdep brings as a ROS package: from apt, built against the distribution's NumPy."""
PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(pyproject: dict[str, Any], extras: list[str]) -> list[str]:
    """Dependencies of the package and of the extras, each once, in the order written.

    Raises:
        ValueError: If an extra does not exist.
    """
    groups = pyproject["project"]["optional-dependencies"]
    unknown = [name for name in extras if name not in groups]
    if unknown:
        raise ValueError(f"unknown extras {unknown}; there are {sorted(groups)}")
    listed = [*pyproject["project"]["dependencies"], *(r for e in extras for r in groups[e])]
    return list(dict.fromkeys(listed))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Print Python requirements, one a line.")
    parser.add_argument("extras", nargs="*", help="optional groups of pyproject.toml")
    parser.add_argument("--torch", action="store_true", help="print the torch release instead")
    parser.add_argument("--apt", action="store_true", help=f"without {', '.join(ROSDEP)}: from apt")
    arguments = parser.parse_args()
    pyproject = tomllib.loads(PYPROJECT.read_text())
    if arguments.torch:
        print(pyproject["tool"]["heisd"]["torch"])
        return 0
    try:
        listed = requirements(pyproject, arguments.extras)
    except ValueError as error:
        print(f"requirements.py: {error}", file=sys.stderr)
        return 2
    left_out = ROSDEP if arguments.apt else set()
    print("\n".join(item for item in listed if re.split(r"[^\w.-]", item)[0] not in left_out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
