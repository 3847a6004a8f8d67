"""The VLA's outputs for recorded frames: as in plain decoding, and cached between calls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import support
import torch
from support.episodes import VIEWS, episode
from support.small_models import CONFIG, small_vla
from support.sources import MemorySource

from heisd_ros import families
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import DatabaseError, DemonstrationError, UnknownInstructionError
from heisd_ros.training import distillation
from heisd_ros.training.distillation import run_teacher, teacher_frames

families.__path__.append(str(Path(support.__path__[0]) / "families"))

from heisd_ros.families.toy.model import ToyModel, random_network  # noqa: E402

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
    """The frames that the VLA was run on, one by one."""
    frames = []

    def counted(*arguments):
        frames.append(arguments)
        return run_teacher(*arguments)

    monkeypatch.setattr(distillation, "run_teacher", counted)
    return frames


def teacher(folder, vla, cache, on_episode=lambda done, of: None, model=MODEL, read_as=None):
    files = sorted(folder.glob("*_demo.hdf5"))
    sources = open_sources(files, Reading(rate_hz=20.0))
    return teacher_frames(sources, vla, model, 20.0, cache, on_episode, read_as or {})


@pytest.fixture
def vla():
    return small_vla(dataclasses.replace(CONFIG, proprio_size=7))


def test_a_frame_is_decoded_as_in_the_plain_loop(vla):
    one = episode(2)
    pictures = [tuple(one.images[view][frame] for view in VIEWS) for frame in range(2)]
    seen = [Observation(images, TEXTS["bowl"], np.zeros(7)) for images in pictures]
    decoder = AutoregressiveDecoder(vla)
    last = ()
    for observation in (*seen, seen[0]):
        block = run_teacher(vla, observation, last)
        last = block["tokens"].tolist()
        assert tuple(last) == decoder.infer(observation).tokens
        # Each token is what the hidden state before it says.
        own = vla.logits(block["hidden"][-7:].float())
        chosen = own.gather(1, block["tokens"].unsqueeze(1))[:, 0]
        torch.testing.assert_close(chosen, own.max(dim=1).values, rtol=0, atol=0.02)
        assert len(block["hidden"]) == len(block["embeds"]) + 6 == block["lengths"] + 6


def test_answers_of_any_length_are_aligned_at_their_beginning(tmp_path):
    model = ToyModel(random_network(22), dtype=torch.float32)
    shades = np.random.default_rng(0).integers(0, 256, (2, 4, 1, 1, 3), dtype=np.uint8)
    pictures = np.broadcast_to(shades, (2, 4, 8, 8, 3))
    episodes = [episode(4, images={"camera": own}, init_state=9 * n)
                for n, own in enumerate(pictures)]  # fmt: skip
    sources = [MemorySource(episodes)]
    frames = teacher_frames(sources, model, MODEL, 20.0, tmp_path / "cache")
    answers, columns = frames.answers, frames.embeds.shape[1]
    assert len(set(answers.tolist())) > 1, "or nothing is tested"
    for row, count in enumerate(answers.tolist()):
        tokens = frames.tokens[row, :count]
        assert model.codec.finished(tokens.tolist())
        assert not model.codec.finished(tokens[:-1].tolist())
        logits = model.logits(frames.hidden[row, columns - 1 : columns - 1 + count].float())
        chosen = logits.gather(1, tokens.unsqueeze(1))[:, 0]
        torch.testing.assert_close(chosen, logits.max(dim=1).values, rtol=0, atol=0.02)
        assert not frames.hidden[row, columns - 1 + count :].any()


def test_prompts_are_aligned_at_their_end(demonstrations, tmp_path, vla):
    frames = teacher(demonstrations, vla, tmp_path / "cache")
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
    frames = teacher(demonstrations, vla, tmp_path / "cache")
    assert frames.held_out.tolist() == [False] * 3 + [True] * 6 + [False] * 6
    assert frames.episodes == (3, 2)


@pytest.mark.parametrize("states", [[0, 1], [9, 19]])
def test_all_or_nothing_held_out_is_an_error(tmp_path, vla, states):
    record(tmp_path / "demos", "bowl", states)
    with pytest.raises(DemonstrationError, match=r"[02] of 2 episodes are held out"):
        teacher(tmp_path / "demos", vla, tmp_path / "cache")


def test_without_initial_states_every_tenth_episode_is_held_out(tmp_path, vla):
    record(tmp_path / "demos", "bowl", [None] * 20, steps=1)
    frames = teacher(tmp_path / "demos", vla, tmp_path / "cache")
    assert torch.nonzero(frames.held_out)[:, 0].tolist() == [9, 19]


def test_a_second_call_runs_nothing(demonstrations, tmp_path, vla, runs):
    seen = []
    first = teacher(demonstrations, vla, tmp_path / "cache")
    runs.clear()
    again = teacher(demonstrations, vla, tmp_path / "cache", lambda *row: seen.append(row))
    assert runs == []
    assert seen == [(done, 5) for done in range(6)]
    for name in ("hidden", "embeds", "tokens", "lengths", "held_out"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name


def test_only_what_changed_is_run_again(demonstrations, tmp_path, vla, runs):
    cache = tmp_path / "cache"
    teacher(demonstrations, vla, cache)
    runs.clear()
    record(demonstrations, "bowl", [3])
    assert len(teacher(demonstrations, vla, cache)) == 18
    assert len(runs) == 3
    (demonstrations / "drawer_demo.hdf5").unlink()
    teacher(demonstrations, vla, cache)
    assert len(list(cache.iterdir())) == 3, "outdated files are removed"


@pytest.mark.parametrize("other", [{"model": "b" * 64}, {"read_as": {"protocol": "another"}}])
def test_another_model_or_another_way_of_reading_is_run_again(
    demonstrations, tmp_path, vla, runs, other
):
    teacher(demonstrations, vla, tmp_path / "cache")
    runs.clear()
    teacher(demonstrations, vla, tmp_path / "cache", **other)
    assert len(runs) == 15


def test_a_damaged_result_is_made_again(demonstrations, tmp_path, vla):
    first = teacher(demonstrations, vla, tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    again = teacher(demonstrations, vla, tmp_path / "cache")
    assert torch.equal(first.hidden, again.hidden)


def test_a_run_that_is_stopped_keeps_the_episodes_that_are_done(
    demonstrations, tmp_path, vla, runs
):
    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher(demonstrations, vla, tmp_path / "cache", stop)
    runs.clear()
    teacher(demonstrations, vla, tmp_path / "cache")
    assert len(runs) == 9


def test_an_instruction_that_the_model_does_not_know_is_an_error(tmp_path, vla):
    record(tmp_path / "demos", "dance", [0, 9])
    with pytest.raises(UnknownInstructionError, match="unknown instruction 'dance'"):
        teacher(tmp_path / "demos", vla, tmp_path / "cache")


def test_a_state_that_episodes_do_not_have_is_an_error(demonstrations, tmp_path):
    odd = small_vla(dataclasses.replace(CONFIG, proprio_size=3))
    with pytest.raises(DatabaseError, match=r"takes 3 numbers of proprioception.* give 7 or 8"):
        teacher(demonstrations, odd, tmp_path / "cache")


def test_a_model_without_proprioception_is_served(demonstrations, tmp_path):
    blind = small_vla(dataclasses.replace(CONFIG, proprio_size=0))
    assert len(teacher(demonstrations, blind, tmp_path / "cache")) == 15


def test_recordings_of_one_episode_each_are_held_out_by_their_number(tmp_path, vla):
    sources = [MemorySource([episode(2, init_state=None)]) for _ in range(12)]
    frames = teacher_frames(sources, vla, MODEL, 20.0, tmp_path / "cache")
    assert frames.episodes == (11, 1)


def test_a_recording_that_is_not_fit_is_refused(tmp_path, vla):
    (source,) = sources = [MemorySource([episode(2, init_state=n) for n in (0, 9)])]
    source.report.unusable = "positions look like degrees"
    with pytest.raises(DemonstrationError, match="look like degrees"):
        teacher_frames(sources, vla, MODEL, 20.0, tmp_path / "cache")
