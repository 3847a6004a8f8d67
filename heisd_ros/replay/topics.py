"""Maps the topics of a bag to the inputs of the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heisd_ros.control.inputs import image_inputs
from heisd_ros.errors import ReplayError

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINTS, TEXT = "sensor_msgs/msg/JointState", "std_msgs/msg/String"
TELEMETRY, DELTA = "heisd_ros/msg/StepTelemetry", "heisd_ros/msg/ActionDelta"
TWIST = "geometry_msgs/msg/TwistStamped"

JOINT_STATES, INSTRUCTION = "~/input/joint_states", "~/input/instruction"
ROBOT_DESCRIPTION = "robot_description"
RECORDED = {"~/telemetry": TELEMETRY, "~/output/delta": DELTA, "~/output/twist": TWIST}
"""Topics of a recording that hold the action, the most precise first, with their types."""

# The node's own names, the simulated arm's, and what the launch files call them without arguments.
_ELSEWHERE = {
    "~/input/image": (
        "/sim_arm_node/image",
        "/camera/image_raw",
        "/camera/image_raw",
    ),
    "~/input/image_wrist": (
        "/sim_arm_node/image_wrist",
        "/wrist_camera/image_raw",
        "/wrist_camera/image_raw",
    ),
    JOINT_STATES: ("/sim_arm_node/joint_states", "/joint_states"),
    INSTRUCTION: ("/sim_arm_node/instruction",),
    "~/output/twist": ("/sim_arm_node/command/twist", "/servo_node/delta_twist_cmds"),
}


@dataclass(frozen=True)
class ReplayTopics:
    """Topics of a bag.

    Attributes:
        images: One per view, in the model's order.
        compressed: Whether they are CompressedImage.
        joint_states: The joint states.
        instruction: The instruction; None if the bag has none.
        robot_description: The URDF; None if the bag has none.
        recorded: The command and its type; None if the bag has none.
    """

    images: tuple[str, ...]
    compressed: bool
    joint_states: str
    instruction: str | None
    robot_description: str | None
    recorded: tuple[str, str] | None

    def named(self) -> dict[str, str]:
        """Returns the topics that are read, by input."""
        names = {f"image {view}": topic for view, topic in enumerate(self.images)}
        names["joint states"] = self.joint_states
        if self.instruction is not None:
            names["instruction"] = self.instruction
        if self.robot_description is not None:
            names["robot description"] = self.robot_description
        if self.recorded is not None:
            names["recorded action"] = self.recorded[0]
        return names


def find_topics(
    views: Sequence[str],
    types: Mapping[str, str],
    remaps: Mapping[str, str],
    robot_from_topic: bool = False,
) -> ReplayTopics:
    """Finds the inputs of a model in a bag.

    Args:
        views: The model's views.
        types: Type of each topic of the bag.
        remaps: The node's name of an input to the topic of the bag.
        robot_from_topic: Whether the URDF comes from the bag.

    Raises:
        ReplayError: A remap names no input, or an input is missing in the bag or has another type.
    """
    names = image_inputs(views)
    known = [*names, JOINT_STATES, INSTRUCTION, ROBOT_DESCRIPTION, *RECORDED]
    for name in remaps:
        if name not in known:
            raise ReplayError(f"remap of {name!r}; accepted: {', '.join(known)}")
    finder = _Finder(types, remaps)
    images = tuple(finder.need(name, (IMAGE, COMPRESSED)) for name in names)
    kinds = {types[topic] for topic in images}
    if len(kinds) > 1:
        raise ReplayError(
            f"topics {', '.join(images)} are of both {IMAGE} and {COMPRESSED}; accepted: one type"
        )
    recorded = None
    for name, kind in RECORDED.items():
        topic = finder.find(name, (kind,))
        if topic is not None and recorded is None:
            recorded = (topic, kind)
    return ReplayTopics(
        images=images,
        compressed=kinds == {COMPRESSED},
        joint_states=finder.need(JOINT_STATES, (JOINTS,)),
        instruction=finder.find(INSTRUCTION, (TEXT,)),
        robot_description=finder.need(ROBOT_DESCRIPTION, (TEXT,)) if robot_from_topic else None,
        recorded=recorded,
    )


def read_remaps(texts: Sequence[str]) -> dict[str, str]:
    """Reads remaps as ROS writes them, `FROM:=TO`.

    Raises:
        ReplayError: One has another form.
    """
    remaps = {}
    for text in texts:
        name, separator, topic = text.partition(":=")
        if not (name and separator and topic):
            raise ReplayError(f"remap {text!r}; accepted: FROM:=TO")
        remaps[name] = topic if topic.startswith("/") else f"/{topic}"
    return remaps


class _Finder:
    def __init__(self, types: Mapping[str, str], remaps: Mapping[str, str]) -> None:
        self._types, self._remaps = types, remaps

    def find(self, name: str, kinds: Sequence[str]) -> str | None:
        """Returns the topic of an input; None if the bag lacks it and no remap names it."""
        asked = self._remaps.get(name)
        for topic in self._candidates(name):
            if topic not in self._types:
                continue
            if self._types[topic] not in kinds:
                raise ReplayError(
                    f"topic {topic} is of type {self._types[topic]}; accepted for {name}: "
                    f"{' or '.join(kinds)}"
                )
            return topic
        if asked is not None:
            raise ReplayError(f"topic {asked} is not in the bag; {self._contents()}")
        return None

    def need(self, name: str, kinds: Sequence[str]) -> str:
        """Returns the topic of an input that the node needs."""
        topic = self.find(name, kinds)
        if topic is None:
            looked = ", ".join(self._candidates(name))
            raise ReplayError(
                f"no topic for {name}: looked for {looked}; {self._contents()}; name it with "
                f"--remap {name}:=TOPIC"
            )
        return topic

    def _candidates(self, name: str) -> list[str]:
        if name in self._remaps:
            return [self._remaps[name]]
        names = [name.replace("~", "/vla_node") if name.startswith("~") else f"/{name}"]
        names += _ELSEWHERE.get(name, ())
        if name.startswith("~/input/image"):
            names += [f"{topic}/compressed" for topic in names]
        return names

    def _contents(self) -> str:
        return f"the bag has {', '.join(sorted(self._types)) or 'no topic'}"
