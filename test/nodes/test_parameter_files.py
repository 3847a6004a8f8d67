"""`heisd check` and a node read one parameter file alike: each value is given to both."""

from __future__ import annotations

import signal

import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from support.robots import robot_files
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.files.ros_yaml import parse_yaml
from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.robot_file import _as_ros, read_robot_file

SCALARS = [
    "y",
    "n",
    "Y",
    "N",
    "yes",
    "No",
    "on",
    "OFF",
    "true",
    "TRUE",
    "tRUE",
    "oN",
    "~",
    "null",
    "Null",
    "1",
    "+1",
    "-7",
    "00",
    "-0",
    "010",
    "08",
    "0x1F",
    "0X1f",
    "0xg",
    "0x",
    "0o17",
    "0b11",
    "1_000",
    "1,5",
    "--1",
    "+-1",
    "1:30",
    "2020-01-01",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "0777777777777777777777777",
    "0x1fffffffffffffffffff",
    "1.0",
    "1.",
    ".5",
    ".",
    "e5",
    "1e",
    "2e-2",
    "2E3",
    "1e+5",
    "1e5x",
    "-0.0",
    "0e-400",
    "1e400",
    "1e-400",
    "1e-310",
    "4.9e-324",
    "0x1p3",
    "0x1.8",
    "-0x10",
    ".inf",
    "-.inf",
    "+.Inf",
    ".nan",
    "-.nan",
    ".NaN",
    "nan",
    "inf",
    "-Infinity",
    "nan(1)",
    "=",
    "<<",
    "a-b",
    '"1"',
    "'true'",
    '"y"',
    "''",
    '"a\\tb"',
]
MORE = ["!!str 5", '!!int "5"', "!!float 5", "! 5", "a b", "&a 5"]
LISTS = [
    "[1, 2]",
    "[1.0, 2e3]",
    "[a, 'b']",
    "[true, n]",
    '["1", b]',
    "&b [1]",
    "\n    - 1\n    - 2",
]
VALUES = [*SCALARS, *MORE, *LISTS]
REFUSED = ["", "*a", "[1, 2.0]", "[a, 1]", "[[1], [2]]", "[]", "{}", "[1", "@a", "`a", "%a", "a: b"]


def in_file(*values):
    """A parameter file in which values have the names p0, p1, ..."""
    lines = (f"    p{i}: {value}\n" for i, value in enumerate(values))
    return f"/**:\n  ros__parameters:\n{''.join(lines)}"


def as_a_node_reads(path):
    """The parameters of a node that is given a file."""
    context = Context()
    rclpy.init(context=context, args=["--ros-args", "--params-file", str(path)])
    try:
        node = Node("reader", context=context, automatically_declare_parameters_from_overrides=True)
        values = {name: parameter.value for name, parameter in node._parameters.items()}
        node.destroy_node()
    finally:
        context.try_shutdown()
    plain = bool | int | float | str
    return {n: v if isinstance(v, plain) else tuple(v) for n, v in values.items() if v is not None}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Every value as this package reads it, and as a node does."""
    path = tmp_path_factory.mktemp("values") / "p.yaml"
    path.write_text(in_file(*VALUES))
    return parse_yaml(path.read_text())["/**"]["ros__parameters"], as_a_node_reads(path)


@pytest.mark.parametrize("number", range(len(VALUES)), ids=VALUES)
def test_a_value_is_what_the_node_takes_it_for(both, number):
    ours, theirs = (values[f"p{number}"] for values in both)
    ours = _as_ros("p", ours)
    assert repr(ours) == repr(theirs) and type(ours) is type(theirs)


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_node_cannot_take_is_refused(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(in_file(text))
    with pytest.raises(ValueError):
        read_robot_file(path)
    with pytest.raises((ValueError, RuntimeError)):
        as_a_node_reads(path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("dry_run: true\n    dry_run: false", "line 4: the key 'dry_run' stands twice"),
        ("robot: {source: panda}\n    robot.source: panda", "'robot.source' stands twice"),
        ("robot: {}", "parameter 'robot' is {}; accepted: a value"),
        ("robot.gripper_joints: []", r"'robot.gripper_joints' is \[\]; accepted: a list of one"),
        ("instruction:", "parameter 'instruction' has no value; accepted: one"),
        ("instruction: null\n    dry_run: ~", "'dry_run' is '~'; accepted: a bool"),
        (
            "command.max_linear_speed: 1e400",
            "'command.max_linear_speed' is '1e400'; accepted: a do",
        ),
        ("a: {b.c: {d: 1}}", "group 'a.b.c' is written 'b.c'; accepted: a level for each dot"),
        ("instruction: [{a: 1}]", r"'instruction' is \[{'a': 1}\]; accepted: a list of one type"),
    ],
)
def test_what_the_file_cannot_mean_is_refused(tmp_path, more, message):
    path = tmp_path / "p.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    {more}\n")
    with pytest.raises(ValueError, match=message) as error:
        read_robot_file(path)
    assert "\n" not in str(error.value)
    said = CliRunner().invoke(app, ["check", str(path)])
    assert said.exit_code == 1 and said.output.count(str(path)) == 1


@pytest.mark.parametrize("value", ["2e-2", "0.02", "+2.0e-2"])
def test_a_number_may_be_written_as_ros_takes_it(tmp_path, value):
    path = tmp_path / "p.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    sync.tolerance_sec: {value}\n    dry_run: n\n")
    settings = read_robot_file(path)
    assert settings.sync.tolerance_sec == 0.02 and settings.dry_run is False


@pytest.mark.parametrize("name", robot_files())
def test_a_shipped_file_has_the_same_values_for_both(name):
    path = robot_files()[name]
    theirs = as_a_node_reads(path)
    for key, value in parse_yaml(path.read_text())["/**"]["ros__parameters"].items():
        assert theirs[key] == _as_ros(key, value)


def test_an_empty_list_fails_configure_in_one_line_and_can_be_put_right(world, tmp_path, capfd):
    path = tmp_path / "p.yaml"
    path.write_text("/**:\n  ros__parameters:\n    robot.gripper_joints: []\n")
    node = world.add(VlaNode, cli_args=["--ros-args", "--params-file", str(path)])
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if "configure failed" in line]
    assert "parameter 'robot.gripper_joints' is []; accepted: a list of one type" in line
    assert "Traceback" not in said
    node.set_parameters([rclpy.parameter.Parameter("robot.gripper_joints", value=["a"])])
    assert not node._refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "/**:\n  ros__parameters:\n    dry_run: true\n    dry_run: false\n",
            "'dry_run' stands tw",
        ),
        ("/**:\n  ros__parameters:\n    a: &a 1\n    b: *a\n", "line 4: the alias *a"),
        ("/**:\n  ros__parameters:\n    a: [1, 2.0]\n", "Sequence should be of same type"),
        (None, "is missing"),
    ],
)
def test_a_node_does_not_start_with_a_file_that_says_two_things(tmp_path, capfd, text, message):
    path, before = (
        tmp_path / "p.yaml",
        [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
    )
    if text is not None:
        path.write_text(text)

    def make():
        pytest.fail("the node was made")

    arguments = ["node", "--ros-args", "--params-file", str(path)]
    assert run_node(make, lambda *_: 0, arguments) == 1
    said = capfd.readouterr().err
    assert message in said and "p.yaml" in said and "Traceback" not in said
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
