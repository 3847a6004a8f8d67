"""The VLA node's settings by flat names, for scripts that import `heisd_ros.nodes.parameters`."""

from __future__ import annotations

from typing import Any

from heisd_ros.robot import parameters
from heisd_ros.robot.declare import from_values, parameters_of


def VlaNodeParameters(**values: Any) -> parameters.VlaNodeParameters:
    """The nested settings, from values by flat names: `rate_hz` or `command_rate_hz`.

    Args:
        **values: Each by the ROS name with underscores for dots, or by the last part of it; that of
            a joint's limit also with `joint_` for `joints.`.

    Raises:
        ValueError: A name means no parameter, or several; or a value is not accepted.
    """
    return from_values(
        parameters.VlaNodeParameters, {_ros_name(key): values[key] for key in values}
    )


def _ros_name(flat: str) -> str:
    """The one parameter that a flat name means."""
    names = [info.name for info in parameters_of(parameters.VlaNodeParameters)]
    meant = [
        name
        for name in names
        if flat in (name.replace(".", "_"), name.replace("joints.", "joint_"))
        or name.endswith(f".{flat}")
    ]
    if len(meant) != 1:
        accepted = " or ".join(name.replace(".", "_") for name in meant) or "a declared one"
        raise ValueError(
            f"parameter '{flat}' is {'unknown' if not meant else 'ambiguous'}; accepted: {accepted}"
        )
    return meant[0]
