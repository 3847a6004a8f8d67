"""`heisd bench decode --shape ecot`: passes of two depths, and the line through them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support.small_models import CONFIG, small_vla
from typer.testing import CliRunner

from heisd_ros.benchmark import family_shapes
from heisd_ros.cli.main import app
from heisd_ros.families.ecot.shapes import SHAPES
from heisd_ros.families.shapes import Passes, Published
from heisd_ros.vla.engine import Prompt


def tiny(layers, tokens, device, dtype):
    """A small network of so many layers."""
    language = replace(CONFIG.language, num_hidden_layers=layers)
    vla = small_vla(replace(CONFIG, language=language))
    columns = torch.zeros(1, 9, language.hidden_size)
    return Passes(lambda: columns, vla.engine, Prompt(columns))


@pytest.fixture(autouse=True)
def published(monkeypatch):
    monkeypatch.setitem(SHAPES, "ecot", Published(6, 10, tiny))


def bench(*words):
    return CliRunner().invoke(app, ["bench", "decode", "--shape", "ecot", "--rounds", "2", *words])


def test_all_layers_are_measured(tmp_path):
    result = bench("--json", str(tmp_path / "out.json"))
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["measured_layers"], written["prompt_columns"]) == ([6], 9)
    assert written["ms"] == written["measured_ms"]["6"]
    parts, answers = written["ms"], written["answer_ms"]
    loop = parts["vision"] + parts["prefill"] + 9 * parts["one token"]
    assert answers["answer of 10 tokens, plain loop"] == pytest.approx(loop, abs=0.02)
    drafted = parts["vision"] + parts["prefill with a draft"] + 2 * parts["one token with a draft"]
    assert answers["answer, 4 tokens a pass"] == pytest.approx(drafted, abs=0.02)


NAMES = ["vision", "prefill", "prefill with a draft", "one token", "one token with a draft"]


def timed(monkeypatch, a_layer_ms):
    def passes(stages, settings):
        depth = len(stages.engine.model.language_model.model.layers)
        return dict.fromkeys(NAMES, 5.0 + a_layer_ms * depth)

    monkeypatch.setattr(family_shapes, "_passes", passes)


def test_two_depths_give_the_line_to_all_layers(monkeypatch, tmp_path):
    timed(monkeypatch, 3.0)
    result = bench("--layers", "2", "--json", str(tmp_path / "out.json"))
    assert "2 and 4 of 6 layers, extrapolated" in result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["measured_layers"] == [2, 4]
    vision, *passes = (written["ms"][name] for name in NAMES)
    assert vision == 5.0 + 3.0 * 3, "the mean: these layers are not the decoder's"
    assert passes == [5.0 + 3.0 * 6] * 4


def test_more_layers_in_less_time_are_noise(monkeypatch):
    timed(monkeypatch, -1.0)
    result = bench("--layers", "2")
    assert result.exit_code == 1
    assert "3.0 ms with 2 layers, 1.0 ms with 4, which is noise" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layers", "3"], "3 layers; accepted: 0 (all) to 2"),
        (["--int8"], "--int8 and --from-eval are not for the shape ecot"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, said):
    result = bench(*words)
    assert result.exit_code == 1 and said in result.output
