"""Shipped models are found by name."""

from __future__ import annotations

import numpy as np
import pytest

from heisd_ros.decoding.assembly import Assembly
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import CheckpointError
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.models import find_model, shipped_model, shipped_models

BOWL = "pick up the black bowl from table center and place it on the plate"


def test_a_shipped_model_is_found_by_its_short_name():
    assert shipped_models()["panda"] == shipped_model() == find_model("panda") == find_model("")


def test_a_folder_is_itself(tmp_path):
    assert find_model(str(tmp_path)) == tmp_path


def test_what_is_neither_is_refused_with_what_there_is():
    with pytest.raises(
        CheckpointError, match=r"no model 'slow'; accepted: panda.*, or a checkpoint"
    ):
        find_model("slow")


@pytest.mark.parametrize(
    ("name", "horizon", "drafting"),
    [("fast", 10, ("last_command", "dsd")), ("reason", 1, ("last_command",))],
)
def test_a_small_model_fits_and_drafts_leave_its_tokens_as_they_are(name, horizon, drafting):
    folder = find_model(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16 * 2**20
    model, parts = load_checkpoint(folder), Assembly(folder)
    assert model.codec.horizon == horizon
    decoders = [parts.decoder(model, load_mode(mode)) for mode in ("ar", *drafting)]
    shape, rng = (128, 128, 3), np.random.default_rng(0)
    for _ in range(3):
        views = tuple(rng.integers(0, 256, shape, np.uint8) for _ in model.spec.views)
        seen = Observation(views, BOWL, np.zeros(model.spec.proprio_size))
        plain, *drafted = [decoder.infer(seen) for decoder in decoders]
        assert plain.chunk.shape == (horizon, 7)
        assert all(result.tokens == plain.tokens for result in drafted)


def test_the_model_that_reasons_says_what_it_does_before_it_acts():
    folder = find_model("reason")
    model = load_checkpoint(folder)
    decoder = Assembly(folder).decoder(model, load_mode("heisd_reason"))
    assert not decoder.warning(), "its calibration is of another mode"
    grey = np.full((128, 128, 3), 128, np.uint8)
    result = decoder.infer(Observation((grey, grey), BOWL, np.zeros(model.spec.proprio_size)))
    parts = model.codec.parts(result.tokens)
    assert parts["TASK"] == BOWL
    assert [*parts] == [
        *("TASK", "PLAN", "VISIBLE OBJECTS", "SUBTASK REASONING", "SUBTASK"),
        *("MOVE REASONING", "MOVE", "GRIPPER POSITION", "ACTION"),
    ]
