"""Robot files: every shipped one is accepted, and a bad one is named in one line."""

from __future__ import annotations

import re

import pytest
import yaml
from rclpy.expand_topic_name import expand_topic_name
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.validate_full_topic_name import validate_full_topic_name
from support.robots import URDF, robot_files, urdf_of

from heisd_ros.errors import HeisdError, UrdfError
from heisd_ros.nodes.declaration import read
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.cell_parameters import CellParameters, recording_layout
from heisd_ros.robot.declare import ROS_NAME, parameters_of, with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader
from heisd_ros.robot.robot_file import read_cell_file, read_robot_file
from heisd_ros.robot.topic_parameters import TopicParameters

FILES = robot_files()
ROBOTS = [name for name in FILES if name != "generic"]
MUST_BE_GIVEN = [info.name for info in parameters_of(VlaNodeParameters) if info.own]


def body(name):
    return yaml.safe_load(FILES[name].read_text(encoding="utf-8"))["/**"]["ros__parameters"]


@pytest.mark.parametrize("name", ROBOTS)
def test_a_shipped_robot_is_accepted_strict_and_dry(name):
    parameters = read_robot_file(FILES[name])
    assert parameters.dry_run
    assert parameters.robot.source == "topic"
    assert parameters.command.max_linear_speed <= 0.25  # m/s: what ISO 10218-1 calls reduced speed
    assert parameters.command.max_linear_acceleration > 0.0
    assert parameters.command.rate_hz >= 20.0
    assert set(MUST_BE_GIVEN) <= set(body(name))


def test_what_bounds_an_arm_is_its_own():
    own = set(MUST_BE_GIVEN)
    assert {"dry_run", "robot.joint_names", "command.frame_id", "gripper.closed_action"} <= own
    assert {f"workspace.{axis}_{end}" for axis in "xyz" for end in ("min", "max")} <= own
    for part in ("linear", "angular"):
        assert {f"command.max_{part}_speed", f"command.max_{part}_acceleration"} <= own


@pytest.mark.parametrize("name", URDF)
def test_joints_and_frames_are_those_of_the_makers_description(name):
    parameters = read_robot_file(FILES[name])
    reader = make_reader(parameters, urdf_of(name))
    assert reader.kinematics.joint_names == parameters.robot.joint_names


@pytest.mark.parametrize("name", URDF)
def test_its_joints_can_be_commanded_too(name):
    """Each joint has a limit of its speed, from which the file's acceleration stops it in time."""
    settings = with_values(read_robot_file(FILES[name]), {"command.interface": "joint_position"})
    assert make_reader(settings, urdf_of(name)) and settings.joints.max_acceleration > 0.0


ROBOTS_OWN = ("robot.", "workspace.", "topics.", "recording.", "joints.", "gripper.", "command.")


@pytest.mark.parametrize("name", ROBOTS)
def test_what_is_no_robots_own_is_the_same_in_every_file(name):
    """ROS parameter files cannot include one another, so this keeps them together."""
    shared = {key: body("ur5e")[key] for key in body("ur5e") if not key.startswith(ROBOTS_OWN)}
    assert {key: body(name)[key] for key in shared} == shared
    of_commands = [
        key for key in body("ur5e") if re.search(r"command\..*(scale|step|lead|rate)", key)
    ]
    assert {key: body(name)[key] for key in of_commands} == {
        key: body("ur5e")[key] for key in of_commands
    }


def test_franka_and_panda_are_two_names_of_one_arm():
    assert body("franka") == body("panda")
    renamed = yaml.safe_load(yaml.safe_dump(body("panda")).replace("panda_", "fer_"))
    assert renamed == body("fer")


MOUNTED = """
  <link name="table"/>
  <joint name="mount" type="fixed">
    <parent link="table"/><child link="panda_link0"/><origin xyz="0 0 0.7"/>
  </joint>
</robot>"""


def test_a_base_that_is_not_the_root_is_refused_where_targets_are_taken_there():
    parameters, urdf = read_robot_file(FILES["panda"]), urdf_of("panda")
    mounted = urdf.replace("</robot>", MOUNTED)
    with pytest.raises(UrdfError, match=r"'robot\.base_frame' is .*accepted: the root"):
        make_reader(parameters, mounted)
    make_reader(parameters, mounted.replace("0 0 0.7", "0 0 0"))
    make_reader(with_values(parameters, {"command.targets_in_root": False}), mounted)


def test_generic_names_every_value_that_a_robot_has_to_give(tmp_path):
    text = FILES["generic"].read_text(encoding="utf-8")
    assert all(f"{name}:" in text for name in MUST_BE_GIVEN)
    declared = {info.name for info in parameters_of(CellParameters)}
    assert set(body("generic")) <= declared
    with pytest.raises(ValueError, match=r"robot\.tip_frame"):
        read_robot_file(FILES["generic"])


def written(tmp_path, values, key="/**"):
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump({key: {"ros__parameters": values}}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("robot.tip_frame", "", "'robot.tip_frame' is ''; accepted: a link"),
        ("robot.base_frame", "", "'robot.base_frame' is ''; accepted: a link"),
        ("robot.joint_names", [], "'robot.joint_names' is .*; accepted: a list"),
        ("robot.joint_names", ["a", 1], "'robot.joint_names' is .*; accepted: a list"),
        ("robot.source", "usb", "'robot.source' is 'usb'; accepted: one of"),
        ("command.max_linear_speed", 1, "'command.max_linear_speed' is 1; accepted: a double"),
        ("command.max_linear_speed", -1.0, "is -1.0; accepted: 0.001 to 10"),
        ("command.max_linear_sped", 1.0, "unknown; accepted: .*'command.max_linear_speed'"),
        ("dry_run", "yes please", "'dry_run' is 'yes please'; accepted: a bool"),
    ],
)
def test_a_bad_value_is_named_in_one_line(tmp_path, key, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_robot_file(written(tmp_path, body("ur5e") | {key: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", MUST_BE_GIVEN)
def test_a_missing_key_is_not_the_pandas(tmp_path, key):
    values = body("ur5e")
    del values[key]
    with pytest.raises(ValueError, match=f"'{key}' is .*; accepted: ") as caught:
        read_robot_file(written(tmp_path, values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command.max_linear_speed": None}, "'command.max_linear_speed' is missing"),
        ({"workspace.z_min": None}, "'workspace.z_min' is missing"),
        ({"command.max_linear_sped": 0.1}, "unknown; accepted: .*'command.max_linear_speed'"),
    ],
)
def test_the_node_says_the_same_at_configure(world, capfd, change, message):
    values = {key: value for key, value in (body("ur5e") | change).items() if value is not None}
    node = world.add(VlaNode, parameters=values)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "configure failed" in line]
    assert re.search(message, line)
    for key in change:
        if key in body("ur5e"):  # what was missing may be set before the next attempt
            node.set_parameters([Parameter(key, value=body("ur5e")[key])])
            node._check_given(read(node, VlaNodeParameters))


def test_groups_may_be_nested_and_every_node_takes_sim_time(tmp_path):
    values = body("ur5e") | {"use_sim_time": True, "sync": {"tolerance_sec": 0.02}}
    del values["sync.tolerance_sec"]
    assert read_robot_file(written(tmp_path, values)).sync.tolerance_sec == 0.02


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vla_node:\n  ros__parameters: {}\n", r"keys are \['vla_node'\]"),
        ("/**: {}\n", "accepted: a mapping"),
        ("[1, 2\n", "robot.yaml: "),
        ("", "keys are None"),
    ],
)
def test_what_is_no_parameter_file_is_said(tmp_path, text, message):
    path = tmp_path / "robot.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_robot_file(path)
    with pytest.raises(ValueError, match="nowhere"):
        read_robot_file(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", FILES)
def test_a_robot_names_every_topic_that_it_is_wired_to(name):
    wired = {f"topics.{info.name}" for info in parameters_of(TopicParameters)}
    if body(name).get("gripper.action") != "joint_state":
        wired.remove("topics.gripper_joint")
    assert wired <= set(body(name))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("topics.imag: /a", "'topics.imag' is unknown; .* 'topics.image'"),
        ("topics.twist: ''", "'topics.twist' is ''; accepted: the name of a topic"),
        ("topics.twist: a b", "'topics.twist' is 'a b'; accepted: the name of a topic"),
        ("topics.twist: 1", "'topics.twist' is 1; accepted: a string"),
    ],
)
def test_what_a_file_says_of_topics_is_checked(tmp_path, line, message):
    path = tmp_path / "cell.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    {line}\n")
    with pytest.raises(ValueError, match=message):
        read_robot_file(path)


@pytest.mark.parametrize("name", ["/a/b", "~/a", "{ns}/a", "a{node}_2", "_a"])
def test_names_that_ros_takes_are_taken(name):
    validate_full_topic_name(expand_topic_name(name, "node", "/ns"))
    assert ROS_NAME.fullmatch(name)


@pytest.mark.parametrize("frame", ["robot.tip_frame", "robot.base_frame"])
def test_an_unknown_frame_is_named(frame):
    other = {"command.frame_id": "", frame: "nose"}
    parameters = with_values(read_robot_file(FILES["ur5e"]), other)
    with pytest.raises(HeisdError, match=f"{frame}' 'nose'.*no link 'nose'"):
        make_reader(parameters, urdf_of("ur5e"))


@pytest.mark.parametrize("name", ROBOTS)
def test_recordings_are_read_with_what_the_node_commands_by(name):
    cell = read_cell_file(FILES[name])
    layout = recording_layout(cell, None)
    assert layout.images == cell.recording.images and len(layout.images) == 2
    assert layout.tolerance_sec == cell.sync.tolerance_sec
    assert layout.action.frame == cell.command_frame
    assert layout.action.translation_scale == cell.command.translation_scale
    assert layout.gripper_joints and "" not in layout.gripper_joints


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recording.image: [/a]", "'recording.image' is unknown; .* 'recording.images'"),
        ("recording.images: ['']", r"'recording.images' is \[''\]; accepted: topics"),
        ("recording.action: joints", "'recording.action' is 'joints'; accepted: one of"),
        ("recording.action: pose", "'recording.action_topic' is ''; accepted: a topic"),
        ("recording.action_topic: /a", "'recording.action_topic' is '/a'; accepted: empty"),
        ("recording.pause_sec: -1.0", "'recording.pause_sec' is -1.0; accepted: 0 to 3600"),
    ],
)
def test_what_a_file_says_of_recordings_is_checked_too(tmp_path, line, message):
    path = tmp_path / "cell.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    {line}\n")
    with pytest.raises(ValueError, match=message):
        read_robot_file(path)


def test_the_node_leaves_recordings_and_topics_alone(world):
    for name in ("recording.joint_states", "topics.joint_states"):
        node = world.add(VlaNode, parameters={name: "/joint_states"})
        assert not node.has_parameter(name)
        node._check_given(VlaNodeParameters())
