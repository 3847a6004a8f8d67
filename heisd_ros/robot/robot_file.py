"""A parameter file of the VLA node, checked as configure would. Knows no ROS."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from heisd_ros.files.bounded import shown
from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.robot.declare import ONE_TYPE, parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.recording_parameters import PREFIX as RECORDING
from heisd_ros.robot.recording_parameters import RecordingParameters
from heisd_ros.robot.relations import check_given
from heisd_ros.robot.topic_parameters import PREFIX as TOPICS
from heisd_ros.robot.topic_parameters import TopicParameters

WILDCARD = "/**"
MEMBER = "ros__parameters"
UNDECLARED = ("use_sim_time", "qos_overrides.")
"""What every node takes besides its declared parameters: a name, and the beginning of names."""
OF_OTHERS = (RECORDING, TOPICS)
"""How the parameters begin that stand in the file for others, and that the node leaves there."""
KINDS = {RecordingParameters: RECORDING, TopicParameters: TOPICS, VlaNodeParameters: ""}
"""The parts of a file, and how their parameters begin."""


def read_robot_file(path: Path) -> VlaNodeParameters:
    """Reads and validates a parameter file, as configure would.

    Args:
        path: A YAML file of ROS parameters, keyed `/**`.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    settings, _ = read_cell_file(path)
    check_given(settings, flatten(_body(path)))
    return settings


def read_cell_file(path: Path) -> tuple[VlaNodeParameters, RecordingParameters]:
    """Reads a parameter file with what it says of recordings; what it says of topics is checked.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    values = _values(path)
    TopicParameters(**values[TopicParameters])
    return VlaNodeParameters(**values[VlaNodeParameters]), RecordingParameters(
        **values[RecordingParameters]
    )


def read_topics(path: Path) -> TopicParameters:
    """Reads what a parameter file says of topics.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    return TopicParameters(**_values(path)[TopicParameters])


def _values(path: Path) -> dict[type, dict[str, Any]]:
    """The values of a file by the part that they belong to and the name of its field."""
    values: dict[type, dict[str, Any]] = {kind: {} for kind in KINDS}
    for name, value in flatten(_body(path)).items():
        if name == UNDECLARED[0] or name.startswith(UNDECLARED[1]):
            continue
        kind = next((kind for kind, prefix in KINDS.items() if name.startswith(prefix)))
        known = {info.name: field.name for field, info in parameters_of(kind)}
        if name not in known:
            raise ValueError(unknown(name, known))
        values[kind][known[name]] = _as_ros(name, value)
    return values


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a parameter that is none of those known."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"such as '{near[0]}'" if near else "see docs/nodes.md"
    return f"parameter '{name}' is unknown; accepted: a declared one, {hint}"


def _body(path: Path) -> dict[str, Any]:
    """The parameters of a file, as they are nested there."""
    content = read_yaml(path)
    if not isinstance(content, dict) or list(content) != [WILDCARD]:
        found = list(content) if isinstance(content, dict) else content
        raise ValueError(
            f"keys are {shown(found)}; accepted: '{WILDCARD}' alone (a node's name is without "
            "effect under a namespace)"
        )
    body = content[WILDCARD]
    if not isinstance(body, dict) or list(body) != [MEMBER] or not isinstance(body[MEMBER], dict):
        raise ValueError(f"'{WILDCARD}' is {shown(body)}; accepted: a mapping '{MEMBER}'")
    parameters: dict[str, Any] = body[MEMBER]
    return parameters


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """Values of nested mappings by their names with dots, as ROS reads them.

    Raises:
        ValueError: A name stands twice, once nested and once with dots; or a group is empty, or
            has a dot in its name within another group, which ROS reads as other names.
    """
    found: dict[str, Any] = {}
    for name, value in _leaves(tree):
        if name in found:
            raise ValueError(f"parameter '{name}' stands twice; accepted: once")
        found[name] = value
    return found


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not isinstance(value, dict):
            yield name, value
            continue
        if not value:
            raise ValueError(f"parameter '{name}' is {{}}; accepted: a value")
        if prefix and "." in key:
            raise ValueError(f"group '{name}' is written {key!r}; accepted: a level for each dot")
        yield from _leaves(value, f"{name}.")


def _as_ros(name: str, value: Any) -> Any:
    """The value as a node would read it: lists as tuples.

    Raises:
        ValueError: ROS has no such value.
    """
    if value is None:
        raise ValueError(f"parameter '{name}' has no value; accepted: one, '' for an empty text")
    if not isinstance(value, list):
        return value
    kinds = {type(item) for item in value}
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        raise ValueError(f"parameter '{name}' is {shown(value)}; accepted: {ONE_TYPE}")
    return tuple(value)
