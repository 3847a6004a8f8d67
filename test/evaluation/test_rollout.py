"""The closed loop, with a scene and a decoder written by hand."""

from dataclasses import replace

import numpy as np
import pytest
from support.fake_scene import REST

from heisd_ros.decoding.chunks import ChunkUse
from heisd_ros.decoding.types import Settled, StepResult
from heisd_ros.evaluation.accounting import episode_row
from heisd_ros.evaluation.rollout import MAX_STEPS, executable, observe, run_episode
from heisd_ros.kinematics.metric import FusedMetric, MetricBounds, MetricSettings
from heisd_ros.kinematics.pose import Pose


class PushScene:
    """Succeeds once the arm has been pushed one metre along x."""

    suite, task_index, instruction = "libero_spatial", 3, "push"

    def __init__(self):
        self.x, self.resets = 0.0, []

    def reset(self, init_state):
        self.x = 0.0
        self.resets.append(init_state)

    def images(self):
        return {name: np.full((4, 4, 3), i, np.uint8) for i, name in enumerate(("agent", "wrist"))}

    def tip_pose(self):
        return Pose(position=np.array([self.x, 0.0, 0.3]), rotation=np.diag([1.0, -1.0, -1.0]))

    def gripper_opening(self):
        return 0.05

    def joint_positions(self):
        return REST + 0.1 * self.x

    def joint_velocities(self):
        return np.full(7, 0.1)

    def step(self, action):
        self.x += action[0]

    def success(self):
        return self.x >= 1.0


class ConstantDecoder:
    """Moves along x at a constant speed; every second step is skipped, and verified later."""

    def __init__(self, speed):
        self.speed, self.resets, self.seen, self.calls = speed, [], [], []

    def reset(self, success=None):
        self.resets.append(success)

    def infer(self, observation):
        self.seen.append(observation)
        self.calls.append("infer")
        return StepResult(
            action=np.array([self.speed, 0, 0, 0, 0, 0, -1.0]),
            tokens=(0,) * 7,
            source="autoregressive",
            reason="test",
            timings_ms={"total": 2.0},
            passes=7,
        )

    def settle(self):
        self.calls.append("settle")
        return Settled(5.0, True) if len(self.seen) % 2 == 0 else None


def speed_metric(window=3):
    settings = MetricSettings(kind="speed", window=window)
    return FusedMetric(MetricBounds(settings, (0, 1), (0, 1), (0, 0.5), boundary=0.25))


def test_an_episode_ends_with_success():
    scene, decoder = PushScene(), ConstantDecoder(0.25)
    result = run_episode(scene, decoder, 42)
    assert (result.success, result.steps, result.step_ms) == (True, 4, [2.0] * 4)
    assert (result.suite, result.task_index, result.init_state) == ("libero_spatial", 3, 42)
    assert scene.resets == [42]


def test_the_decoder_forgets_the_last_episode_and_is_told_how_this_one_ended():
    decoder = ConstantDecoder(0.25)
    run_episode(PushScene(), decoder, 42)
    assert decoder.resets == [None, True]
    run_episode(PushScene(), decoder, 43, max_steps=2)
    assert decoder.resets == [None, True, None, False]


def test_the_decoder_settles_after_each_step_and_that_is_not_in_the_steps_time():
    decoder = ConstantDecoder(0.25)
    result = run_episode(PushScene(), decoder, 42)
    assert decoder.calls == ["infer", "settle"] * 4
    assert [record.settled for record in result.records] == [None, Settled(5.0, True)] * 2
    assert result.step_ms == [2.0] * 4


def test_a_record_holds_where_the_arm_was_when_the_step_was_decided():
    result = run_episode(PushScene(), ConstantDecoder(0.25), 42)
    assert [record.tip[0] for record in result.records] == [0.0, 0.25, 0.5, 0.75]
    assert np.allclose(result.records[2].joints, REST + 0.05)


def test_the_metric_is_measured_each_step_and_charged():
    decoder, metric = ConstantDecoder(0.25), speed_metric()
    result = run_episode(PushScene(), decoder, 42, metric)
    assert all(o.motion.ready for o in decoder.seen)  # the arm stood before the first step
    assert all(o.motion.source == "velocity" and o.motion.speed > 0 for o in decoder.seen)
    assert [r.motion for r in result.records] == [o.motion for o in decoder.seen]
    charged = [2.0 + record.metric_ms for record in result.records]
    assert result.step_ms == pytest.approx(charged) and min(charged) > 2.0


def test_the_metric_restarts_with_each_episode():
    decoder, metric = ConstantDecoder(0.25), speed_metric()
    for state in (42, 43):
        run_episode(PushScene(), decoder, state, metric)
    values = [(o.motion.path_length, o.motion.speed) for o in decoder.seen]
    assert values[:4] == values[4:]


def test_each_step_is_shown_before_it_is_executed():
    scene, shown = PushScene(), []
    run_episode(
        scene, ConstantDecoder(0.5), 42, on_step=lambda o, r: shown.append((scene.x, r.action[0]))
    )
    assert shown == [(0.0, 0.5), (0.5, 0.5)]


def test_an_episode_ends_at_the_suites_limit():
    result = run_episode(PushScene(), ConstantDecoder(0.0), 40)
    assert not result.success
    assert result.steps == MAX_STEPS["libero_spatial"] == 220


def test_an_episode_ends_at_a_limit_of_its_own():
    assert run_episode(PushScene(), ConstantDecoder(0.0), 40, max_steps=7).steps == 7


def test_the_decoder_sees_views_in_order_and_proprioception():
    scene = PushScene()
    scene.x = 0.5
    observation = observe(scene)
    assert [int(image[0, 0, 0]) for image in observation.images] == [0, 1]
    assert observation.instruction == "push"
    assert np.allclose(observation.proprio, [0.5, 0, 0.3, 0, 0, 0, 0.05])
    assert observation.motion is None


def test_an_action_with_a_token_that_is_none_holds_the_arm_and_the_gripper():
    whole = np.array([0.1, 0, 0, 0, 0, 0, 1.0])
    np.testing.assert_array_equal(executable(whole, -1.0), whole)
    for place in range(7):
        action = whole.copy()
        action[place] = np.nan
        np.testing.assert_array_equal(executable(action, 1.0), [0, 0, 0, 0, 0, 0, 1.0])


def test_an_episode_holds_where_the_decoder_gives_no_action():
    class Stutters(ConstantDecoder):
        def infer(self, observation):
            result = super().infer(observation)
            if len(self.seen) % 2 == 0:
                result.action[3] = np.nan
            return result

    scene = PushScene()
    result = run_episode(scene, Stutters(0.25), init_state=40)
    assert result.success and result.steps == 7


class ChunkDecoder(ConstantDecoder):
    """Answers with three actions of different speeds."""

    def infer(self, observation):
        result = super().infer(observation)
        chunk = np.outer([0.1, 0.2, 0.05], [1, 0, 0, 0, 0, 0, 0])
        chunk[:, 6] = [-1.0, 1.0, 1.0]
        return replace(result, action=chunk[0], chunk=chunk)


@pytest.mark.parametrize(
    ("chunk", "asked", "speeds"),
    [
        (ChunkUse(), 4, [0.1, 0.2, 0.05] * 2),
        (ChunkUse(2), 4, [0.1, 0.2] * 3),
        (ChunkUse(1), 10, [0.1] * 9),
    ],
)
def test_a_chunk_is_executed_action_by_action(chunk, asked, speeds):
    scene, decoder = PushScene(), ChunkDecoder(0.0)
    result = run_episode(scene, decoder, 42, chunk=chunk, max_steps=10)
    assert len(decoder.seen) <= asked
    assert [record.result.action[0] for record in result.records[: len(speeds)]] == speeds
    passes = [record.result.passes for record in result.records]
    assert sum(passes) == 7 * len(decoder.seen)
    row = episode_row("ar", result)
    assert row["passes"] == passes and row["steps"] == len(passes)
    again = run_episode(PushScene(), ChunkDecoder(0.0), 42, chunk=chunk, max_steps=10)
    assert episode_row("ar", again)["tokens"] == row["tokens"]
