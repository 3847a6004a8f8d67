from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tree import ROOT
from torch import nn

from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.vla.int8 import Int8Linear, quantise, use_int8


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.sampled_from([0.0, 1e-3, 1e3]))
def test_a_weight_is_off_by_half_a_step_at_most(rows, columns, seed, size):
    weight = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    steps, scale = quantise(weight)
    assert steps.dtype == torch.int8 and steps.abs().max() <= 127
    error = (steps.float() * scale.unsqueeze(1) - weight).abs()
    assert (error <= 0.5001 * scale.unsqueeze(1)).all()


def test_a_layer_multiplies_by_what_its_steps_stand_for():
    linear = nn.Linear(24, 16, bias=False).double()
    x = torch.randn(3, 24, dtype=torch.float64)
    layer = Int8Linear(linear)
    dense = layer.weight.double() * layer.scale.unsqueeze(1)
    torch.testing.assert_close(layer(x), x @ dense.t())
    torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_logits_move_little(dtype):
    """On a checkpoint in OpenVLA's layout; by how much decides whether its tokens survive."""
    folder = ROOT / "test" / "data" / "openvla_reference"
    model = load_checkpoint(folder, dtype=dtype, statistics_key="bridge_orig").model
    prompt = torch.randn(1, 20, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = model.prefill(prompt).logits.float()
    use_int8(model.language_model)
    after = model.prefill(prompt).logits.float()
    assert 0 < (after - before).abs().max() < 0.05 * before.abs().max()
