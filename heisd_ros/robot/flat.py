"""The VLA node's settings by flat names, for scripts that import `heisd_ros.nodes.parameters`."""

from __future__ import annotations

from typing import Any

from heisd_ros.robot import parameters
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.flat_names import ros_name


def VlaNodeParameters(**values: Any) -> parameters.VlaNodeParameters:
    """Returns the nested settings, from values by flat names as `ros_name` takes them.

    Raises:
        ValueError: A name matches no parameter, or several; or a value is not accepted.
    """
    kind = parameters.VlaNodeParameters
    return from_values(kind, {ros_name(kind, flat): values[flat] for flat in values})
