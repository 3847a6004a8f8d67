"""FAST tokens: what cannot be decoded is an error, and what cannot be written too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.fft import dct
from support.tree import ROOT
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer

from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.families.fast import FastTokenizer

FOLDER = ROOT / "test" / "data" / "pi0fast_reference" / "action_tokenizer"


@pytest.fixture(scope="module")
def fast():
    return FastTokenizer.read(FOLDER)


def decoded(fast, ids):
    try:
        return fast.decode(ids, 10, 7)
    except AnswerError:
        return None


def test_a_chunk_and_back(fast):
    rows = np.linspace(-1, 1, 10)[:, None] * np.linspace(0.2, 1, 7)
    ids = fast.encode(rows)
    again = fast.decode(ids, 10, 7)
    assert np.abs(again - rows).max() < 0.5 / fast.scale * np.sqrt(10)
    assert fast.encode(again) == ids


def test_the_last_id_still_moves_the_first_action(fast):
    """So no part of a chunk can be executed before the whole answer is verified."""
    rows = np.zeros((10, 7))
    rows[-1] = 1.0
    ids = fast.encode(rows)
    chunk = fast.decode(ids, 10, 7)
    others = (decoded(fast, [*ids[:-1], last]) for last in range(fast.size) if last != ids[-1])
    moved = [np.abs(other[0] - chunk[0]).max() for other in others if other is not None]
    assert len(moved) > 10
    assert min(moved) > 0.0


def test_ids_outside_the_vocabulary(fast):
    for wrong in (-1, fast.size, 10**9):
        with pytest.raises(AnswerError, match=f"accepted: 0 to {fast.size - 1}"):
            fast.coefficients([40, wrong])


def test_half_a_character(fast):
    halves = json.loads((FOLDER.parent / "reference.json").read_text())["fast_tokenizer"]
    for half in halves["half_character_ids"]:
        with pytest.raises(AnswerError, match="malformed UTF-8"):
            fast.coefficients([40, half])


@pytest.mark.parametrize(("horizon", "found"), [(9, 70), (11, 70)])
def test_a_wrong_number_of_coefficients(fast, horizon, found):
    ids = fast.encode(np.zeros((10, 7)))
    with pytest.raises(AnswerError, match=f"holds {found} coefficients; {horizon} actions of 7"):
        fast.decode(ids, horizon, 7)


def test_no_ids_are_no_chunk(fast):
    with pytest.raises(AnswerError, match="0 coefficients"):
        fast.decode([], 10, 7)


def test_coefficients_that_the_vocabulary_lacks(fast):
    with pytest.raises(ValueError, match="cannot be written"):
        fast.encode(np.full((10, 7), 900.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"scale": 0, "min_token": 0}, "scale is 0"),
        ({"scale": 10, "min_token": 2**62}, "min_token is 4611686018427387904"),
        ({"scale": "10", "min_token": 0}, "scale"),
        ({"scale": 10}, "min_token"),
        ([], "JSON object"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match=message):
        FastTokenizer.read(tmp_path)


def test_the_folder_that_transformers_5_writes(tmp_path, fast):
    (tmp_path / "bpe_tokenizer").mkdir()
    for name, place in (("processor_config.json", ""), ("tokenizer.json", "bpe_tokenizer")):
        (tmp_path / place / name).write_bytes((FOLDER / name).read_bytes())
    assert FastTokenizer.read(tmp_path).encode(np.zeros((2, 3))) == fast.encode(np.zeros((2, 3)))


def smooth_chunks(count=200, horizon=10, dimensions=7, seed=0):
    """Random motion with more power in low frequencies, and a gripper that switches once."""
    rng = np.random.default_rng(seed)
    speed = np.cumsum(rng.normal(0, 0.2, (count, horizon, dimensions)), axis=1).clip(-1, 1)
    switch = rng.integers(0, horizon, (count, 1))
    speed[..., -1] = np.where(np.arange(horizon) < switch, -1.0, 1.0)
    return speed


def fitted_by_upstreams_recipe(chunks, scale, vocab_size):
    """What ``UniversalActionProcessor.fit`` does, step by step as it is published."""
    rows = [np.around(dct(chunk, axis=0, norm="ortho").flatten() * scale) for chunk in chunks]
    low, high = int(np.concatenate(rows).min()), int(np.concatenate(rows).max())
    bpe = ByteLevelBPETokenizer()
    trainer = BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False, special_tokens=[],
        initial_alphabet=[chr(i) for i in range(high - low + 1)], max_token_length=10000,
    )  # fmt: skip
    texts = ("".join(map(chr, (row - low).astype(int))) for row in rows)
    bpe._tokenizer.train_from_iterator(texts, trainer=trainer)
    return bpe, low


@pytest.mark.parametrize(("scale", "vocab_size"), [(10, 400), (3, 1024)])
def test_a_fit_is_upstreams(scale, vocab_size):
    chunks = smooth_chunks()
    ours = FastTokenizer.fit(chunks, scale, vocab_size)
    theirs, low = fitted_by_upstreams_recipe(chunks, scale, vocab_size)
    assert ours.min_token == low
    assert json.loads(ours.tokenizer.to_str()) == json.loads(theirs.to_str())
    assert ours.size <= vocab_size


def test_what_was_fitted_is_written_within_half_a_step_of_every_coefficient(tmp_path):
    chunks = smooth_chunks()
    fast = FastTokenizer.fit(chunks, scale=10.0)
    fast.save(tmp_path)
    again = FastTokenizer.read(tmp_path)
    assert (again.scale, again.min_token, again.size) == (10.0, fast.min_token, fast.size)
    for chunk in chunks:
        ids = again.encode(chunk)
        assert ids == fast.encode(chunk)
        error = dct(again.decode(ids, 10, 7) - chunk, axis=0, norm="ortho")
        assert np.abs(error).max() <= 0.5 / fast.scale + 1e-9
    # Pairs were learnt: fewer ids than coefficients.
    assert np.mean([len(fast.encode(chunk)) for chunk in chunks]) < 50


def test_more_coefficients_than_ids_are_refused():
    with pytest.raises(ValueError, match=r"accepted: (-\d+) to"):
        FastTokenizer.fit(smooth_chunks(), scale=10.0, vocab_size=20)
