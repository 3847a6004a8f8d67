"""The VLA node for a real arm. Dry run by default: docs/real_arm.md goes from here to motion."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ROBOTS = sorted(path.stem for path in (CONFIG / "robots").glob("*.yaml"))
ARGUMENTS = {
    "robot": ("generic", "Whose file of config/robots is taken."),
    "params_file": ("", "Parameter file in its place, keyed /**."),
    "namespace": ("", "Namespace of the node and of every relative topic."),
    "configure": ("true", "Whether the node is configured at start."),
    "activate": ("false", "Whether it is activated once configured."),
    "guard": ("false", "Whether commands go through heisd_guard (docs/safety.md)."),
}
# Argument, parameter of the node, its type, and what it means. One that is not given leaves the
# parameter as the file says.
PARAMETERS = {
    "dry_run": ("dry_run", bool, "Whether no command topic is made; where nothing says, true."),
    "use_sim_time": ("use_sim_time", bool, "Whether time comes from /clock, as with a bag."),
    "model": ("model.path", str, "Folder of the checkpoint."),
    "mode": ("decoding.mode", str, "Decoding mode: a name in config/modes, or a YAML file."),
    "instruction": ("instruction", str, "What to do; ~/input/instruction may say otherwise."),
    "joy": ("teleop.joy_topic", str, "Topic of a joystick by which a person takes over."),
    "teleop": ("teleop.twist_topic", str, "Topic of twists by which a person takes over."),
}
# Argument, input or output of the node, and the topic where neither argument nor file names one.
TOPICS = {
    "image": ("~/input/image", "camera/image_raw"),
    "image_wrist": ("~/input/image_wrist", "wrist_camera/image_raw"),
    "joint_states": ("~/input/joint_states", "joint_states"),
    "twist": ("~/output/twist", "servo_node/delta_twist_cmds"),
    "pose": ("~/output/pose", "target_pose"),
    "joint_velocity": ("~/output/joint_velocity", "forward_velocity_controller/commands"),
    "joint_position": ("~/output/joint_position", "forward_position_controller/commands"),
    "gripper": ("~/output/gripper", "gripper/command"),
    "gripper_joint": ("~/output/gripper_joint", "gripper/joint_command"),
}

# The first remapping of a name counts: the node's commands go to the guard, which stops it as well.
PASSED = ("twist", "pose")
INTO_GUARD = [(f"~/output/{kind}", f"heisd_guard/input/{kind}") for kind in (*PASSED, "gripper")]
OF_NODE = [
    ("~/input/status", "vla_node/status"),
    *((f"~/node/{service}", f"vla_node/{service}") for service in ("estop", "get_parameters")),
]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(
            name,
            default_value=default,
            description=description,
            choices=ROBOTS if name == "robot" else None,
        )
        for name, (default, description) in ARGUMENTS.items()
    ]
    described = {name: words for name, (_, _, words) in PARAMETERS.items()}
    described |= {name: f"Topic of {end} (topics.{name})." for name, (end, _) in TOPICS.items()}
    declared += [
        DeclareLaunchArgument(
            name, default_value="", description=f"{words} Empty: as the parameter file says."
        )
        for name, words in described.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The node and what takes it through its transitions, once the arguments are known."""
    given = {name: LaunchConfiguration(name) for name in (*ARGUMENTS, *PARAMETERS, *TOPICS)}
    file = given["params_file"].perform(context)
    file = file or f"{CONFIG}/robots/{given['robot'].perform(context)}.yaml"
    wires = remappings(file, {name: given[name].perform(context) for name in TOPICS})
    guarded = IfCondition(given["guard"]).evaluate(context)
    if guarded and (interface := setting(file, "command", "interface") or "twist") not in PASSED:
        # The guard would end, and the node command the arm without it.
        raise ValueError(
            f"guard:=true, but command.interface is {interface!r} in {file}; accepted with the "
            "guard: 'twist' or 'pose'"
        )
    # What gripper.action names is commanded by one of the two.
    fingers = [{"gripper.action": ""}] if guarded else []
    node = LifecycleNode(
        package="heisd_ros",
        executable="vla_node",
        name="vla_node",
        namespace=given["namespace"],
        output="screen",
        ros_arguments=["-p", "dry_run:=true"],  # the file comes after it
        parameters=[*parameters(file, given, PARAMETERS, context), *fingers],
        remappings=[*INTO_GUARD, *wires] if guarded else wires,
    )
    guard = Node(
        package="heisd_ros",
        executable="heisd_guard",
        name="heisd_guard",
        namespace=given["namespace"],
        output="screen",
        ros_arguments=["-p", "dry_run:=true"],
        parameters=parameters(file, given, ("dry_run", "use_sim_time"), context),
        remappings=[*wires, *OF_NODE],
        condition=IfCondition(given["guard"]),
    )

    def change(transition: int) -> EmitEvent:
        matcher = matches_action(node)
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition)
        )

    configure = RegisterEventHandler(
        OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)]),
        condition=IfCondition(given["configure"]),
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        ),
        condition=IfCondition(given["activate"]),
    )
    # The handlers first, or the node's start would go unheard.
    return [guard, configure, activate, node]


def parameters(
    file: str, given: dict[str, LaunchConfiguration], names: Iterable[str], context: LaunchContext
) -> list[ParameterFile | dict[str, ParameterValue]]:
    """The file, and the arguments among `names` that were given."""
    values = {
        PARAMETERS[name][0]: ParameterValue(given[name], value_type=PARAMETERS[name][1])
        for name in names
        if given[name].perform(context)
    }
    return [ParameterFile(file), values]


def setting(file: str, group: str, name: str) -> Any:
    """A parameter in the file; None where it has none. ROS reads groups either way."""
    try:
        body: Any = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["/**"]["ros__parameters"]
        return body.get(f"{group}.{name}") or (body.get(group) or {}).get(name)
    except (TypeError, KeyError, AttributeError):
        return None  # the node will say at configure what is wrong with the file


def remappings(file: str, asked: dict[str, str]) -> list[tuple[str, str]]:
    """Where inputs and outputs go: as asked, else as the file says, else to the usual names."""
    pairs = []
    for name, (end, usual) in TOPICS.items():
        topic = asked[name] or setting(file, "topics", name) or usual
        pairs.append((end, topic))
        if name.startswith("image"):
            pairs.append((f"{end}/compressed", f"{topic}/compressed"))
    return pairs
