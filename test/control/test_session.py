"""What a model takes and answers with has to fit what the parameters say."""

from __future__ import annotations

from pathlib import Path

import pytest

from heisd_ros.control.policy import Policy, least_actions
from heisd_ros.control.session import check_actions, check_chunk, check_robot, check_views
from heisd_ros.errors import DatabaseError
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters


def policy_of(**given):
    fields = {"views": ("a",), "image_size": 32, "proprio_size": 0, "rate_hz": 20.0}
    return Policy(decoder=None, folder=Path("model"), instructions=None, **(fields | given))


def check(horizon, values, proprio_size=0):
    parameters = from_values(VlaNodeParameters, values)
    least = least_actions(parameters)
    policy = policy_of(proprio_size=proprio_size, horizon=horizon, least_actions=least)
    check_actions(policy, parameters)
    check_chunk(policy, parameters)


@pytest.mark.parametrize(
    ("horizon", "values", "said"),
    [
        (10, {"chunk.execute": 11}, "'chunk.execute' is 11; accepted: up to 10, the actions in"),
        (10, {"chunk.blend": 11}, "'chunk.blend' is 11; accepted: up to 10"),
        (0, {"chunk.execute": 3, "chunk.blend": 4}, "'chunk.blend' is 4; accepted: up to 'chunk"),
        (0, {"chunk.execute": -1}, "'chunk.execute' is -1"),
        (10, {"command.rate_hz": 10.0}, "'command.rate_hz' is 10; accepted: 0, or at least 20"),
        (30, {}, "'command.max_action_age_sec' is 1; accepted: more than 1.5, the time that the"),
        (10, {"model.control_rate_hz": 5.0}, "accepted: more than 2, the time that the 10 actions"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(horizon, values, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        check(horizon, values)


def test_one_action_is_checked_for_nothing_and_one_of_many_neither():
    slow = {"command.rate_hz": 10.0, "model.control_rate_hz": 0.5}
    check(1, slow)
    check(0, slow)
    check(50, {**slow, "chunk.execute": 1})
    check(50, {"command.stamp": "observation"})
    check(10, {"command.rate_hz": 20.0, "chunk.execute": 10, "chunk.blend": 10})


def test_a_state_of_another_size_is_refused_with_what_fits():
    check(1, {}, proprio_size=7)
    check(1, {"model.state": "pose"}, proprio_size=8)
    said = "'end_effector', which is 7 numbers; accepted: 'pose' or 'joints', as"
    with pytest.raises(ValueError, match=said):
        check(1, {}, proprio_size=8)
    with pytest.raises(ValueError, match=r"accepted: none, as the model .* takes 32"):
        check(1, {}, proprio_size=32)


def test_views_that_share_a_topic_are_refused():
    check_views(policy_of(views=("a", "a b", "c")))
    with pytest.raises(ValueError, match="have the topics"):
        check_views(policy_of(views=("a", "a b", "a/b")))


def test_a_description_with_an_undeclared_prefix_has_its_name():
    """As the kinematics reads it: exporters leave such elements behind."""
    text = panda_urdf().replace("</robot>", "<gazebo:plugin/></robot>")
    check_robot(policy_of(robot="panda"), text)
    with pytest.raises(DatabaseError, match="description is of 'panda'"):
        check_robot(policy_of(robot="ur5e"), text)
