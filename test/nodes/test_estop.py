"""What was said before an emergency stop moves nothing after it, whatever the node went through."""

from __future__ import annotations

import time

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.cell import LIMITS, ZERO, Cell

from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS, panda_urdf
from heisd_ros.nodes import qos
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS = TransitionCallbackReturn.SUCCESS
SETTINGS = {
    **LIMITS,
    "command.max_action_age_sec": 10.0,
    "input.image_timeout_sec": 10.0,
    "input.joint_state_timeout_sec": 10.0,
}


@pytest.fixture
def start(world):
    """An active node in a cell; its arm moves as soon as there is an instruction."""

    def start(parameters):
        cell = world.add(Cell, views=("image",))
        node = world.add(VlaNode, load_free, parameters={**SETTINGS, **parameters})
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        cell.until = lambda condition, what: world.spin_until(condition, what, cell.publish)
        cell.wants_motion = lambda: bool(cell.heard) and cell.heard[-1].twist != ZERO
        return cell, node

    return start


@pytest.mark.parametrize("said_by", ["parameter", "latched topic"])
def test_what_was_said_before_the_stop_moves_nothing_after_cleanup_and_configure(
    world, start, said_by
):
    cell, node = start({"instruction": "go" if said_by == "parameter" else ""})
    latched = cell.create_publisher(String, "/vla_node/input/instruction", qos.latched())
    if said_by == "latched topic":
        latched.publish(String(data="go"))
    cell.until(cell.wants_motion, "motion")
    world.call(Trigger, "/vla_node/estop")
    world.call(Trigger, "/vla_node/reset_estop")
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    since, held = time.monotonic(), len(cell.holds())
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    cell.until(lambda: cell.holds()[held:].count("no_instruction") > 30, "the hold")
    after = [heard.twist for heard in cell.heard if heard.sent > since]
    assert after and all(twist == ZERO for twist in after)
    if said_by == "parameter":
        assert node.get_parameter("instruction").value == ""
        node.set_parameters([Parameter("instruction", value="go")])
    else:
        latched.publish(String(data="go"))
    cell.until(cell.wants_motion, "motion, as it was said again")


def test_another_robot_description_is_refused_while_the_arm_may_move(world, start):
    own = [(info.name, info.default) for info in parameters_of(VlaNodeParameters) if info.own]
    arm = {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in own},
        **LIMITS,
        "robot.source": "topic",
        "robot.tip_frame": "panda_hand_tcp",
        "robot.base_frame": "panda_link0",
        "command.frame_id": "panda_link0",
        "robot.joint_names": list(PANDA_JOINTS),
        "robot.gripper_joints": list(PANDA_FINGER_JOINTS),
        "instruction": "go",
    }
    cell, node = start(arm)
    cell.description.publish(String(data=panda_urdf()))
    cell.until(cell.wants_motion, "motion")
    session, reader = node._session, node._session.buffer._reader
    chain = "".join(f"<link name='l{number}'/>" for number in range(20_000))
    for text in (
        panda_urdf(),
        panda_urdf() + "\n",
        f"<robot name='r'>{chain}</robot>",
        "x" * 10**7,
    ):
        cell.description.publish(String(data=text))
        told = "" if text == panda_urdf() else "robot_description refused: "
        world.spin_for(0.1, cell.publish)
        cell.until(lambda told=told: (session.refused_robot != "") == (told != ""), "a refusal")
        cell.until(cell.wants_motion, "motion")
        if told:
            cell.until(lambda told=told: cell.named(told), "the diagnostic")
    size = "message has 10000009 bytes; accepted: up to 4000000"
    cell.until(lambda: size in session.refused_robot, "the refusal of the last")
    assert session.buffer._reader is reader and session.urdf == panda_urdf()

    assert node.trigger_deactivate() == SUCCESS
    cell.description.publish(String(data=panda_urdf() + "\n"))
    world.spin_until(lambda: session.urdf == panda_urdf() + "\n", "the description")
    assert session.refused_robot == ""
