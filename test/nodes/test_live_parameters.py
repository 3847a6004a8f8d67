"""Parameters of an active node: those that are live take effect at once, the others say why not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from support.recorder import numbers
from support.ros import Bench

from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS = TransitionCallbackReturn.SUCCESS
ALL_LIMITS = {
    "command.rate_hz": 50.0,
    "command.max_linear_speed": 0.05,
    "command.max_linear_acceleration": 1.0,
    "workspace.z_min": 0.0,
    "workspace.z_max": 0.95,
    "joints.slow_rad": 0.2,
    "joints.stop_rad": 0.05,
    "singularity.slow": 17.0,
    "singularity.stop": 30.0,
}
SMALL = {"min": -0.9, "max": 0.9}


@pytest.fixture
def active(world, checkpoint):
    """A bench and an active node that moves slowly."""
    bench = world.add(Bench)
    settings = {
        "command.max_linear_speed": 0.05,
        "input.image_timeout_sec": 10.0,
        "command.max_action_age_sec": 10.0,
    }
    node = world.vla_node(checkpoint, settings)
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    return bench, node


def put(node, **values):
    """Sets parameters together; `__` stands for a dot."""
    parameters = [Parameter(name.replace("__", "."), value=v) for name, v in values.items()]
    return node.set_parameters_atomically(parameters)


def test_a_limit_takes_effect_while_the_arm_moves(world, active):
    bench, node = active
    speeds = lambda: [np.linalg.norm(numbers(twist)[:3]) for twist in bench.twists]  # noqa: E731
    assert speeds()[-1] == pytest.approx(0.05)
    assert put(node, command__max_linear_speed=0.01).successful
    world.spin_until(lambda: speeds()[-1] < 0.011, "a slower command", bench.publish)
    assert node.trigger_deactivate() == SUCCESS
    assert put(node, command__max_linear_speed=0.05).successful  # by which the others are judged


def test_an_age_takes_effect(world, active):
    bench, node = active
    bench.image_of["image"] = lambda stamp: None
    world.spin_for(0.8, bench.publish)
    assert "stale_image" not in bench.holds() and "action_too_old" not in bench.holds()
    assert put(node, input__image_timeout_sec=0.2).successful
    world.spin_until(lambda: "stale_image" in bench.holds(), "stale_image", bench.publish)
    assert numbers(bench.twists[-1]) == [0.0] * 6


def test_values_that_do_not_fit_each_other_are_refused_by_name_and_change_nothing(active):
    _, node = active
    refused = put(node, workspace__x_min=0.5, workspace__x_max=0.4)
    assert not refused.successful and "'workspace.x_min' is 0.5" in refused.reason
    refused = put(node, command__max_linear_jerk=5.0)
    assert not refused.successful and "'command.max_linear_acceleration' is 0.0" in refused.reason
    assert node.get_parameter("workspace.x_min").value == -10.0
    assert node._session.parameters.command.max_linear_jerk == 0.0
    assert put(node, workspace__x_min=0.3, workspace__x_max=0.4).successful
    assert node._session.parameters.workspace.x_max == 0.4


@pytest.mark.parametrize(
    ("name", "looser", "tighter"),
    [
        ("command.max_linear_speed", 0.06, 0.04),
        ("command.max_linear_acceleration", 0.0, None),
        ("input.image_timeout_sec", 20.0, 0.2),
        ("input.frozen_motion_rad", 0.0, 0.1),
        ("workspace.z_min", -10.0, 0.1),
        ("workspace.z_max", 1.0, 0.9),
        ("joints.stop_rad", 0.0, 0.06),
        ("singularity.slow", 0.0, 15.0),
        ("sync.tolerance_sec", 0.2, 0.0),
    ],
)
def test_a_limit_is_only_tightened_while_the_arm_may_move(world, checkpoint, name, looser, tighter):
    node = world.add(VlaNode, parameters={"model.path": str(checkpoint), **ALL_LIMITS})
    assert node.trigger_configure() == SUCCESS
    before = node.get_parameter(name).value
    assert node.trigger_activate() == SUCCESS
    (refused,) = node.set_parameters([Parameter(name, value=looser)])
    assert not refused.successful and f"nothing looser than {before!r}" in refused.reason
    assert f"'{name}' is {looser!r}" in refused.reason
    assert node.get_parameter(name).value == before
    if tighter is not None:
        (taken,) = node.set_parameters([Parameter(name, value=tighter)])
        assert taken.successful, taken.reason
    assert node.trigger_deactivate() == SUCCESS
    (taken,) = node.set_parameters([Parameter(name, value=before)])
    assert taken.successful, taken.reason


def test_the_slow_zone_of_commanded_joints_is_not_narrowed_though_it_was_not_set(world, checkpoint):
    values = {"model.path": str(checkpoint), "command.interface": "joint_velocity"}
    values |= {"command.rate_hz": 50.0, "joints.max_acceleration": 10.0}
    node = world.add(VlaNode, parameters=values)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    (refused,) = node.set_parameters([Parameter("joints.slow_rad", value=0.01)])
    assert not refused.successful and "nothing looser than 0.1" in refused.reason
    (taken,) = node.set_parameters([Parameter("joints.slow_rad", value=0.2)])
    assert taken.successful, taken.reason
    (refused,) = node.set_parameters([Parameter("joints.max_acceleration", value=0.2)])
    assert not refused.successful and "all joints stop from their limits" in refused.reason


def changed(info):
    """Some other value of a parameter that is accepted."""
    if info.choices:
        return next(choice for choice in info.choices if choice != info.default)
    if isinstance(info.default, bool):
        return not info.default
    if isinstance(info.default, int | float):
        other = info.low if info.default != info.low else info.high
        return type(info.default)(other)
    return ["other"] if isinstance(info.default, tuple) else "other"


def test_all_others_are_refused_by_name(active):
    _, node = active
    for info in parameters_of(VlaNodeParameters):
        if not info.live:
            refused = node.set_parameters([Parameter(info.name, value=changed(info))])[0]
            assert not refused.successful and refused.reason, info.name
            assert info.read_only or f"'{info.name}' takes effect at configure" in refused.reason


def test_every_live_parameter_reaches_those_who_act_on_it(active):
    """Each live value is found again, beside the parameters, in what the loop works with."""
    _, node = active
    before = node._control._driver._filter.limits, node._session.buffer.limits
    assert put(
        node,
        command__max_angular_speed=15.0,
        joints__slow_rad=0.2,
        workspace__z_max=1.0,
        sync__tolerance_sec=0.02,
        gripper__hysteresis=0.3,
        model__budget_sec=5.0,
    ).successful
    after = node._control._driver._filter.limits, node._session.buffer.limits
    assert after[0].angular == dataclasses.replace(before[0].angular, speed=15.0)
    assert after[0].joints.slow_rad == 0.2 and after[0].workspace.high[2] == 1.0
    assert after[1] == dataclasses.replace(before[1], sync_tolerance_sec=0.02)
    assert node._control._watch.parameters.model.budget_sec == 5.0
    assert node._control.arm.gripper._parameters.gripper.hysteresis == 0.3


def test_the_box_in_the_pictures_is_the_one_in_force(active):
    _, node = active
    assert node._views.box is None
    ends = {f"workspace__{axis}_{end}": value for axis in "xyz" for end, value in SMALL.items()}
    assert put(node, **ends).successful
    assert node._views.box == ((-0.9,) * 3, (0.9,) * 3)
