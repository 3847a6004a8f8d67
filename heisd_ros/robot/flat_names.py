"""Flat names of nested parameters, `rate_hz` for `command.rate_hz`: they work until 0.4.0."""

from __future__ import annotations

import warnings
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from heisd_ros.robot.declare import Parameters, parameters_of


class FlatNames(Parameters):
    """Settings that can also be read by flat names, with a warning."""

    if not TYPE_CHECKING:  # nothing that is checked uses them

        def __getattr__(self, flat: str) -> Any:
            """Returns the value of the parameter that a flat name means."""
            try:
                name = ros_name(type(self), flat)
            except ValueError as error:
                raise AttributeError(str(error)) from error
            if name == flat:  # not set yet
                raise AttributeError(flat)
            warnings.warn(f"{flat} is {name} now", DeprecationWarning, stacklevel=2)
            return attrgetter(name)(self)


def ros_name(kind: type[Parameters], flat: str) -> str:
    """Returns the ROS name of the parameter that a flat name means.

    Args:
        kind: The settings.
        flat: The ROS name with underscores for dots, or the last part of it; that of a joint's
            limit also with `joint_` for `joints.`.

    Raises:
        ValueError: The name matches no parameter, or several.
    """
    meant = [
        info.name
        for info in parameters_of(kind)
        if flat in (info.name.replace(".", "_"), info.name.replace("joints.", "joint_"))
        or info.name.endswith(f".{flat}")
    ]
    if len(meant) != 1:
        accepted = " or ".join(name.replace(".", "_") for name in meant) or "a declared one"
        what = "ambiguous" if meant else "unknown"
        raise ValueError(f"parameter '{flat}' is {what}; accepted: {accepted}")
    return meant[0]
