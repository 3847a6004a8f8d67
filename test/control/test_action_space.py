"""What the model's actions are is known at configure, and fits the interface and the robot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.serving import LAYOUT, Counting, observation, openpi_serving, serving

from heisd_ros.control.commands import CommandMapper
from heisd_ros.control.inference import joint_state
from heisd_ros.control.policy import Policy, action_space, load_policy
from heisd_ros.control.remote_policy import layout_of
from heisd_ros.control.session import check_actions
from heisd_ros.errors import RemoteModelError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.gripper_parameters import GripperParameters
from heisd_ros.robot.parameters import VlaNodeParameters

JOINTS = {"command.interface": "joint_velocity"}
FOLDER = Path("/models/some")
POLICY = Policy(None, FOLDER, ("image",), 32, 0, 20.0, None)


def settings(**values):
    return with_values(VlaNodeParameters(), values)


@pytest.mark.parametrize(
    ("said", "given", "space"),
    [
        ("end_effector", {}, "end_effector"),
        ("end_effector", JOINTS, "end_effector"),
        ("", {}, "end_effector"),
        ("", {**JOINTS, "model.action_space": "joint_position"}, "joint_position"),
        ("joint_velocity", JOINTS, "joint_velocity"),
    ],
)
def test_the_model_says_it_or_the_parameter(said, given, space):
    assert action_space(settings(**given), "some", said) == space


@pytest.mark.parametrize(
    ("said", "given", "words"),
    [
        ("", JOINTS, r"'model\.action_space' is ''; accepted: one of 'end_effector', 'joint_vel"),
        (
            "end_effector",
            {**JOINTS, "model.action_space": "joint_velocity"},
            r"is 'joint_velocity'; accepted: 'end_effector' or ''",
        ),
    ],
)
def test_what_is_not_known_or_contradicts_is_refused(said, given, words):
    with pytest.raises(ValueError, match=words):
        action_space(settings(**given), "some", said)


@pytest.mark.parametrize(
    ("policy", "given", "words"),
    [
        (
            {"action_space": "joint_velocity", "action_size": 8},
            {},
            r"'command\.interface' is 'twist'; accepted: 'joint_velocity' or 'joint_position'",
        ),
        (
            {"action_space": "joint_velocity", "action_size": 7},
            JOINTS,
            r"'robot\.joint_names' is \['panda_joint1', .*accepted: 6 joints, as an action of",
        ),
        (
            {"action_space": "joint_velocity", "action_size": 8, "proprio_size": 7},
            {**JOINTS, "model.state": "joints"},
            r"'model\.state' is 'joints', which is 8 numbers; accepted: 'end_effector', as .* 7",
        ),
        (
            {"proprio_size": 8},
            {},
            r"'model\.state' is 'end_effector', .* accepted: 'pose' or 'joints', as",
        ),
        ({"proprio_size": 3}, {}, r"'model\.state' is 'end_effector', .* accepted: none, as the"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(policy, given, words):
    with pytest.raises(ValueError, match=words):
        check_actions(replace(POLICY, **policy), settings(**given))


def test_a_model_that_fits_is_not():
    joints = replace(POLICY, action_space="joint_velocity", action_size=8, proprio_size=8)
    check_actions(joints, settings(**JOINTS, **{"model.state": "joints"}))
    check_actions(POLICY, settings(**JOINTS))
    check_actions(POLICY, settings())


@pytest.mark.parametrize(
    ("said", "size", "given", "words"),
    [
        (
            "end_effector",
            7,
            {**JOINTS, "model.action_space": "joint_velocity"},
            r"ws://.* says its",
        ),
        ("joint_velocity", 8, {**JOINTS, "model.action_space": "joint_position"}, "'joint_veloc"),
        ("", 7, JOINTS, r"'model\.action_space' is ''; accepted: one of"),
        (
            "joint_position",
            8,
            {**JOINTS, "teleop.joy_topic": "joy"},
            "a person commands the end effector",
        ),
    ],
)
def test_what_a_server_says_of_its_actions_fits_the_parameters(said, size, given, words):
    layout = replace(LAYOUT, action_space=said, dimensions=size)
    with serving(Counting(), layout) as server:
        given = {**given, "model.path": server.uri}
        with pytest.raises(ValueError, match=words):
            load_policy(settings(**given))
        fitting = replace(settings(**JOINTS), model=settings(**{"model.path": server.uri}).model)
        if said:  # the first client is gone, and another one is taken
            policy = load_policy(fitting)
            assert (policy.action_space, policy.action_size) == (said, size)
            policy.close()


DROID = (
    "?views=agentview:observation/exterior_image_1_left,wrist:observation/wrist_image_left"
    "&state=observation/joint_position,observation/gripper_position&rate_hz=15"
)
JOINT_MODEL = {**JOINTS, "model.action_space": "joint_velocity", "model.state": "joints"}


def test_a_server_of_openpis_drives_the_joints_where_the_parameters_say_so():
    asked, actions = [], np.arange(80.0, dtype=np.float32).reshape(10, 8)

    def answer(question):
        asked.append(question)
        return actions[:, : 8 - (question["prompt"] == "seven")]

    with openpi_serving(answer) as uri:
        given = settings(**JOINT_MODEL, **{"model.path": uri + DROID})
        policy = load_policy(given)
        assert (policy.action_space, policy.action_size) == ("joint_velocity", 8)
        assert (policy.proprio_size, policy.rate_hz) == (8, 15.0)
        check_actions(policy, given)
        state = np.arange(8, dtype=np.float32)
        seen = replace(observation(), proprio=state)
        np.testing.assert_array_equal(policy.decoder.infer(seen).actions, actions)
        (question,) = asked
        assert set(question) == {
            "observation/exterior_image_1_left",
            "observation/wrist_image_left",
            "observation/joint_position",
            "observation/gripper_position",
            "prompt",
        }
        np.testing.assert_array_equal(question["observation/joint_position"], state[:7])
        np.testing.assert_array_equal(question["observation/gripper_position"], state[7:])
        with pytest.raises(RemoteModelError, match=r"\(10, 7\).*accepted: .*\(H, 8\).*joint_vel"):
            policy.decoder.infer(replace(seen, instruction="seven"))
        policy.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (JOINTS, r"'model\.action_space' is ''; accepted: one of"),
        ({**JOINT_MODEL, "teleop.joy_topic": "joy"}, "a person commands the end effector"),
    ],
)
def test_what_a_server_of_openpis_does_not_say_is_refused_where_it_matters(given, words):
    nothing = openpi_serving(lambda question: np.zeros((1, 8)))
    with nothing as uri, pytest.raises(ValueError, match=words):
        load_policy(settings(**given, **{"model.path": uri}))


def test_a_server_of_openpis_gets_the_state_that_the_parameters_say():
    with openpi_serving(lambda question: np.zeros((1, 7))) as uri:
        policy = load_policy(settings(**{"model.path": uri, "model.state": "pose"}))
        assert policy.proprio_size == 8 and policy.action_space == "end_effector"
        policy.close()
        with pytest.raises(RemoteModelError, match="option 'state' is 'a,b,c': accepted: one key"):
            load_policy(settings(**{"model.path": f"{uri}?state=a,b,c"}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_size": 8}, "dimensions is 8; accepted: 7, an end-eff"),
        ({"action_size": 8, "space_known": False}, "dimensions is 8; accepted: 7"),
        ({"action_space": "joint_velocity", "action_size": 1}, "is 1; accepted: 2 to 64, the joi"),
        ({"action_space": "tendons"}, "action_space is 'tendons'; accepted: '', 'end_effector'"),
    ],
)
def test_actions_that_cannot_be_served(changes, words):
    with pytest.raises(ValueError, match=words):
        layout_of(replace(POLICY, **changes), "ar", "")


def test_a_server_says_what_it_knows_of_its_actions():
    joints = {"action_space": "joint_position", "action_size": 6, "proprio_size": 6}
    said = layout_of(replace(POLICY, **joints), "ar", "")
    assert (said.action_space, said.dimensions, said.proprio_size) == ("joint_position", 6, 6)
    assert layout_of(replace(POLICY, space_known=False), "ar", "").action_space == ""


def test_an_action_of_joints_is_scaled_and_its_last_number_is_the_gripper():
    given = settings(**JOINTS, **{"command.joint_scale": 3.0, "gripper.open_action": 0.0})
    mapper = CommandMapper(given, 15.0, "joint_velocity")
    action = np.array([0.1, -0.2, 0.3, 0.4, 0.5, 0.6, 1.0, 1.0])
    np.testing.assert_allclose(mapper.motion(action), action[:7] * 3.0)
    assert mapper.gripper_openness(action) == 0.0
    step = CommandMapper(settings(), 20.0)
    np.testing.assert_array_equal(step.motion(action[:7]), step.twist(action[:7]))


def test_a_state_of_joints_ends_with_the_gripper_in_the_numbers_of_the_action():
    """DROID: 0 is open, 1 closed."""
    kinematics = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    gripper = GripperParameters(open_action=0.0, closed_action=1.0, open_position=0.08)
    for opening, number in ((0.08, 0.0), (0.02, 0.75), (0.0, 1.0), (0.1, 0.0)):
        arm = ArmState(kinematics, np.arange(7.0), None, opening)
        np.testing.assert_allclose(joint_state(arm, gripper), [*range(7), number])
