"""Every way tried at a step, against decoders that go each way by themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.drafts import FakeDatabase, FakeDrafter, FakeShard
from support.predictors import PREDICTED
from support.small_models import CONFIG, INSTRUCTIONS, acting_vla, random_images

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.proposers import proposers_of
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipGate
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import PredictorError
from heisd_ros.evaluation.predictor_steps import COLUMNS, Prober, acting_mode
from heisd_ros.kinematics.metric import MetricSample

VLA = acting_vla()
VLA.model.double()
EXACT = {"retrieval": {"accept": "exact"}, "drafter": {"accept": "exact", "depth": 6}}
MODE = ModeSettings.from_dict({**PREDICTED, **EXACT, "redraft": True})


def observation(seed, f=0.9, instruction=INSTRUCTIONS[0]):
    motion = MetricSample(f, 0.1, 0.1, 0.1, "paper", True, "velocity")
    proprio = np.zeros(CONFIG.proprio_size, np.float32)
    return Observation(random_images(CONFIG, seed), instruction, proprio, motion)


def own_tokens(seed):
    return AutoregressiveDecoder(VLA).infer(observation(seed)).tokens


def acting(entry, drafted=None):
    mode = acting_mode(MODE)
    return HybridDecoder(
        VLA,
        mode,
        database=FakeDatabase(FakeShard(VLA, [entry])),
        proposers=proposers_of(mode, VLA, FakeDrafter(drafted or entry[1:])),
        gate=SkipGate(mode.skip),
        boundary=Boundary(0.5, 0.0),
    )


def named(step):
    return dict(zip(COLUMNS, step.tolist(), strict=True))


def test_probing_changes_nothing_of_what_is_decided():
    entry = own_tokens(1)
    alone, probed = acting(entry), Prober(acting(entry))
    seen = [(0, 0.9), (1, 0.1), (1, 0.9), (2, 0.1)]
    for seed, f in seen:
        ours, theirs = probed.infer(observation(seed, f)), alone.infer(observation(seed, f))
        assert (ours.tokens, ours.source, ours.passes) == (
            theirs.tokens,
            theirs.source,
            theirs.passes,
        )
    assert len(probed.steps) == len(seen)


def test_the_passes_of_each_way_are_those_of_taking_it():
    """Frame 1, where the entry is perfect, and the last command of frame 0 is not."""
    entry, before = own_tokens(1), own_tokens(0)
    prober = Prober(acting(entry, drafted=entry[1:]))
    for seed in (0, 1, 1):
        prober.infer(observation(seed))
    first, second, third = map(named, prober.steps)
    assert np.isnan(first["last_command"]) and first["retrieval"] > 1.0
    assert (second["retrieval"], second["drafter"]) == (1.0, 2.0)
    assert before != entry and second["last_command"] > 1.0
    assert third["last_command"] == 1.0, "the same frame again"


def test_the_entry_is_compared_with_the_models_own_answer():
    entry = own_tokens(1)
    near = (entry[0] + (3 if entry[0] < VLA.model.action_rows.start + 200 else -3), *entry[1:])
    prober = Prober(acting(near))
    prober.infer(observation(1))
    assert named(prober.steps[0])["away"] == 3.0 and named(prober.steps[0])["gripper"] == 1.0


def test_without_a_shard_there_is_nothing_to_retrieve():
    prober = Prober(acting(own_tokens(1)))
    prober.infer(observation(0, instruction=INSTRUCTIONS[1]))
    step = named(prober.steps[0])
    assert all(np.isnan(step[name]) for name in ("away", "gripper", "retrieval", "similarity"))
    assert step["drafter"] >= 1.0


def test_a_reset_forgets_the_last_command_and_keeps_the_steps():
    prober = Prober(acting(own_tokens(1)))
    prober.infer(observation(0))
    prober.reset()
    prober.infer(observation(0))
    assert len(prober.steps) == 2 and np.isnan(named(prober.steps[1])["last_command"])


def test_the_mode_that_acts_has_no_predictor_and_the_same_drafts():
    skip = {"policy": "predicted", "agree": 30, "shadow_share": 0.2}
    mode = ModeSettings.from_dict({**PREDICTED, **EXACT, "skip": skip})
    found = acting_mode(mode)
    assert (found.boundary.kind, found.skip.policy) == ("paper", "threshold")
    assert (found.retrieval, found.drafter) == (mode.retrieval, mode.drafter)
    with pytest.raises(PredictorError, match=r"boundary\.kind is 'paper': there is nothing to fit"):
        acting_mode(dataclasses.replace(mode, boundary=found.boundary, skip=found.skip))
