"""The choice of an engine: all give the same tokens; one that cannot run is refused at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.decoding.assembly import Assembly, build_decoder
from heisd_ros.decoding.modes import load_mode, mode_names
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import EngineError
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.models import shipped_model
from heisd_ros.vla import engines
from heisd_ros.vla.engine import PlainEngine
from heisd_ros.vla.static_engine import StaticEngine


@pytest.fixture
def vla(tmp_path):
    return load_checkpoint(save_tiny_checkpoint(tmp_path / "model"))


def observation(vla):
    rng = np.random.default_rng(0)
    size = vla.config.image_size
    images = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in vla.config.views]
    proprio = np.zeros(vla.config.proprio_size, np.float32) if vla.config.proprio_size else None
    return Observation(tuple(images), INSTRUCTIONS[0], proprio)


def test_every_engine_gives_the_same_tokens(vla, monkeypatch):
    """`compiled` by PyTorch's tracer alone: the C++ that it writes otherwise takes long."""
    monkeypatch.setattr(engines, "COMPILER", "aot_eager")
    seen = observation(vla)
    found = {
        choice: build_decoder(vla, ModeSettings(engine=choice)).infer(seen).tokens
        for choice in ("auto", "plain", "static", "compiled")
    }
    assert len(set(found.values())) == 1, found


def test_decoders_share_a_model_s_engine_of_a_choice(vla):
    static = vla.with_engine("static")
    assert isinstance(static.engine, StaticEngine) and static.model is vla.model
    assert static.with_engine("static") is static and vla.with_engine("static") is static
    assert static.with_engine("auto") is vla and isinstance(vla.engine, PlainEngine)
    assert isinstance(vla.with_engine("plain").engine, PlainEngine)


@pytest.mark.parametrize("mode", ["ar", "last_command"])
def test_a_mode_is_compiled_in_its_first_step_for_every_known_prompt(vla, monkeypatch, mode):
    ran = []

    def compiler(graph, inputs):
        ran.append(1)
        return graph.forward

    monkeypatch.setattr(engines, "COMPILER", compiler)
    compiled, plain = (build_decoder(vla, load_mode(f"{mode}{end}")) for end in ("_compiled", ""))
    first = observation(vla)
    turned = tuple(image[::-1].copy() for image in first.images)
    steps = [(words, images) for words in INSTRUCTIONS for images in (first.images, turned)]
    compiled_by = []
    for words, images in steps:
        seen = dataclasses.replace(first, images=images, instruction=words)
        assert compiled.infer(seen).tokens == plain.infer(seen).tokens
        compiled_by.append(len(ran))
    assert len(set(compiled_by)) == 1 and compiled_by[0] > 0


ACTING = [name for name in mode_names() if load_mode(name).reasoning.keep == "never"]


@pytest.mark.parametrize("name", ACTING)
def test_no_mode_compiles_behind_its_first_step(monkeypatch, name):
    """The first step is configure's, without motion; whatever moves then, the arm cannot wait."""
    made = []

    def compiled(self, program):
        made.append(program)
        return program

    monkeypatch.setattr(StaticEngine, "_compiled", compiled)
    model = shipped_model()
    vla, mode = load_checkpoint(model), load_mode(f"{name}_compiled")
    if mode.skip.policy in ("random", "hold"):
        mode = dataclasses.replace(mode, skip=dataclasses.replace(mode.skip, rate=0.5))
    decoder = Assembly(model).decoder(vla, mode)
    fast = MetricSample(1.0, 0.0, 0.0, 0.3, "paper", True, "velocity")
    slow = dataclasses.replace(fast, value=0.0, speed=0.0)
    rng, counted = np.random.default_rng(0), []
    for motion in (None, fast, slow, fast, fast, slow):
        for words in vla.spec.instructions[:2]:
            shape = vla.spec.image_size, vla.spec.image_size, 3
            images = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for _ in vla.spec.views)
            proprio = np.zeros(vla.spec.proprio_size, np.float32)
            decoder.infer(Observation(images, words, proprio, motion))
        counted.append(len(made))
    assert len(set(counted)) == 1, counted


def test_without_a_compiler_the_choice_is_refused(vla, monkeypatch):
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler .*engine 'plain'"):
        build_decoder(vla, load_mode("ar_compiled"))


def test_the_engine_binds_no_calibration():
    assert load_mode("ar_compiled").decisive() == load_mode("ar").decisive()
