"""`heisd bench decode`: what is timed is what is said, on a model that takes no time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.small_models import CONFIG, small_vla
from typer.testing import CliRunner

from heisd_ros.benchmark import decode
from heisd_ros.benchmark.decode import Settings
from heisd_ros.benchmark.roofline import Roofline
from heisd_ros.benchmark.steps import DRAFTED, EAGER, OPTIMISED, RETRIEVED, Steps, forced
from heisd_ros.benchmark.subject import Subject, random_shard
from heisd_ros.cli.main import app
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.families.openvla.codec import OpenVLAAnswer
from heisd_ros.families.openvla.network import OpenVLAInputs, VLAModel
from heisd_ros.families.openvla.shapes import mini_config, openvla_config, random_model
from heisd_ros.families.shapes import fill, noise
from heisd_ros.vla.drafter import Drafter
from heisd_ros.vla.engine import PlainEngine
from heisd_ros.vla.static_engine import StaticEngine

CPU = torch.device("cpu")


def tiny_subject(dtype=torch.float64):
    vla = small_vla()
    vla.model.to(dtype)
    drafter = Drafter.of(vla).to(dtype).eval().requires_grad_(False)
    fill(drafter, CPU)
    ids = torch.arange(1, 8).unsqueeze(0)
    proprio = torch.zeros(1, CONFIG.proprio_size, dtype=dtype)

    def inputs(seed):
        return OpenVLAInputs(noise(1, 2, 6, 32, 32, device=CPU, dtype=dtype), ids, proprio)

    return Subject("mini", "of a test", vla, inputs, small_shard(), drafter)


def small_shard():
    return random_shard(len(CONFIG.views) * CONFIG.vision_width, 538 - 100, entries=80)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(decode, "load_subject", lambda *_: tiny_subject())
    monkeypatch.setattr(Roofline, "measure", lambda *_: Roofline(1e9, 1e9))  # takes seconds
    return Settings("mini", CPU, torch.float64, rounds=2)


@pytest.mark.parametrize("make_engine", [PlainEngine, StaticEngine])
@torch.inference_mode()
def test_every_way_of_decoding_takes_the_passes_it_is_charged_with(make_engine):
    subject = tiny_subject()
    steps = Steps(subject, make_engine(subject.vla.model))
    layer, passes = subject.vla.model.language_model.model.layers[0], []
    layer.register_forward_hook(lambda *_: passes.append(1))

    def count(run):
        passes.clear()
        return run(), len(passes)

    assert count(steps.eager) == (steps.chain, 7)
    assert count(steps.plain) == (steps.chain, 7)
    for accepted in range(8):
        tokens, taken = count(lambda a=accepted: steps.retrieved(a))
        assert taken == 1 + max(0, 6 - accepted)
        assert tokens == steps.chain  # the draft is the model's own
    tokens, taken = count(steps.drafted)
    assert taken == 2 and len(tokens) == 7
    assert count(steps.skipped)[1] == 0


def test_acceptance_is_forced_whatever_the_model_says():
    tree = DraftTree.from_chains([range(300, 307)])
    for accepted in range(8):
        path = forced(accepted)("exact", tree, [1] * 8, (), OpenVLAAnswer(538))
        assert path == tuple(range(accepted))


def test_a_run_holds_every_case_its_roofline_and_the_peer(tiny):
    result = decode.run(tiny)
    json.dumps(result)
    cases = {case["name"]: case for case in result["cases"]}
    for name in (EAGER, OPTIMISED, DRAFTED, *(f"{RETRIEVED}, {a}" for a in range(8))):
        case = cases[name]
        assert 0 < case["p50_ms"] <= case["p99_ms"] and case["ratio_to_eager"] > 0
        assert case["roofline_ms"] > 0
    assert cases[EAGER]["ratio_to_eager"] == 1.0
    assert [cases[f"{RETRIEVED}, {a}"]["accepted"] for a in range(8)] == list(range(8))
    rooflines = [cases[f"{RETRIEVED}, {a}"]["roofline_ms"] for a in range(8)]
    assert rooflines == sorted(rooflines, reverse=True)
    assert (result["device"], result["shape"], result["weights"]) == (
        decode.device_name(CPU),
        "mini",
        "of a test",
    )
    # The same weights, so the same tokens as transformers'.
    assert [peer["tokens_as_ours"] for peer in result["peers"]] == [7, 7]
    assert all(peer["ratio_to_ours"] > 0 for peer in result["peers"])
    assert any(EAGER in line for line in decode.lines(result))


def test_int8_says_how_many_tokens_it_kept(tiny):
    said = []
    settings = Settings("mini", CPU, torch.float64, rounds=2, int8=True)
    result = decode.run(settings, said.append)
    assert 0 <= result["tokens_as_plain"] <= 7 and "int8" in result["weights"]
    assert result["peers"] == [] and any("int8" in line for line in said)


def test_without_transformers_one_line_says_so(tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    said = []
    assert decode.run(tiny, said.append)["peers"] == []
    assert any("transformers is not installed" in line for line in said)


def test_shapes_are_those_of_the_models_they_stand_for():
    with torch.device("meta"):
        large = VLAModel(openvla_config())
    parameters = sum(p.numel() for p in large.language_model.parameters())
    assert parameters == 6_738_939_904  # Llama-2-7B's 6,738,415,616 and 64 rows twice
    small, real = mini_config(), openvla_config()
    assert small.prefix_tokens == real.prefix_tokens == 256
    assert small.real_vocab_size == real.real_vocab_size == 32_000


def test_random_weights_are_finite_and_the_same_each_time():
    first, second = (random_model(CONFIG, CPU, torch.float32) for _ in range(2))
    for name, value in first.state_dict().items():
        assert value.isfinite().all(), name
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)
    shard = small_shard()
    size = shard._space.projection.size
    key = np.full(size, size**-0.5, np.float32)
    assert shard.search(key, 5).tokens.shape == (5, 7)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "nowhere"], "nowhere"),
        (["--shape", "gpt2"], "no whole steps of 'gpt2'; accepted: shipped, openvla-7b, mini"),
        (["--device", "cuda"], "accepted here: cpu"),
        (["--from-eval", "missing.json"], "missing.json"),
    ],
)
def test_bad_input_is_one_line(arguments, says, monkeypatch):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(app, ["bench", "decode", *arguments])
    assert result.exit_code == 1 and says in result.output
    assert len(result.output.strip().splitlines()) == 1
