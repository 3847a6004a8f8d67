"""Commands over real DDS: smooth, held for every reason, in each of the three ways."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from heisd_ros.action import Execute
from heisd_ros.msg import ActionDelta
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.directed import Directed, directing
from support.fake_scene import REST
from support.recorder import DEFAULTS, numbers
from support.ros import image, joint_state
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.nodes.vla_node import VlaNode

SUCCESS = TransitionCallbackReturn.SUCCESS
ZERO = [0.0] * 6
TIP = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE).forward(REST)
RATE_HZ = 50.0
RESTS_SEC = DEFAULTS["command.controller_timeout_sec"]
"""Time without a command after which a controller has stopped, and the next begins from rest."""
SMOOTH = {
    "command.rate_hz": RATE_HZ,
    "command.max_linear_speed": 0.2,
    "command.max_angular_speed": 1.0,
    "command.max_linear_acceleration": 1.0,
    "command.max_angular_acceleration": 5.0,
    "command.max_linear_jerk": 20.0,
    "command.max_angular_jerk": 100.0,
}
ACTION = np.array([1.0, 0.5, -0.5, 0.0, 0.3, 0.0, -1.0])


class Puppet(Directed):
    """A decoder whose action the test chooses, and which hangs or dawdles on request."""

    def __init__(self, decoder):
        super().__init__(decoder)
        self.action, self.total_ms = ACTION, None

    def infer(self, observation):
        result = self.answer(observation)
        timings = dict(result.timings_ms)
        timings["total"] = self.total_ms or timings["total"]
        return replace(result, action=np.array(self.action), timings_ms=timings)


@pytest.fixture
def start(world, checkpoint):
    """Starts a bench and an active node, whose decoder is given back."""
    with directing(world, checkpoint, Puppet) as begin:
        yield begin


def listen(bench, kind, name):
    heard = []
    bench.create_subscription(kind, f"/vla_node/output/{name}", heard.append, 100)
    return heard


def speeds(twists):
    return np.array([np.linalg.norm(numbers(twist)[:3]) for twist in twists])


def assert_smooth(twists):
    """Within speed and acceleration by the stamps, and within jerk by the tick.

    Commands that are late in a row count for more ticks, and after a gap that is longer than the
    timeout of a controller they start from rest: on a busy machine the jerk is not judged.
    """
    sent = np.array([ZERO] + [numbers(twist) for twist in twists])
    stamps = np.array([stamp_ns(twist) for twist in twists]) / NANOSECONDS
    ticks = np.concatenate([[1.0 / RATE_HZ], np.diff(stamps)])
    late, rested = ticks > 1.9 / RATE_HZ, ticks > RESTS_SEC
    busy = np.any(rested) or np.any(late[2:] & late[1:-1] & late[:-2])
    before = np.where(rested[:, None], 0.0, sent[:-1])
    for part, name in ((slice(0, 3), "linear"), (slice(3, 6), "angular")):
        length = lambda values: np.linalg.norm(values, axis=1)  # noqa: E731
        change = sent[1:, part] - before[:, part]
        jerk = np.diff(change, axis=0, prepend=np.zeros((1, 3))) * RATE_HZ**2
        limit = {kind: SMOOTH[f"command.max_{name}_{kind}"] for kind in ("speed", "jerk")}
        assert length(sent[:, part]).max() <= limit["speed"] * (1 + 1e-9)
        assert busy or length(jerk).max() <= limit["jerk"] * (1 + 1e-6)
        acceleration = SMOOTH[f"command.max_{name}_acceleration"]
        assert (length(change) <= acceleration * ticks * 1.05 + 1e-9).all()


def test_commands_are_smooth_from_the_first_through_a_hold_to_the_last(world, start):
    bench, node, _ = start(SMOOTH)
    world.spin_until(lambda: max(speeds(bench.twists), default=0) > 0.199, "speed", bench.publish)
    assert any("linear acceleration limited to 1 m/s^2" in m.reason for m in bench.steps())
    assert any("linear speed 1.22 m/s limited to 0.2" in m.reason for m in bench.steps())
    world.call(Trigger, "/vla_node/estop")
    world.spin_until(lambda: numbers(bench.twists[-1]) == ZERO, "a stand", bench.publish)
    world.call(Trigger, "/vla_node/reset_estop")
    bench.instruction.publish(String(data=INSTRUCTIONS[0]))
    world.spin_until(lambda: speeds(bench.twists)[-1] > 0.199, "speed again", bench.publish)
    assert node.trigger_deactivate() == SUCCESS
    world.spin_for(0.2)
    assert numbers(bench.twists[-1]) == ZERO and numbers(bench.twists[-3]) != ZERO
    assert_smooth(bench.twists)


def test_telemetry_says_what_was_sent(world, start):
    bench, _, _ = start(SMOOTH)
    world.spin_until(lambda: len(bench.steps()) >= 5, "steps", bench.publish)
    world.spin_until(lambda: len(bench.twists) >= 5, "twists", bench.publish)
    sent = [numbers(twist) for twist in bench.twists]
    assert all(step.twist.tolist() in sent for step in bench.steps()[:5])
    assert not any(step.dry_run for step in bench.steps())


def test_an_action_that_another_replaced_between_two_ticks_is_told_too(world, start):
    bench, _, _ = start({"command.rate_hz": 5.0})
    told = lambda: any("replaced before" in m.reason for m in bench.steps())  # noqa: E731
    world.spin_until(lambda: told() and len(bench.steps()) > 10, "steps", bench.publish)
    assert [m.step for m in bench.steps()] == list(range(1, len(bench.steps()) + 1))
    assert len(bench.twists) < len(bench.steps())


def test_the_tip_stays_in_the_workspace(world, start):
    """The arm is where it was, whatever it is told: so nothing may lead beyond the wall."""
    wall = {"workspace.x_max": float(TIP.position[0] + 1e-6)}
    bench, _, puppet = start({**SMOOTH, **wall})
    others = lambda: min((numbers(twist)[2] for twist in bench.twists), default=0.0)  # noqa: E731
    world.spin_until(lambda: others() < -0.05, "motion along the wall", bench.publish)
    assert max(numbers(twist)[0] for twist in bench.twists) < 1e-4
    assert any("workspace: x velocity" in step.reason for step in bench.steps())
    puppet.action = -ACTION
    world.spin_until(lambda: numbers(bench.twists[-1])[0] < -0.05, "the way back", bench.publish)


def test_the_arm_keeps_off_the_table(world, start):
    """The arm is where it was, whatever it is told: so nothing may lead on downwards."""
    table = {"collision.slow_m": 0.1, "collision.stop_m": 0.03}
    height = float(TIP.position[2]) - 0.05
    bench, _, puppet = start({**SMOOTH, **table, "collision.table_z": height})
    told = lambda word: any(word in step.reason for step in bench.steps())  # noqa: E731
    world.spin_until(lambda: told("and the table are 0.0"), "the table", bench.publish)
    world.spin_for(0.3, bench.publish)
    assert -0.02 < numbers(bench.twists[-1])[2] < 1e-3
    puppet.action = -ACTION
    world.spin_until(lambda: numbers(bench.twists[-1])[2] > 0.03, "the way up", bench.publish)


def test_a_dry_run_makes_no_command_topic_and_tells_what_would_be_sent(world, start):
    bench, node, _ = start({**SMOOTH, "dry_run": True})
    world.spin_until(lambda: len(bench.steps()) >= 5, "steps", bench.publish)
    for name in ("twist", "pose", "delta", "gripper"):
        assert bench.count_publishers(f"/vla_node/output/{name}") == 0
    step = bench.steps()[-1]
    assert step.dry_run and np.linalg.norm(step.twist) > 0.01 and step.gripper == 0.08
    assert node.trigger_deactivate() == SUCCESS and not bench.twists


def arm_at(q):
    return ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE).forward(q).position


def place(message):
    p = message.pose.position
    return np.array([p.x, p.y, p.z])


def test_a_pose_begins_at_the_arm_leads_by_a_little_and_stands_in_a_hold(world, start):
    lead = {"command.max_lead_m": 0.01}
    bench, node, _ = start({**SMOOTH, "command.interface": "pose", **lead})
    poses = listen(bench, PoseStamped, "pose")
    far = lambda: poses and np.linalg.norm(place(poses[-1]) - TIP.position) > 0.009  # noqa: E731
    world.spin_until(far, "a lead", bench.publish)
    distances = np.array([np.linalg.norm(place(pose) - TIP.position) for pose in poses])
    assert distances[0] < 1e-3 and distances.max() < 0.01 + 1e-6
    assert (np.abs(np.diff(distances)) < 0.2 / RATE_HZ + 1e-6).all()
    assert {pose.header.frame_id for pose in poses} == {"panda_link0"} and not bench.twists
    world.call(Trigger, "/vla_node/estop")
    stands = lambda: np.array_equal(place(poses[-1]), place(poses[-4]))  # noqa: E731
    world.spin_until(stands, "a stand", bench.publish)
    bench.joints_of = lambda stamp: joint_state(REST + 0.05, stamp=stamp)  # it is pushed away
    kept = place(poses[-1])
    world.spin_for(0.3, bench.publish)
    assert (place(poses[-1]) == kept).all()
    world.call(Trigger, "/vla_node/reset_estop")
    bench.instruction.publish(String(data=INSTRUCTIONS[0]))
    there = arm_at(REST + 0.05)
    near = lambda: np.linalg.norm(place(poses[-1]) - there) < 0.011  # noqa: E731
    world.spin_until(near, "the way back to the arm", bench.publish)
    assert node.trigger_deactivate() == SUCCESS
    world.spin_for(0.2)
    assert all(np.linalg.norm(place(pose)) > 0.1 for pose in poses)  # never a zero


def test_a_target_jumps_with_no_joint_state_that_is_wrong(world, start):
    """Every eighth joint state is of another arm: the recorder finds no jump in the targets."""
    bench, _, _ = start({**SMOOTH, "command.interface": "pose"})
    alternate = itertools.cycle([REST] * 7 + [REST + 0.3])
    bench.joints_of = lambda stamp: joint_state(next(alternate), stamp=stamp)
    poses = listen(bench, PoseStamped, "pose")
    world.spin_until(lambda: len(poses) > 50, "targets", bench.publish)
    steps = np.linalg.norm(np.diff([place(pose) for pose in poses], axis=0), axis=1)
    assert steps.max() < 0.02


def test_without_a_clock_a_target_is_no_faster_when_actions_come_faster(world, start):
    lead = {"command.max_lead_m": 0.5, "command.max_linear_speed": 0.1}
    bench, _, _ = start({"command.interface": "pose", **lead})
    poses = listen(bench, PoseStamped, "pose")
    world.spin_until(lambda: len(poses) > 40, "targets", bench.publish)
    stamps = np.array([stamp_ns(pose) for pose in poses]) / NANOSECONDS
    way = np.linalg.norm(place(poses[-1]) - place(poses[10]))
    assert 0.0 < way <= 0.1 * (stamps[-1] - stamps[10]) * 1.05


def test_an_action_may_go_out_as_the_model_gave_it(world, start):
    bench, _, _ = start({"command.interface": "delta"})
    deltas = listen(bench, ActionDelta, "delta")
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    moving = [delta for delta in deltas if not delta.stop]
    assert all(delta.action.tolist() == ACTION.tolist() for delta in moving)
    assert len(moving) <= len(bench.steps()) and moving[0].duration == 0.05
    bench.joints_of = lambda stamp: joint_state([math.nan, *REST[1:]], stamp=stamp)
    world.spin_until(lambda: deltas[-1].stop, "a stop", bench.publish)
    assert not len(deltas[-1].action) and not bench.twists


def test_an_emergency_stop_is_latched_over_states_until_it_is_released(world, start):
    bench, node, _ = start()
    world.spin_until(bench.steps, "a step", bench.publish)
    answer = world.call(Trigger, "/vla_node/estop")
    assert answer.success and answer.message == "latched"
    assert world.call(Trigger, "/vla_node/estop").message == "latched already"
    world.spin_until(lambda: "estop" in bench.holds(), "the hold", bench.publish)
    done = len(bench.steps())
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_for(0.5, bench.publish)
    assert len(bench.steps()) == done and numbers(bench.twists[-1]) == ZERO
    answer = world.call(Trigger, "/vla_node/reset_estop")
    assert answer.message == "released: say again what to do"
    bench.instruction.publish(String(data=INSTRUCTIONS[0]))
    world.spin_until(lambda: len(bench.steps()) > done, "steps again", bench.publish)


SAY = {
    "topic": lambda bench, node: bench.instruction.publish(String(data=INSTRUCTIONS[0])),
    "parameter": lambda bench, node: node.set_parameters(
        [Parameter("instruction", value=INSTRUCTIONS[0])]
    ),
}


@pytest.mark.parametrize("way", SAY)
def test_the_release_of_an_emergency_stop_moves_nothing_until_somebody_says_so(world, start, way):
    bench, node, _ = start()
    world.spin_until(bench.steps, "a step", bench.publish)
    world.call(Trigger, "/vla_node/estop")
    SAY[way](bench, node)  # too early: what was said before the release does not count after it
    world.spin_for(0.3, bench.publish)
    done = len(bench.steps())
    world.call(Trigger, "/vla_node/reset_estop")
    world.spin_for(0.5, bench.publish)
    assert len(bench.steps()) == done and bench.holds()[-1] == "no_instruction"
    assert numbers(bench.twists[-1]) == ZERO
    SAY[way](bench, node)  # the same words as before
    world.spin_until(lambda: len(bench.steps()) > done, "steps again", bench.publish)


def test_a_latched_emergency_stop_refuses_instructions_by_name(world, start):
    bench, node, _ = start()
    world.call(Trigger, "/vla_node/estop")
    (result,) = node.set_parameters([Parameter("instruction", value=INSTRUCTIONS[1])])
    assert not result.successful and "call ~/reset_estop first" in result.reason
    client = ActionClient(bench, Execute, "/vla_node/execute")
    world.spin_until(client.server_is_ready, "the action server")
    goal = client.send_goal_async(Execute.Goal(instruction=INSTRUCTIONS[1]))
    world.spin_until(goal.done, "an answer")
    assert not goal.result().accepted


def test_joint_states_that_repeat_themselves_while_the_arm_is_to_move_stop_it(world, start):
    bench, _, _ = start({"input.frozen_joint_states": 20})
    wiggle = itertools.cycle([0.0, 1e-4])
    alive = lambda stamp: joint_state(REST + next(wiggle), stamp=stamp)  # noqa: E731
    bench.joints_of = alive
    world.spin_for(1.0, bench.publish)
    assert bench.steps() and "frozen_joint_states" not in bench.holds()
    bench.joints_of = lambda stamp: joint_state(stamp=stamp)
    held = lambda: bench.telemetry[-1].reason.startswith("frozen_joint_states")  # noqa: E731
    world.spin_until(held, "frozen_joint_states", bench.publish)
    world.spin_for(0.5, bench.publish)
    assert held() and numbers(bench.twists[-1]) == ZERO  # for as long as they are frozen
    bench.joints_of = alive
    world.spin_until(lambda: not held(), "recovery", bench.publish)


def test_a_picture_that_repeats_itself_while_the_arm_is_to_move_stops_it(world, start):
    bench, _, puppet = start({"input.frozen_images": 10})
    puppet.action = ACTION * 0.0
    bench.image_of["image"] = lambda stamp: image(7, stamp=stamp)
    world.spin_for(1.0, bench.publish)
    assert bench.steps() and "frozen_image" not in bench.holds()  # nothing was to move
    puppet.action = ACTION
    world.spin_until(lambda: "frozen_image" in bench.holds(), "frozen_image", bench.publish)
    hold = next(m for m in bench.telemetry if m.reason.startswith("frozen_image"))
    assert "pictures while the arm was to move" in hold.reason


def test_an_inference_over_its_budget_is_not_acted_on(world, start):
    bench, _, puppet = start({"model.budget_sec": 0.5})
    world.spin_until(bench.steps, "a step", bench.publish)
    puppet.total_ms = 700.0
    world.spin_until(lambda: "over_budget" in bench.holds(), "over_budget", bench.publish)
    world.spin_for(0.2, bench.publish)
    assert numbers(bench.twists[-1]) == ZERO and "0.70 s" in bench.telemetry[-1].reason
    puppet.total_ms = None
    done = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) > done, "recovery", bench.publish)


def test_a_hanging_inference_is_over_its_budget_before_it_ends(world, start):
    bench, _, puppet = start({"model.budget_sec": 0.3})
    world.spin_until(bench.steps, "a step", bench.publish)
    puppet.go.clear()
    before = len(bench.holds())
    late = lambda: "over_budget" in bench.holds()[before:]  # noqa: E731
    world.spin_until(late, "over_budget", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO


def test_the_stop_is_the_last_command_though_inference_hangs(world, start):
    bench, node, puppet = start(SMOOTH)
    world.spin_until(lambda: max(speeds(bench.twists), default=0) > 0.19, "speed", bench.publish)
    puppet.go.clear()
    world.spin_until(
        lambda: node._session.worker.inferring_sec(time.monotonic_ns()) > 0.1, "it", bench.publish
    )
    began = time.monotonic()
    assert node.trigger_deactivate() == SUCCESS
    assert time.monotonic() - began < 3.0
    world.spin_for(0.2)
    assert numbers(bench.twists[-1]) == ZERO
    assert_smooth(bench.twists)
    seen = len(bench.twists)
    puppet.go.set()
    world.spin_for(0.3, bench.publish)
    assert len(bench.twists) == seen


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gripper.action": "gripper_command"}, "control_msgs"),
        ({"servo.node": "servo_node"}, "moveit_msgs"),
        ({"joints.limits": ["panda_joint9 -1 1"]}, "panda_joint9"),
    ],
)
def test_what_cannot_be_had_fails_configure_in_one_line(
    world, checkpoint, capfd, parameters, message
):
    node = world.add(VlaNode, parameters={"model.path": str(checkpoint), **parameters})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "configure failed" in line]
    assert len(lines) == 1 and message in lines[0] and next(iter(parameters)) in lines[0]


def test_a_target_does_not_jump_back_at_deactivation(world, start):
    """While the node stops the arm there, it gets no joint states."""
    bench, node, _ = start({**SMOOTH, "command.interface": "pose"})
    poses, q = listen(bench, PoseStamped, "pose"), REST.copy()
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)

    def follow(stamp):
        if poses:
            error = place(poses[-1]) - arm.forward(q).position
            q[:] += np.linalg.pinv(arm.jacobian(q)[:3]) @ error
        return joint_state(q, stamp=stamp)

    bench.joints_of = follow
    steps = lambda: np.linalg.norm(np.diff([place(p) for p in poses], axis=0), axis=1)  # noqa: E731
    world.spin_until(lambda: len(poses) > 2 and steps()[-1] > 0.0035, "speed", bench.publish)
    before = len(poses)
    assert node.trigger_deactivate() == SUCCESS
    world.spin_for(0.3)
    gaps = np.diff([stamp_ns(pose) for pose in poses[before - 1 :]]) / NANOSECONDS
    assert len(poses) > before + 5 or gaps.max() > RESTS_SEC
    # A late command makes up for the ticks that were missed.
    ticks = np.maximum(np.round(gaps * RATE_HZ), 1.0)
    assert (steps()[before - 1 :] <= ticks * 0.2 / RATE_HZ + 1e-6).all() and steps()[-1] == 0.0


def test_in_a_dry_run_an_arm_that_stands_is_not_frozen(world, start):
    frozen = {"input.frozen_joint_states": 20, "input.frozen_images": 10}
    bench, _, _ = start({"dry_run": True, **frozen})
    for view in bench.image_of:
        bench.image_of[view] = lambda stamp: image(7, stamp=stamp)
    world.spin_until(lambda: len(bench.steps()) > 20, "steps", bench.publish)
    assert not {"frozen_joint_states", "frozen_image"} & set(bench.holds())
