"""The VLA node over real DDS, with a real (tiny, random) model."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from support.fake_scene import REST
from support.recorder import numbers
from support.robots import robot_files
from support.ros import Bench, image, joint_state
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
    panda_urdf,
)
from heisd_ros.nodes import qos
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ZERO = [0.0] * 6


def start(world, checkpoint, parameters=None, bench=None, activate=True):
    """A bench and a configured node, activated unless told otherwise."""
    bench = bench or world.add(Bench)
    node = world.vla_node(checkpoint, parameters, activate=activate)
    return bench, node


def test_an_observation_becomes_a_command_and_telemetry(world, checkpoint):
    bench, _ = start(world, checkpoint)
    world.spin_until(
        lambda: bench.steps() and bench.steps()[-1].metric.ready, "a full window", bench.publish
    )
    step = bench.steps()[-1]
    assert step.instruction == INSTRUCTIONS[0]
    assert step.source == "autoregressive" and step.reason and step.passes == 7
    assert len(step.tokens) == 7 and len(step.action) == 7
    assert step.step == len(bench.steps()) and step.header.frame_id == "panda_link0"
    np.testing.assert_allclose(step.twist[:3], np.array(step.action[:3]) * 0.05 * 20.0, rtol=1e-9)
    np.testing.assert_allclose(step.twist[3:], np.array(step.action[3:6]) * 0.5 * 20.0, rtol=1e-9)
    assert step.twist.tolist() in [numbers(twist) for twist in bench.twists]
    assert step.gripper in (0.0, 0.08) and bench.grippers[-1].data == step.gripper
    assert step.metric.kind == "paper" and step.metric.source == "velocity"
    assert 0.0 <= step.metric.value <= 1.0
    latency = step.latency
    parts = [latency.preprocess, latency.vision, latency.prefill, latency.decode]
    assert all(part > 0.0 for part in parts) and latency.total >= latency.inference >= sum(parts)
    assert len(step.ages.images) == 2 and 0.0 <= step.ages.stamp_spread <= 0.03
    ages = [*step.ages.images, step.ages.joint_states, step.ages.instruction]
    assert all(0.0 <= age < 60.0 for age in ages)


def test_each_observation_set_is_used_once(world, checkpoint):
    bench, _ = start(world, checkpoint)
    world.spin_until(lambda: len(bench.steps()) >= 5, "5 steps", bench.publish)
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in bench.steps()]
    assert len(set(stamps)) == len(stamps)


def test_lifecycle_over_its_services(world, checkpoint):
    bench = world.add(Bench)
    world.add(VlaNode, parameters={"model.path": str(checkpoint), "instruction": INSTRUCTIONS[0]})

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert world.call(ChangeState, "/vla_node/change_state", request).success

    def state():
        return world.call(GetState, "/vla_node/get_state").current_state.label

    def publishers():
        return bench.count_publishers("/vla_node/output/twist")

    assert state() == "unconfigured"
    change(Transition.TRANSITION_CONFIGURE)
    assert state() == "inactive" and publishers() == 0
    world.spin_for(0.3, bench.publish)
    assert not bench.twists
    change(Transition.TRANSITION_ACTIVATE)
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    change(Transition.TRANSITION_DEACTIVATE)
    world.spin_until(lambda: publishers() == 0, "the command topic to go")
    assert state() == "inactive" and numbers(bench.twists[-1]) == ZERO
    seen = len(bench.twists)
    world.spin_for(0.3, bench.publish)
    assert len(bench.twists) == seen
    change(Transition.TRANSITION_ACTIVATE)
    done = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) > done, "steps after a pause", bench.publish)
    change(Transition.TRANSITION_DEACTIVATE)
    change(Transition.TRANSITION_CLEANUP)
    assert state() == "unconfigured"
    change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state() == "finalized"


def test_shutdown_while_active_stops_the_arm(world, checkpoint):
    bench, node = start(world, checkpoint)
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    assert node.trigger_shutdown() == SUCCESS
    world.spin_for(0.2)
    assert numbers(bench.twists[-1]) == ZERO


def nan_positions(stamp):
    positions = REST.copy()
    positions[3] = math.nan
    return joint_state(positions, stamp=stamp)


def other_names(stamp):
    message = joint_state(stamp=stamp)
    message.name = [f"other_{name}" for name in message.name]
    return message


def without_joint(stamp):
    message = joint_state(stamp=stamp)
    message.name = ["elbow" if name == "panda_joint4" else name for name in message.name]
    return message


def truncated(stamp):
    message = image(stamp=stamp)
    message.data = message.data[:-1]
    return message


def old(stamp):
    return image(stamp=Time(sec=stamp.sec - 5, nanosec=stamp.nanosec))


def late(stamp):
    tenths = stamp.sec * 10 + stamp.nanosec // 10**8 - 6
    return image(stamp=Time(sec=tenths // 10, nanosec=tenths % 10 * 10**8 + stamp.nanosec % 10**8))


FAULTS = {
    "no_camera": ("no_image", "image_wrist", lambda stamp: None, "view wrist"),
    "encoding": ("bad_image", "image", lambda s: image(stamp=s, encoding="16UC1"), "'16UC1'"),
    "zero_size": ("bad_image", "image", lambda s: image(size=0, stamp=s), "0 x 0 pixels"),
    "truncated": ("bad_image", "image_wrist", truncated, "3071 bytes"),
    "no_joints": ("no_joint_states", "joints", lambda stamp: None, "nothing received"),
    "other_names": ("bad_joint_states", "joints", other_names, "other_panda_joint1"),
    "missing_joint": ("bad_joint_states", "joints", without_joint, "panda_joint4"),
    "nan_positions": ("bad_joint_states", "joints", nan_positions, "panda_joint4"),
    "old_stamps": ("bad_stamps", "image_wrist", old, "s behind the node's clock"),
    "late_stamps": ("unsynchronised", "image_wrist", late, "newest stamps differ"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_input_is_named_the_arm_stopped_and_it_recovers(world, checkpoint, fault):
    reason, where, bad, detail = FAULTS[fault]
    bench, _ = start(world, checkpoint, {"input.image_timeout_sec": 1.0})
    good = bench.joints_of if where == "joints" else bench.image_of[where]

    def send(function):
        if where == "joints":
            bench.joints_of = function
        else:
            bench.image_of[where] = function

    send(bad)
    named = lambda: [  # noqa: E731
        m for m in bench.telemetry if m.hold and m.reason.startswith(reason) and detail in m.reason
    ]
    world.spin_until(named, f"{reason}, {detail}", bench.publish)
    hold = named()[0]
    assert hold.source == "hold" and hold.twist.tolist() == ZERO and not len(hold.action)
    world.spin_until(lambda: bench.twists, "a stop", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO
    send(good)
    done = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) > done + 2, "recovery", bench.publish)
    assert not bench.telemetry[-1].hold


@pytest.mark.parametrize("silent", ["image", "joints"])
def test_an_input_that_stops_holds_the_arm(world, checkpoint, silent):
    bench, _ = start(world, checkpoint)
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    if silent == "joints":
        bench.joints_of = lambda stamp: None
    else:
        bench.image_of[silent] = lambda stamp: None
    reason = "stale_joint_states" if silent == "joints" else "stale_image"
    before = len(bench.holds())
    world.spin_until(lambda: reason in bench.holds()[before:], reason, bench.publish)
    assert numbers(bench.twists[-1]) == ZERO


def test_a_frozen_camera_holds_the_arm_only_when_it_moves(world, checkpoint):
    bench, _ = start(world, checkpoint)
    bench.image_of["image"] = lambda stamp: image(7, stamp=stamp)
    world.spin_until(lambda: len(bench.steps()) >= 5, "steps", bench.publish)
    assert "frozen_image" not in bench.holds()
    bench.joints_of = lambda stamp: joint_state(REST + 0.3, stamp=stamp)
    world.spin_until(lambda: "frozen_image" in bench.holds(), "frozen_image", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO


def test_nan_velocities_are_allowed_and_reported(world, checkpoint):
    bench, _ = start(world, checkpoint)
    reports = []
    bench.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
    bench.joints_of = lambda stamp: joint_state(velocities=[math.nan] * 7, stamp=stamp)
    world.spin_until(
        lambda: bench.steps() and any("differences" in r.status[0].message for r in reports),
        "the diagnostic",
        bench.publish,
    )
    assert bench.steps()[-1].metric.source == "position_difference"
    names = [status.name for status in reports[-1].status]
    assert names[0] == "vla_node: control" and "vla_node: input wrist" in names


def test_instructions_unknown_none_and_by_parameter_and_topic(world, checkpoint):
    bench, node = start(world, checkpoint, {"instruction": ""})
    world.spin_until(lambda: "no_instruction" in bench.holds(), "no_instruction", bench.publish)
    bench.instruction.publish(String(data="dance"))
    world.spin_until(lambda: "unknown_instruction" in bench.holds(), "unknown", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO
    node.set_parameters([Parameter("instruction", value=INSTRUCTIONS[1])])
    world.spin_until(bench.steps, "a step", bench.publish)
    assert bench.steps()[-1].instruction == INSTRUCTIONS[1]
    bench.instruction.publish(String(data=INSTRUCTIONS[0]))
    world.spin_until(
        lambda: bench.steps()[-1].instruction == INSTRUCTIONS[0], "the new one", bench.publish
    )


def test_reasons_that_alternate_are_not_logged_at_every_tick(world, checkpoint, capfd):
    bench, node = start(world, checkpoint, activate=False)
    reasons = itertools.cycle([Hold(HoldReason.ESTOP, "one"), Hold(HoldReason.BAD_IMAGE, "two")])
    node._veto = lambda: next(reasons)
    assert node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.holds()) >= 40, "holds", bench.publish)
    assert set(bench.holds()) == {"estop", "bad_image"}
    assert 2 <= capfd.readouterr().err.count("arm held: ") <= 6
    held = bench.telemetry[-1]
    assert held.accepted == -1 and math.isnan(held.similarity)


def test_a_mismatch_of_qos_is_said_where_there_is_one(world, checkpoint, capfd):
    bench, _ = start(world, checkpoint)  # publishes instructions without latching them
    world.spin_until(bench.steps, "a step", bench.publish)
    assert "offering incompatible QoS" not in capfd.readouterr().err
    bench.create_publisher(String, "/vla_node/input/instruction", qos.sensor_data())
    said = lambda: "offering incompatible QoS" in capfd.readouterr().err  # noqa: E731
    world.spin_until(said, "a warning", bench.publish)


@pytest.mark.parametrize("latched", [True, False])
def test_the_robot_description_may_come_by_topic(world, checkpoint, latched):
    own = [(info.name, info.default) for info in parameters_of(VlaNodeParameters) if info.own]
    arm = {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in own},
        "robot.source": "topic",
        "command.frame_id": "",
        "robot.tip_frame": PANDA_TIP,
        "robot.base_frame": PANDA_BASE,
        "robot.joint_names": list(PANDA_JOINTS),
        "robot.gripper_joints": list(PANDA_FINGER_JOINTS),
    }
    bench, _ = start(world, checkpoint, arm)
    reason = "no_robot_description"
    world.spin_until(lambda: reason in bench.holds(), reason, bench.publish)
    if not latched:
        bench.destroy_publisher(bench.description)
        bench.description = bench.create_publisher(String, "/robot_description", qos.reliable())
        heard = lambda: bench.description.get_subscription_count() > 0  # noqa: E731
        world.spin_until(heard, "a match", bench.publish)
    bench.description.publish(String(data="<robot name='other'><link name='base'/></robot>"))
    said = lambda: "panda_hand_tcp" in bench.telemetry[-1].reason  # noqa: E731
    world.spin_until(said, "what is wrong with it", bench.publish)
    assert bench.telemetry[-1].reason.startswith(reason)
    bench.description.publish(String(data=panda_urdf()))
    world.spin_until(bench.steps, "a step", bench.publish)


class FailingDecoder:
    """Raises, then gives a number that is none, then works."""

    def __init__(self, decoder):
        self.decoder, self.calls = decoder, 0
        self.failing = None

    def reset(self, success=None):
        self.decoder.reset(success)

    def warning(self):
        return self.decoder.warning()

    def settle(self):
        if self.failing == "settle":
            raise RuntimeError("out of memory")
        return self.decoder.settle()

    def infer(self, observation):
        result = self.decoder.infer(observation)
        if self.failing == "raise":
            raise RuntimeError("out of memory")
        if self.failing == "nan":
            result.action[2] = math.nan
        return result


@pytest.mark.parametrize("rate_hz", [0.0, 50.0])
def test_a_failure_on_the_way_to_a_command_holds_the_arm_until_the_next_activation(
    world, checkpoint, rate_hz
):
    bench, node = start(world, checkpoint, {"command.rate_hz": rate_hz})
    world.spin_until(bench.steps, "a step", bench.publish)

    def fail(*arguments):
        raise RuntimeError("no solution")

    node._control._driver._filter.step = fail
    world.spin_until(lambda: "control_error" in bench.holds(), "control_error", bench.publish)
    world.spin_until(lambda: numbers(bench.twists[-1]) == ZERO, "a stand", bench.publish)
    done, held = len(bench.steps()), len(bench.holds())
    world.spin_until(lambda: len(bench.holds()) > held + 3, "the hold goes on", bench.publish)
    assert set(bench.holds()[held:]) == {"control_error"} and len(bench.steps()) == done
    assert "RuntimeError: no solution" in bench.telemetry[-1].reason
    assert node.trigger_deactivate() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.steps()) > done, "a step", bench.publish)


def test_a_model_that_answers_with_text_holds_the_arm(world, checkpoint):
    from heisd_ros.control.policy import load_policy

    def load(parameters):
        policy = load_policy(parameters)
        model = policy.plain.vla.model
        model.language_model.lm_head.weight[model.action_rows] = 0.0
        model.language_model.lm_head.weight[7] = 1.0
        model.language_model.lm_head.weight[8] = -1.0
        return policy

    bench = world.add(Bench)
    parameters = {"model.path": str(checkpoint), "instruction": INSTRUCTIONS[0]}
    node = world.add(VlaNode, load, parameters=parameters)
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: "no_action" in bench.holds(), "no_action", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO and not bench.steps()


@pytest.mark.parametrize("failing", ["raise", "nan", "settle"])
def test_a_failing_model_holds_the_arm(world, checkpoint, failing):
    from dataclasses import replace

    from heisd_ros.control.policy import load_policy

    decoders = []

    def load(parameters):
        policy = load_policy(parameters)
        decoders.append(FailingDecoder(policy.decoder))
        return replace(policy, decoder=decoders[0])

    bench = world.add(Bench)
    parameters = {"model.path": str(checkpoint), "instruction": INSTRUCTIONS[0]}
    node = world.add(VlaNode, load, parameters=parameters)
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    decoders[0].failing = failing
    world.spin_until(lambda: "model_error" in bench.holds(), "model_error", bench.publish)
    assert numbers(bench.twists[-1]) == ZERO
    # A step that fails to settle was decided, and may have been acted on before it failed.
    acted = len(bench.steps())
    assert failing == "settle" or not acted
    decoders[0].failing = None
    world.spin_until(lambda: len(bench.steps()) > acted, "recovery", bench.publish)


def test_a_model_that_is_too_slow_holds_the_arm(world, checkpoint):
    bench, node = start(world, checkpoint, {"command.max_action_age_sec": 0.2})
    world.spin_until(bench.steps, "a step", bench.publish)
    bench.image_of["image_wrist"] = lambda stamp: image(stamp=stamp)
    node._session.worker._take = lambda timeout: None  # as if the model never came back
    late = lambda: bench.telemetry[-1].reason.startswith("action_too_old")  # noqa: E731
    world.spin_until(
        lambda: late() and numbers(bench.twists[-1]) == ZERO, "action_too_old", bench.publish
    )


def test_compressed_images_and_one_view(world, tmp_path):
    import io

    from PIL import Image as Picture
    from sensor_msgs.msg import CompressedImage

    folder = save_tiny_checkpoint(tmp_path / "one", views=("agentview",), proprio_size=0)
    bench = world.add(Bench, views=("image",), compressed=True)

    def jpeg(stamp):
        file = io.BytesIO()
        Picture.new("RGB", (40, 30), (next(bench.shade) % 200, 10, 10)).save(file, "JPEG")
        message = CompressedImage(format="jpeg", data=file.getvalue())
        message.header.stamp = stamp
        return message

    def broken(stamp):
        message = jpeg(stamp)
        message.data = message.data[:20]
        return message

    bench.image_of["image"] = jpeg
    start(world, folder, {"input.compressed": True}, bench)
    world.spin_until(bench.steps, "a step", bench.publish)
    bench.image_of["image"] = broken
    world.spin_until(lambda: "bad_image" in bench.holds(), "bad_image", bench.publish)


def test_twists_are_republished_while_the_action_is_young(world, checkpoint):
    limits = {"command.rate_hz": 50.0, "command.max_action_age_sec": 5.0}
    bench, _ = start(world, checkpoint, {**limits, "input.image_timeout_sec": 5.0})
    world.spin_until(bench.steps, "a step", bench.publish)
    world.spin_until(lambda: len(bench.twists) >= len(bench.steps()) + 5, "repeats")


def test_stamps_may_be_those_of_the_observation(world, checkpoint):
    bench, _ = start(world, checkpoint, {"command.stamp": "observation"})
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    moving = [twist.header.stamp for twist in bench.twists if numbers(twist) != ZERO]
    assert all(step.header.stamp in moving for step in bench.steps()[:-1])


def corrupt(folder, name, content):
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.path", "/nowhere/model", "/nowhere/model"),
        ("model.dtype", "float8", "'model.dtype'"),
        ("model.control_rate_hz", -1.0, "'model.control_rate_hz'"),
        ("model.control_rate_hz", "fast", "'model.control_rate_hz'"),
        ("robot.source", "file", "'robot.urdf'"),
        ("robot.tip_frame", "nose", "nose"),
        ("robot.joint_names", ["a", "b"], "joint_names"),
        ("metric.bounds", "/nowhere.json", "/nowhere.json"),
    ],
)
def test_what_cannot_be_configured_fails_by_name(world, checkpoint, capfd, name, value, message):
    parameters = {"model.path": str(checkpoint), name: value}
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "configure failed" in line]
    assert len(lines) == 1 and message in lines[0]
    good = {"robot.source": "panda", "robot.tip_frame": "panda_hand_tcp", "metric.bounds": ""}
    if name in good:
        node.set_parameters([Parameter(name, value=good[name])])
        assert node.trigger_configure() == SUCCESS


def test_a_model_that_takes_the_opening_is_refused_where_nobody_tells_it(world, checkpoint, capfd):
    arguments = ["--ros-args", "--params-file", str(robot_files()["ur5e"])]
    settings = {"model.path": str(checkpoint), "robot.gripper_joints": [""]}
    node = world.add(lambda **kw: VlaNode(cli_args=arguments, **kw), parameters=settings)
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert "'robot.gripper_joints' is ['']; accepted: the finger joints" in said
    joints = Parameter("robot.gripper_joints", value=["robotiq_85_left_knuckle_joint"])
    node.set_parameters([joints])
    assert node.trigger_configure() == SUCCESS


def test_a_refused_parameter_can_be_put_right(world, checkpoint):
    parameters = {"model.path": str(checkpoint), "model.control_rate_hz": -1.0}
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == FAILURE
    node.set_parameters([Parameter("model.control_rate_hz", value=10.0)])
    assert node.trigger_configure() == SUCCESS
    (refused,) = node.set_parameters([Parameter("model.control_rate_hz", value=5.0)])
    assert not refused.successful and "model.control_rate_hz" in refused.reason


def test_a_corrupt_checkpoint_fails_by_name(world, tmp_path, capfd):
    folder = save_tiny_checkpoint(tmp_path / "corrupt")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    node = world.add(VlaNode, parameters={"model.path": str(folder)})
    assert node.trigger_configure() == FAILURE
    assert str(weights) in capfd.readouterr().err
