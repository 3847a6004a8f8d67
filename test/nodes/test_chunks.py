"""Chunks over real DDS: executed while the next one is decided, and never after a hold."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import sensor_msgs.msg as sensor_msgs
from PIL import Image
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.directed import Directed, directing
from support.recorder import numbers
from support.ros import Bench
from support.serving import serving
from support.tiny_vla import INSTRUCTIONS
from support.tree import ROOT

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.control.policy import load_policy
from heisd_ros.control.remote_policy import layout_of
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ZERO = [0.0] * 6
PI0FAST = ROOT / "test" / "data" / "pi0fast_reference"
STEP_SEC = 0.05
ACTIONS = 10
CLOCKED = {
    "command.rate_hz": 50.0,
    "command.max_linear_speed": 0.2,
    "command.max_angular_speed": 1.0,
    "command.max_linear_acceleration": 2.0,
    "command.max_angular_acceleration": 10.0,
    "command.max_linear_jerk": 100.0,
    "command.max_angular_jerk": 500.0,
}


class Chunks(Directed):
    """Answers with chunks whose numbers say which they are; slow, or hung, on request.

    The first number of an action counts the answers, the second the actions of the answer.
    """

    def __init__(self, decoder):
        super().__init__(decoder)
        self.answers, self.delay_sec, self.actions = 0, 0.1, ACTIONS
        self.spoil = lambda chunk: chunk

    def infer(self, observation):
        result = self.answer(observation)
        time.sleep(self.delay_sec)
        self.answers += 1
        chunk = np.zeros((self.actions, 7))
        chunk[:, 0], chunk[:, 1] = self.answers / 1000, np.arange(self.actions) / 1000
        chunk[:, 6] = -1.0
        chunk = self.spoil(chunk)
        return replace(result, action=chunk[0], chunk=chunk)


def names(bench):
    """Answer and index of each executed action, by its own numbers."""
    return [tuple(round(1000 * value) for value in step.action[:2]) for step in bench.steps()]


def answers(bench):
    """The answers that were executed, in order."""
    return list(dict.fromkeys(answer for answer, _ in names(bench)))


@pytest.fixture
def start(world, checkpoint):
    """Starts a bench and an active node, whose decoder is given back."""

    def forget(decoder):
        decoder.answers = 0  # those of warming up

    with directing(world, checkpoint, Chunks, forget, horizon=ACTIONS) as begin:
        yield begin


def assert_executed_once(bench):
    said = names(bench)
    assert len(set(said)) == len(said) and said == sorted(said)
    for (answer, index), step in zip(said, bench.steps(), strict=True):
        assert step.chunk.index == index and step.chunk.length == ACTIONS
        first = index == min(each[1] for each in said if each[0] == answer)
        assert (step.passes > 0) == first and (len(step.tokens) > 0) == first


@pytest.mark.parametrize("interface", ["twist", "pose"])
def test_actions_follow_each_other_while_the_next_chunk_is_decided(world, start, interface):
    bench, _, _ = start({**CLOCKED, "command.interface": interface})
    world.spin_until(lambda: len(answers(bench)) >= 4, "chunks", bench.publish)
    assert_executed_once(bench)
    said, steps = names(bench), bench.steps()
    firsts = [said.index(next(n for n in said if n[0] == answer)) for answer in answers(bench)]
    assert said[0] == (1, 0), "the arm stood still while the model decided"
    for at in firsts[1:]:
        # The delay, in control steps, is the index at which a chunk takes over.
        step = steps[at]
        waited = any(m.hold for m in bench.telemetry[: bench.telemetry.index(step)][-3:])
        assert step.chunk.delay / 1e3 >= 0.1
        assert waited or step.chunk.delay / 1e3 < ACTIONS * STEP_SEC
        assert waited or abs(step.chunk.delay / 1e3 / STEP_SEC - step.chunk.index) <= 0.51
    numbers_of = [step.chunk.number for step in steps]
    assert numbers_of == sorted(numbers_of) and numbers_of[0] == 1
    for step in steps:
        assert (step.latency.total - step.chunk.delay) / 1e3 < ACTIONS * STEP_SEC + 0.05


def test_each_action_is_sent_once_without_a_clock(world, start):
    bench, _, _ = start({"command.interface": "delta"})
    world.spin_until(lambda: len(answers(bench)) >= 3, "chunks", bench.publish)
    assert_executed_once(bench)
    sent = [tuple(round(1000 * x) for x in m.action[:2]) for m in bench.deltas if not m.stop]
    # On a busy machine an action may come late, and the next one too soon after it.
    steps = zip(names(bench), bench.steps(), strict=True)
    assert sent == [name for name, step in steps if "not sent" not in step.reason][: len(sent)]
    moving = [stamp_ns(m) / NANOSECONDS for m in bench.deltas if not m.stop]
    assert np.median(np.diff(moving)) == pytest.approx(STEP_SEC, abs=0.01)


@pytest.mark.parametrize("parameters", [CLOCKED, {}])
def test_a_chunk_that_ran_out_stops_the_arm_by_name(world, start, parameters):
    bench, _, decoder = start(parameters)
    # An action that comes late is left out, so no single one is certain to be there.
    middle = lambda: names(bench) and 2 <= names(bench)[-1][1] <= 4  # noqa: E731
    world.spin_until(middle, "a chunk", bench.publish)
    decoder.go.clear()
    world.spin_until(lambda: "no_chunk" in bench.holds(), "the end", bench.publish)
    held = next(m for m in bench.telemetry if m.hold and m.reason.startswith("no_chunk"))
    assert f"all {ACTIONS} actions of the chunk are executed" in held.reason
    world.spin_until(lambda: numbers(bench.twists[-1]) == ZERO, "a stand", bench.publish)
    before = names(bench)
    world.spin_for(0.3, bench.publish)
    assert names(bench) == before and numbers(bench.twists[-1]) == ZERO
    decoder.go.set()
    world.spin_until(lambda: names(bench)[-1][0] > before[-1][0], "more", bench.publish)


def test_in_lock_step_each_observation_advances_a_chunk_by_one_action(world, start):
    # No hold before the first observation, whose command would count.
    slow = {"watchdog_hz": 1.0}
    bench, _, decoder = start({"command.stamp": "observation", "chunk.execute": 4, **slow})
    decoder.delay_sec, answered = 0.0, lambda: min(len(bench.twists), len(bench.steps()))
    for count in range(1, 11):
        bench.publish()
        world.spin_until(lambda n=count: answered() >= n, f"command {count}")
    assert names(bench)[:10] == [(1 + n // 4, n % 4) for n in range(10)]
    stamps = [stamp_ns(joints) for joints in bench.joint_states]
    assert [stamp_ns(twist) for twist in bench.twists[:10]] == stamps[:10]
    places = [(step.chunk.number, step.chunk.index) for step in bench.steps()[:10]]
    assert places == [(1 + n // 4, n % 4) for n in range(10)]
    decoder.spoil = lambda chunk: chunk[:2]
    for _ in range(3):
        bench.publish()
        world.spin_for(0.1)
    world.spin_until(lambda: "no_action" in bench.holds(), "a short chunk", bench.publish)


def test_what_is_left_of_a_chunk_is_dropped_by_an_emergency_stop(world, start):
    bench, _, decoder = start(CLOCKED)
    begun = lambda: names(bench) and names(bench)[-1][1] >= 1  # noqa: E731
    world.spin_until(begun, "a chunk", bench.publish)
    world.call(Trigger, "/vla_node/estop")
    stopped, asked = names(bench)[-1], decoder.answers
    world.spin_for(ACTIONS * STEP_SEC, bench.publish)
    assert names(bench)[-1] == stopped and numbers(bench.twists[-1]) == ZERO
    world.call(Trigger, "/vla_node/reset_estop")
    bench.instruction.publish(String(data=INSTRUCTIONS[0]))
    world.spin_until(lambda: names(bench)[-1] != stopped, "motion again", bench.publish)
    first = names(bench)[names(bench).index(stopped) + 1]
    assert first[0] > asked and first[1] == 0


def test_another_instruction_drops_the_chunk_and_the_one_that_is_being_decided(world, start):
    bench, _, _ = start(CLOCKED)
    world.spin_until(lambda: len(answers(bench)) > 1, "two chunks", bench.publish)
    bench.instruction.publish(String(data=INSTRUCTIONS[1]))
    of_new = lambda: [s for s in bench.steps() if s.instruction == INSTRUCTIONS[1]]  # noqa: E731
    world.spin_until(of_new, "the new one", bench.publish)
    assert "no_chunk: another instruction was given; the next one is awaited" in {
        m.reason for m in bench.telemetry if m.hold
    }
    said = [m.instruction for m in bench.telemetry if not m.hold]
    assert said == sorted(said, key=INSTRUCTIONS.index)
    assert of_new()[0].chunk.index == 0


def test_one_of_a_chunk_is_what_a_single_action_is(world, start):
    bench, _, decoder = start({**CLOCKED, "chunk.execute": 1})
    world.spin_until(lambda: len(names(bench)) >= 4, "steps", bench.publish)
    assert {index for _, index in names(bench)} == {0}
    held = bench.holds()
    decoder.go.clear()
    world.spin_for(0.3, bench.publish)
    assert bench.holds() == held and bench.steps()[-1].chunk.length == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda chunk: chunk[:3], "no_action: a chunk has 3 actions; accepted: at least 4"),
        (lambda chunk: chunk[:0], "model_error: IndexError"),
    ],
)
def test_a_chunk_that_is_none_holds_the_arm(world, start, spoil, said):
    bench, _, decoder = start({**CLOCKED, "chunk.execute": 4})
    decoder.spoil, decoder.delay_sec = spoil, 0.0
    told = lambda: [m.reason for m in bench.telemetry if m.hold and said in m.reason]  # noqa: E731
    world.spin_until(told, said, bench.publish)
    stands = lambda: bench.twists and numbers(bench.twists[-1]) == ZERO  # noqa: E731
    world.spin_until(stands, "a stand", bench.publish)
    decoder.spoil = lambda chunk: chunk
    before = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) > before + 4, "motion", bench.publish)


def test_an_observation_that_is_too_old_ends_a_chunk(world, start):
    """The limit was lowered in motion, so that configure could not refuse it."""
    bench, node, decoder = start(CLOCKED)
    decoder.delay_sec = 0.0
    world.spin_until(lambda: len(bench.steps()) > 2, "steps", bench.publish)
    decoder.delay_sec = 0.45
    lower = Parameter("command.max_action_age_sec", value=0.5)
    assert node.set_parameters([lower])[0].successful
    world.spin_until(lambda: "action_too_old" in bench.holds(), "a hold", bench.publish)


def test_a_chunk_shorter_than_asked_for_is_refused_at_configure(world, checkpoint, capfd):
    settings = {"model.path": str(checkpoint), "model.threads": 1, "chunk.execute": 2}
    assert world.add(VlaNode, parameters=settings).trigger_configure() == FAILURE
    told = capfd.readouterr().err
    assert "'chunk.execute' is 2; accepted: up to 1, the actions in" in told
    assert "Traceback" not in told


def test_a_served_chunk_is_executed(world, checkpoint):
    local = load_policy(from_values(VlaNodeParameters, {"model.path": str(checkpoint)}))
    decoder = Chunks(local.decoder)
    layout = replace(layout_of(local, "ar", "of the test"), horizon=ACTIONS)
    bench = world.add(Bench)
    with serving(decoder, layout) as server:
        settings = {"model.path": server.uri, "instruction": INSTRUCTIONS[0], "chunk.execute": 6}
        node = world.add(VlaNode, parameters=settings)
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        world.spin_until(lambda: len(answers(bench)) >= 3, "chunks", bench.publish)
        said = names(bench)
        assert len(set(said)) == len(said) and max(index for _, index in said) == 5
        assert node.trigger_deactivate() == SUCCESS


def picture(name, stamp):
    """A picture of the reference as a message."""
    pixels = np.asarray(Image.open(PI0FAST / f"image_{name}.png").convert("RGB"))
    height, width, _ = pixels.shape
    message = sensor_msgs.Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data.frombytes(pixels.tobytes())
    message.header.stamp = stamp
    return message


def test_pi0_fast_executes_the_chunk_of_its_reference(world, monkeypatch):
    """LeRobot's own actions for the same pictures and state, which no Panda can have."""
    bench = world.add(Bench, views=("image", "image_image2"))
    bench.image_of = {
        "image": partial(picture, "a_480x640"),
        "image_image2": partial(picture, "b_112"),
    }
    with np.load(PI0FAST / "reference.npz") as reference:
        state, expected = reference["two_cams/state"], reference["two_cams/actions"]
    monkeypatch.setattr("heisd_ros.control.inference.pose_vector", lambda *_: state)
    world.vla_node(PI0FAST, {"model.state": "pose", "instruction": "pick up the red block"})
    two = lambda: any(step.chunk.number == 2 for step in bench.steps())  # noqa: E731
    world.spin_until(two, "two chunks", bench.publish)
    # An action that a busy machine makes late is left out, so their numbers may have gaps.
    first = [step.chunk.index for step in bench.steps() if step.chunk.number == 1]
    assert first[0] == 0 and first == sorted(first)
    for step in bench.steps():
        assert step.chunk.length == 10
        np.testing.assert_allclose(step.action, expected[step.chunk.index], atol=1e-4)
