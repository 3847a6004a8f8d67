"""Calibration's episodes, with a scene and decoders written by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.skipping import matches

from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import StepResult
from heisd_ros.errors import CalibrationError, SceneError
from heisd_ros.evaluation.calibration_episodes import (
    ENTRIES_OF_SHARD,
    Judge,
    calibration_mode,
    instructions_of,
    judge_episode,
    path_of,
    plan_episodes,
)
from heisd_ros.evaluation.starts import CALIBRATION_STATES, MovedStart, Start
from heisd_ros.families.ecot.codec import EcotAnswer
from heisd_ros.kinematics.pose import Pose
from heisd_ros.sim.demonstrations import HELD_OUT_STATES
from heisd_ros.sim.suites import SCRIPTED

TOKENS = (500,) * 7
WORDS = EcotAnswer(356, 64, frozenset({2}))


class PushScene:
    """Succeeds once the arm has been pushed one metre along x."""

    suite, task_index, instruction = "libero_spatial", 3, "push"

    def __init__(self):
        self.position, self.resets, self.actions = np.zeros(3), [], []

    def reset(self, init_state):
        self.position = np.zeros(3)
        self.resets.append(init_state)
        self.actions.clear()

    def images(self):
        return {"agent": np.zeros((4, 4, 3), np.uint8)}

    def tip_pose(self):
        return Pose(position=self.position, rotation=np.diag([1.0, -1.0, -1.0]))

    def gripper_opening(self):
        return 0.05

    def joint_positions(self):
        return np.zeros(7)

    def step(self, action):
        self.position = self.position + action[:3]
        self.actions.append(np.array(action))

    def success(self):
        return self.position[0] >= 1.0


class ScriptedDecoder:
    """Steps of given sources and tokens, in turn."""

    def __init__(self, script, speed=0.1):
        self.script, self.speed = list(script), speed
        self.seen, self.resets, self.settled = [], [], 0

    def reset(self, success=None):
        self.resets.append(success)

    def settle(self):
        self.settled += 1

    def warning(self):
        return "scripted"

    def infer(self, observation):
        source, tokens = self.script[len(self.seen) % len(self.script)]
        self.seen.append(observation)
        return StepResult(
            action=np.array([self.speed, 0, 0, 0, 0, 0, -1.0]),
            tokens=tokens,
            source=source,
            reason="test",
            timings_ms={"total": 1.0},
            passes=0 if source == "skip" else 7,
            similarity=0.9 if source in ("skip", "retrieval") else None,
        )


def near(offset, index=0):
    """The reference's tokens with one of them some bins off."""
    return tuple(t + offset * (i == index) for i, t in enumerate(TOKENS))


REFERENCE = [("autoregressive", TOKENS)]


def test_states_to_calibrate_with_are_not_those_to_evaluate_on():
    assert not set(CALIBRATION_STATES) & set(HELD_OUT_STATES)


@pytest.mark.parametrize("suite", SCRIPTED)
def test_the_instructions_of_every_scripted_suite_are_known(suite):
    tasks = SCRIPTED[suite]
    found = instructions_of(suite, tasks)
    assert tuple(found) == tuple(tasks)
    assert len(set(found.values())) == len(tasks)
    with pytest.raises(SceneError, match="task_index 99 is outside"):
        instructions_of(suite, (99,))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True), st.integers(1, 300))
def test_episodes_are_spread_evenly_and_all_different(tasks, count):
    episodes = plan_episodes(tasks, count)
    assert len(set(episodes)) == count
    assert {episode.init_state for episode in episodes} <= set(CALIBRATION_STATES)
    by_task = Counter(episode.task_index for episode in episodes)
    assert max(by_task.values()) - min(by_task.get(task, 0) for task in tasks) <= 1
    assert plan_episodes(tasks, count + 7)[:count] == episodes
    if count <= len(tasks) * len(CALIBRATION_STATES):
        assert all(episode.variation == 0 for episode in episodes)


@pytest.mark.parametrize(
    ("executed", "broken"),
    [
        (TOKENS, 0),
        (near(15), 0),
        (near(16), 1),
        (near(1, index=6), 1),
        (tuple(t + 12 * (i < 3) for i, t in enumerate(TOKENS)), 1),
    ],
)
def test_a_skipped_step_breaks_the_tolerance_of_position_rotation_or_gripper(executed, broken):
    judge = Judge(ScriptedDecoder([("skip", executed)]), ScriptedDecoder(REFERENCE))
    judge.infer("a frame")
    assert (judge.skipped, judge.broken, judge.retrieved) == (1, broken, 1)


def test_only_skipped_steps_are_judged_on_the_same_frame_and_nothing_is_changed():
    script = [("skip", near(99)), ("retrieval", near(99)), ("drafter", near(99)), ("skip", TOKENS)]
    decoder, reference = ScriptedDecoder(script), ScriptedDecoder(REFERENCE)
    judge = Judge(decoder, reference)
    results = [judge.infer(f"frame {i}") for i in range(4)]
    assert [(result.source, result.tokens) for result in results] == script
    assert reference.seen == ["frame 0", "frame 3"]
    assert (judge.skipped, judge.broken, judge.retrieved) == (2, 1, 3)
    judge.settle()
    judge.reset(True)
    assert judge.warning() == "scripted"
    assert (decoder.settled, decoder.resets) == (1, [True])


def test_a_step_behind_a_kept_reasoning_is_judged_by_its_action_alone():
    """Bins of the action count, whatever words the fresh reasoning has."""
    fresh = (7, 8, 9, *[200] * 6, 300, 2)
    script = [("kept", (5, *[action] * 6, gripper, 2))
              for action, gripper in ((210, 300), (216, 300), (200, 301))]  # fmt: skip
    reference = ScriptedDecoder([("autoregressive", fresh)])
    judge = Judge(ScriptedDecoder([*script, ("tags", fresh)]), reference, WORDS)
    for frame in range(4):
        judge.infer(frame)
    assert (judge.skipped, judge.broken, judge.retrieved) == (3, 2, 0)
    assert reference.seen == [0, 1, 2], "each is decoded in full, in shadow"


def test_an_episode_counts_what_skipping_did():
    script = [("skip", TOKENS), ("skip", near(20)), ("last_command", TOKENS), ("drafter", TOKENS)]
    scene, decoder = PushScene(), ScriptedDecoder(script, speed=0.125)
    loss = judge_episode(scene, decoder, ScriptedDecoder(REFERENCE), Start(3, 31), metric=None)
    assert (loss.skipped, loss.broken, loss.retrieved, loss.steps) == (4, 2, 6, 8)
    assert loss.success and loss.loss("disagreement") == 0.5 and loss.loss("failure") == 0.0
    assert scene.resets == [31] and decoder.resets == [None, True]
    assert replace(loss, skipped=0, broken=0).disagreement == 0.0


def test_by_failure_an_episode_that_failed_is_lost_whatever_was_skipped():
    standing = ScriptedDecoder([("skip", TOKENS)], speed=0.0)
    lost = judge_episode(
        PushScene(), standing, ScriptedDecoder(REFERENCE), Start(3, 31), metric=None
    )
    assert not lost.success and lost.loss("failure") == 1.0 and lost.loss("disagreement") == 0.0


def test_a_varied_episode_starts_from_a_moved_arm_the_same_one_each_time():
    ends = []
    for variation in (1, 1, 2):
        scene = PushScene()
        start = MovedStart(scene, Start(3, 31, variation))
        start.reset(31)
        assert 1 <= len(scene.actions) <= 10
        assert all(np.abs(action[:6]).max() <= 0.5 and action[6] == -1 for action in scene.actions)
        ends.append(tuple(start.tip_pose().position))
    assert ends[0] == ends[1] != ends[2]
    decoder = ScriptedDecoder(REFERENCE)
    loss = judge_episode(scene, decoder, decoder, Start(3, 32, 1), metric=None)
    assert scene.resets[-1] == 32 and loss.success


class MadeUpShard:
    """Neighbours whose similarity and spread are known for every entry."""

    def __init__(self, similarities, spreads):
        self.values = list(zip(similarities, spreads, strict=True))
        self.asked = []

    def __len__(self):
        return len(self.values)

    def neighbours(self, entry, k):
        self.asked.append(entry)
        similarity, spread = self.values[entry]
        return matches(similarity, spread, grippers=(600,) * k)


def test_the_path_goes_by_shares_of_the_database():
    # Entry i of 101: similarity 0.5 + i/202, dispersion 100 - i.
    shard = MadeUpShard(np.linspace(0.5, 1.0, 101), np.arange(100, -1, -1))
    similarity, spread = path_of([shard], 4, levels=(0.1, 0.5, 1.0))
    assert similarity == pytest.approx((0.545, 0.525, 0.5))
    assert spread == pytest.approx((10, 50, 100))


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(0, 90)), min_size=1, max_size=30),
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_the_path_loosens(values, levels):
    similarity, spread = path_of([MadeUpShard(*zip(*values, strict=True))], 4, levels)
    assert len(similarity) == len(spread) == len(levels)
    assert (np.diff(similarity) <= 1e-9).all() and (np.diff(spread) >= -1e-9).all()


def test_a_large_shard_is_looked_at_in_even_steps():
    shard = MadeUpShard(np.linspace(0, 1, 5000), np.zeros(5000, int))
    path_of([shard], 2)
    assert len(set(shard.asked)) == ENTRIES_OF_SHARD
    assert (min(shard.asked), max(shard.asked)) == (0, 4999)


def test_the_path_is_that_of_the_tokens_that_would_be_executed():
    shard = MadeUpShard([0.9] * 5, [3] * 5)
    assert path_of([shard], 4, (1.0,))[1] == (3.0,)
    assert path_of([shard], 4, (1.0,), lambda found: found.tokens * 2)[1] == (6.0,)


@pytest.mark.parametrize("levels", [(), (0.0, 0.5), (0.5, 0.5), (0.9, 0.1), (0.5, 1.1)])
def test_levels_must_rise_within_one(levels):
    with pytest.raises(CalibrationError, match="levels"):
        path_of([MadeUpShard([0.9], [1])], 4, levels)


def test_a_mode_is_calibrated_at_a_fixed_setting_without_shadows():
    skip = {"policy": "calibrated", "shadow_share": 0.05, "feedback": True}
    mode = ModeSettings.from_dict({"propose": "retrieval", "skip": skip})
    fixed = calibration_mode(mode).skip
    assert (fixed.policy, fixed.shadow_share, fixed.feedback) == ("calibrated", 0.0, False)
    keeping = load_mode("heisd_reason")
    silent = replace(keeping.reasoning, shadow_share=0.0)
    assert keeping.reasoning.shadow_share > 0.0
    assert calibration_mode(keeping) == replace(keeping, reasoning=silent)
    with pytest.raises(CalibrationError, match="'never'"):
        calibration_mode(ModeSettings(propose="retrieval"))
