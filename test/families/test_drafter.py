"""A drafter over the families whose answers have any length: trained, and verified exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tree import ROOT

from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.types import Observation
from heisd_ros.families.checkpoint import load_checkpoint, statistics_of
from heisd_ros.training.distillation import TeacherFrames, aligned, run_teacher
from heisd_ros.training.train_drafter import DistillationSettings, DrafterTrainer
from heisd_ros.vla.drafter import load_drafter

MODEL = "a" * 64
SHADES = (77, 150)


@pytest.mark.parametrize("family", ["ecot", "nora", "pi0fast"])
def test_exact_modes_give_the_plain_loop_s_tokens(family, tmp_path):
    folder = ROOT / "test" / "data" / f"{family}_reference"
    key = next(iter(statistics_of(folder)), None)
    model = load_checkpoint(folder, statistics_key=key)
    size = model.spec.proprio_size
    seen = [
        Observation(
            tuple(np.full((32, 32, 3), shade, np.uint8) for _ in model.spec.views),
            "Close the Drawer",
            np.zeros(size) if size else None,
        )
        for shade in SHADES
    ]
    blocks = aligned([run_teacher(model, one) for one in seen], torch.stack)
    frames = TeacherFrames(**blocks, held_out=torch.zeros(2, dtype=torch.bool), episodes=(2, 0))
    settings = DistillationSettings(steps=25, batch_size=4, warmup_steps=2, learning_rate=1e-2)
    DrafterTrainer(frames, model, MODEL, tmp_path, settings).run(lambda *row: None)
    drafter = load_drafter(tmp_path / "drafter", MODEL, model)
    decoder = build_decoder(model, load_mode("dsd"), drafter=drafter)
    plain, result = AutoregressiveDecoder(model).infer(seen[0]), decoder.infer(seen[0])
    assert result.tokens == plain.tokens
    assert result.source == "drafter" and result.accepted > 0
    assert result.passes < plain.passes
