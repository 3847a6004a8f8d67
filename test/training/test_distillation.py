"""The VLA's outputs for recorded frames: as in plain decoding, and cached between calls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.episodes import episode
from support.small_models import CONFIG, small_model, small_vla

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.errors import DemonstrationError, UnknownInstructionError
from heisd_ros.families.openvla.network import OpenVLAInputs
from heisd_ros.training import distillation
from heisd_ros.training.distillation import run_teacher, teacher_frames

TEXTS = {"bowl": "pick up the bowl", "drawer": "open the top drawer of the cabinet"}
MODEL = "a" * 64


def record(folder, name, states, steps=3):
    """Continues a file of demonstrations by an episode for each initial state."""
    writer = LiberoWriter(folder / f"{name}_demo.hdf5", TEXTS.get(name, name), "", {})
    for seed, state in enumerate(states, start=len(writer.seeds())):
        one = episode(steps, seed=seed, instruction=TEXTS.get(name, name), init_state=state)
        writer.add(one, seed, np.zeros((steps, 4)), "")


@pytest.fixture
def demonstrations(tmp_path):
    record(tmp_path / "demos", "bowl", [0, 9])
    record(tmp_path / "demos", "drawer", [19, 1, 2])
    return tmp_path / "demos"


@pytest.fixture
def runs(monkeypatch):
    """Numbers of frames that the VLA was run on, batch by batch."""
    batches = []

    def counted(model, inputs):
        batches.append(len(inputs.pixels))
        return run_teacher(model, inputs)

    monkeypatch.setattr(distillation, "run_teacher", counted)
    return batches


@pytest.fixture
def vla():
    return small_vla(dataclasses.replace(CONFIG, proprio_size=7))


def test_a_batch_is_decoded_as_each_frame_alone():
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 2, 6, 32, 32, generator=generator)
    ids, proprio = torch.tensor([[1, 5, 6, 7]]), torch.randn(3, 3, generator=generator)
    hidden, embeds, tokens = run_teacher(model, OpenVLAInputs(pixels, ids, proprio))
    columns = 4 + CONFIG.prefix_tokens
    assert hidden.shape == (3, columns + 6, 32) and embeds.shape == (3, columns, 32)
    with torch.inference_mode():
        for row in range(3):
            one = slice(row, row + 1)
            visual = model.project(model.vision_features(pixels[one]))
            prompt = model.embed(ids, visual, proprio[one])
            torch.testing.assert_close(embeds[one], prompt, rtol=0, atol=1e-5)
            prefill = model.prefill(prompt)
            torch.testing.assert_close(hidden[one, :columns], prefill.hidden, rtol=0, atol=1e-4)
            logits = prefill.logits
            for step in range(7):
                assert tokens[row, step] == logits.argmax()
                if step < 6:
                    logits = model.decode(tokens[one, step : step + 1], prefill.cache)
                    column = hidden[one, columns + step]
                    own = model.language_model.logits(column)
                    torch.testing.assert_close(own, logits, rtol=0, atol=1e-3)


def test_prompts_are_aligned_at_their_end(demonstrations, tmp_path, vla):
    frames = teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    lengths = {name: len(vla.prompts.encode(text)) for name, text in TEXTS.items()}
    assert lengths["bowl"] != lengths["drawer"], "or nothing is tested"
    own = [lengths[name] + vla.config.prefix_tokens for name in ("bowl", "drawer")]
    assert len(frames) == 15
    assert frames.lengths.tolist() == [own[0]] * 6 + [own[1]] * 9
    assert frames.embeds.shape == (15, max(own), 32)
    assert frames.hidden.shape == (15, max(own) + 6, 32)
    assert frames.tokens.shape == (15, 7)
    bos = vla.model.language_model.model.embed_tokens(torch.tensor(1)).half()
    for row in range(15):
        first = max(own) - int(frames.lengths[row])
        assert not frames.embeds[row, :first].any() and not frames.hidden[row, :first].any()
        torch.testing.assert_close(frames.embeds[row, first], bos)
        # What the last columns hold is what the tokens follow from.
        logits = vla.model.language_model.logits(frames.hidden[row, -7:].float())
        chosen = logits.gather(1, frames.tokens[row].unsqueeze(1))[:, 0]
        torch.testing.assert_close(chosen, logits.max(dim=1).values, rtol=0, atol=0.02)


def test_some_initial_states_are_held_out(demonstrations, tmp_path, vla):
    frames = teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    assert frames.held_out.tolist() == [False] * 3 + [True] * 6 + [False] * 6
    assert frames.episodes == (3, 2)


@pytest.mark.parametrize("states", [[0, 1], [9, 19]])
def test_all_or_nothing_held_out_is_an_error(tmp_path, vla, states):
    record(tmp_path / "demos", "bowl", states)
    with pytest.raises(DemonstrationError, match=r"[02] of 2 episodes are held out"):
        teacher_frames([tmp_path / "demos"], vla, MODEL, tmp_path / "cache")


def test_without_initial_states_every_tenth_episode_is_held_out(tmp_path, vla):
    record(tmp_path / "demos", "bowl", [None] * 20, steps=1)
    frames = teacher_frames([tmp_path / "demos"], vla, MODEL, tmp_path / "cache")
    assert torch.nonzero(frames.held_out)[:, 0].tolist() == [9, 19]


def test_a_second_call_runs_nothing(demonstrations, tmp_path, vla, runs):
    seen = []
    first = teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    runs.clear()
    again = teacher_frames(
        [demonstrations], vla, MODEL, tmp_path / "cache", lambda *row: seen.append(row)
    )
    assert runs == []
    assert seen == [(0, 2), (1, 2), (2, 2)]
    for name in ("hidden", "embeds", "tokens", "lengths", "held_out"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name


def test_only_what_changed_is_run_again(demonstrations, tmp_path, vla, runs):
    cache = tmp_path / "cache"
    teacher_frames([demonstrations], vla, MODEL, cache)
    runs.clear()
    record(demonstrations, "bowl", [3])
    assert len(teacher_frames([demonstrations], vla, MODEL, cache)) == 18
    assert runs == [3, 3, 3]
    assert len(list(cache.iterdir())) == 2, "outdated files are removed"


def test_another_model_is_run_again(demonstrations, tmp_path, vla, runs):
    teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    runs.clear()
    teacher_frames([demonstrations], vla, "b" * 64, tmp_path / "cache")
    assert sum(runs) == 15


def test_a_damaged_result_is_made_again(demonstrations, tmp_path, vla):
    first = teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    again = teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    assert torch.equal(first.hidden, again.hidden)


def test_a_run_that_is_stopped_keeps_the_files_that_are_done(demonstrations, tmp_path, vla, runs):
    def stop(done, of):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache", stop)
    runs.clear()
    teacher_frames([demonstrations], vla, MODEL, tmp_path / "cache")
    assert sum(runs) == 9


def test_an_instruction_that_the_model_does_not_know_is_an_error(tmp_path, vla):
    record(tmp_path / "demos", "dance", [0, 9])
    with pytest.raises(UnknownInstructionError, match="unknown instruction 'dance'"):
        teacher_frames([tmp_path / "demos"], vla, MODEL, tmp_path / "cache")


def test_a_file_without_episodes_is_an_error(tmp_path, vla):
    record(tmp_path / "demos", "bowl", [])
    with pytest.raises(DemonstrationError, match=r"bowl_demo\.hdf5 holds no episode"):
        teacher_frames([tmp_path / "demos"], vla, MODEL, tmp_path / "cache")


def test_a_model_without_proprioception_is_served(demonstrations, tmp_path):
    blind = small_vla(dataclasses.replace(CONFIG, proprio_size=0))
    assert len(teacher_frames([demonstrations], blind, MODEL, tmp_path / "cache")) == 15
