"""Demonstrations: who acts, what is recorded, and that a file is continued."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from heisd_ros.data.libero_hdf5 import LiberoWriter, read_episodes
from heisd_ros.sim import demonstrations
from heisd_ros.sim.demonstrations import (
    CALM,
    DEMONSTRATION_STATES,
    HELD_OUT_STATES,
    LEAD_STEPS,
    collect_task,
    record_episode,
    run_expert,
)
from heisd_ros.sim.expert import PickPlaceExpert, PickPlaceTask, grasp_candidates
from heisd_ros.sim.scene import OPEN_GRIPPER, RENDERING
from heisd_ros.sim.stall import STALL_STEPS, Stall

SEED = 0
"""Divisible by four: a calm episode."""


class Still:
    """A policy that does not move; it keeps where the tip was when it was asked."""

    def __init__(self):
        self.tips = []

    def __call__(self, scene):
        self.tips.append(scene.tip_pose().position)
        return np.array([0, 0, 0, 0, 0, 0, OPEN_GRIPPER])


class Expert:
    """A policy as good as the expert."""

    def __init__(self):
        self.expert = None

    def __call__(self, scene):
        if self.expert is None:
            item = PickPlaceTask.from_scene(scene).item
            self.expert = PickPlaceExpert(scene, grasp_candidates(scene, item)[0])
        return self.expert.action()


def fixed_lead(monkeypatch, steps):
    monkeypatch.setattr(demonstrations, "LEAD_STEPS", (steps, steps + 1))


def test_states_of_evaluation_are_never_those_of_demonstrations():
    assert not set(DEMONSTRATION_STATES) & set(HELD_OUT_STATES)
    assert [*DEMONSTRATION_STATES, *HELD_OUT_STATES] == [*range(50)]


def test_a_lead_acts_first_and_the_labels_are_the_experts(scene, monkeypatch):
    fixed_lead(monkeypatch, 30)
    lead, labels = Still(), []
    taken = run_expert(scene, 0, SEED, labels.append, lead=lead)
    assert scene.success()
    assert len(lead.tips) == 30
    assert taken == len(labels) > 30
    assert np.ptp(lead.tips, axis=0).max() < 0.02, "the expert did not act meanwhile"
    # What the expert would have done: it wants to go somewhere all the time.
    assert np.linalg.norm(np.array(labels)[:30, :3], axis=1).min() > 0.3


def test_a_seed_decides_how_long_the_lead_acts(scene, monkeypatch):
    monkeypatch.setattr(demonstrations, "MAX_STEPS", 0)
    counts = []
    for seed in (4, 4, 8):
        lead = Still()
        assert run_expert(scene, 0, seed, lead=lead) is None
        counts.append(len(lead.tips))
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1
    assert all(LEAD_STEPS[0] <= count < LEAD_STEPS[1] for count in counts)


def test_a_lead_that_solves_the_task_ends_the_episode(scene, monkeypatch):
    fixed_lead(monkeypatch, 10_000)
    labels = []
    taken = run_expert(scene, 0, SEED, labels.append, lead=Expert())
    assert taken == len(labels) and scene.success()
    # The limit is the expert's: a lead's steps do not count.
    monkeypatch.setattr(demonstrations, "MAX_STEPS", 1)
    assert run_expert(scene, 0, SEED, lead=Expert()) == taken


def test_an_episode_holds_the_leads_steps_with_the_experts_labels(scene, monkeypatch):
    fixed_lead(monkeypatch, 30)
    lead = Still()
    recorded, states = record_episode(scene, 0, SEED, 10, CALM, lead)
    assert len(recorded) == len(states)
    assert (recorded.stride, recorded.init_state) == (10, SEED)
    assert recorded.instruction == scene.instruction
    tips = recorded.joint_positions[:3]
    np.testing.assert_allclose(tips, np.broadcast_to(tips[0], tips.shape), atol=0.05)
    assert np.linalg.norm(recorded.actions[:3, :3], axis=1).min() > 0.3
    assert recorded.images["agentview"].shape == (len(recorded), 64, 64, 3)


def test_the_expert_takes_over_once_the_lead_stalls(scene):
    lead, stall = Still(), Stall()
    recorded, _ = record_episode(scene, 0, SEED, 30, CALM, lead, stall)
    assert stall.at is not None and len(lead.tips) == stall.at <= STALL_STEPS + 10
    assert recorded.outcome == "success"
    persons = np.arange(len(recorded)) * 30 >= stall.at
    np.testing.assert_array_equal(recorded.person, persons, strict=True)
    own = recorded.actions[~recorded.person]
    assert len(own) and not own[:, :6].any(), "the policy's own actions, not the expert's labels"
    assert np.linalg.norm(recorded.actions[recorded.person][0, :3]) > 0.3


def test_the_expert_takes_over_at_last_from_a_lead_that_never_stalls(scene, monkeypatch):
    monkeypatch.setattr(demonstrations, "MOST_LEAD_STEPS", 5)
    monkeypatch.setattr(demonstrations, "MAX_STEPS", 1)
    lead, stall = Still(), Stall()
    run_expert(scene, 0, SEED, lead=lead, stall=stall)
    assert (len(lead.tips), stall.at) == (5, 5)


def test_an_episode_that_the_expert_cannot_finish_is_not_recorded(scene, monkeypatch):
    monkeypatch.setattr(demonstrations, "MAX_STEPS", 3)
    assert record_episode(scene, 0, SEED, 10, CALM, None) is None


def test_a_task_is_collected_with_a_lead_and_continued(tmp_path, monkeypatch):
    pytest.importorskip("libero")
    fixed_lead(monkeypatch, 20)
    monkeypatch.setattr(demonstrations, "choose_grasp", lambda scene: 0)
    lead, counts = Still(), []
    options = {"stride": 20, "image_size": 32, "lead": lead, "on_episode": counts.append}
    path = collect_task("libero_spatial", 2, tmp_path, 1, first_seed=50, **options)
    assert len(lead.tips) % 20 == 0 and lead.tips
    collect_task("libero_spatial", 2, tmp_path, 2, **options)
    assert counts == [0, 1, 1, 2]
    first, second = read_episodes(path)
    assert first.init_state >= 50 % len(DEMONSTRATION_STATES) < second.init_state
    assert first.images["wrist"].shape[1:] == (32, 32, 3)
    with h5py.File(path) as file:
        environment = json.loads(file["data"].attrs["env_args"])
    assert environment == {"suite": "libero_spatial", "task_index": 2, "rendering": RENDERING}
    writer = LiberoWriter(path, first.instruction, "x.bddl", environment)
    assert writer.grasp_candidate == 0 and 50 <= min(writer.seeds()) < max(writer.seeds())
