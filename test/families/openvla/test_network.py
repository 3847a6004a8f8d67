from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_models import CONFIG, configs, random_batch, small_model

from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vision import pixel_shuffle
from heisd_ros.vla.llama import KVCache
from heisd_ros.vla.packed_linear import PackedLinear


def embeds_of(model, batch):
    pixels, ids, _, proprio = batch
    return model.embed(ids, model.project(model.vision_features(pixels)), proprio)


def teacher_forced(model, batch, row, length):
    """Logits [7, 256] of one sample by prefill and decode."""
    pixels, ids, actions, proprio = (None if t is None else t[row : row + 1] for t in batch)
    prefill = model.prefill(embeds_of(model, (pixels, ids[:, :length], None, proprio)))
    logits = [prefill.logits]
    for step in range(6):
        logits.append(model.decode(actions[:, step : step + 1], prefill.cache))
    return torch.cat(logits)[:, model.action_rows]


@settings(max_examples=25)
@given(configs(), st.lists(st.integers(2, 9), min_size=1, max_size=3), st.integers(0, 99))
@torch.inference_mode()
def test_training_pass_equals_prefill_and_decode(config, lengths, seed):
    """Whatever the model's shape, with prompts of several lengths in a batch."""
    model = small_model(config, seed)
    batch = random_batch(config, lengths, seed)
    out = model.forward_train(*batch, lengths=torch.tensor(lengths))
    assert out.visual_tokens.shape[:2] == (len(lengths), config.visual_tokens)
    for row, length in enumerate(lengths):
        expected = teacher_forced(model, batch, row, length)
        torch.testing.assert_close(out.logits[row], expected, rtol=0, atol=1e-4)


@settings(max_examples=25)
@given(configs(), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
@torch.inference_mode()
def test_cached_columns_equal_one_pass(config, chunks, seed):
    """However the columns are cut, and wherever the cut falls."""
    language = small_model(config, seed).language_model.model
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(2, sum(chunks), config.language.hidden_size, generator=generator)
    cache = KVCache(config.language, 2, sum(chunks), embeds.device, embeds.dtype)
    pieces = [language(chunk, cache) for chunk in embeds.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), language(embeds), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_positions_and_mask_let_two_branches_share_a_prompt():
    """Two continuations behind one prompt, in one pass, each as if the other weren't there."""
    language = small_model().language_model.model
    prompt, left, right = torch.randn(1, 12, CONFIG.language.hidden_size).split([6, 3, 3], 1)
    positions = torch.tensor([[*range(6), 6, 7, 8, 6, 7, 8]])
    allowed = torch.ones(12, 12, dtype=torch.bool).tril()
    allowed[9:, 6:9] = False
    additive = torch.zeros(12, 12).masked_fill(~allowed, float("-inf"))
    tree = torch.cat([prompt, left, right], 1)
    for mask in (allowed, additive):
        out = language(tree, position_ids=positions, mask=mask)
        for branch, columns in ((left, slice(6, 9)), (right, slice(9, 12))):
            alone = language(torch.cat([prompt, branch], 1))[:, 6:]
            torch.testing.assert_close(out[:, columns], alone, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_every_input_reaches_the_logits():
    model = small_model()
    pixels, ids, actions, proprio = random_batch(CONFIG, [5])

    def logits(pixels=pixels, ids=ids, proprio=proprio):
        return model.prefill(embeds_of(model, (pixels, ids, actions, proprio))).logits

    changed = ids.clone()
    changed[0, 2] += 1
    for view in range(2):
        for tower in range(2):
            other = pixels.clone()
            other[:, view, 3 * tower : 3 * tower + 3] += 1.0
            assert (logits(pixels=other) - logits()).abs().max() > 1e-3, (view, tower)
    assert (logits(ids=changed) - logits()).abs().max() > 1e-3
    assert (logits(proprio=proprio + 1) - logits()).abs().max() > 1e-3


@torch.inference_mode()
def test_a_batch_does_not_mix_its_samples():
    model = small_model()
    batch = random_batch(CONFIG, [4, 4])
    together = model.prefill(embeds_of(model, batch)).logits
    alone = model.prefill(embeds_of(model, tuple(t[1:] for t in batch))).logits
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_columns_are_bos_image_proprioception_text():
    model = small_model()
    pixels, ids, actions, proprio = random_batch(CONFIG, [5])
    embeds = embeds_of(model, (pixels, ids, actions, proprio))
    text = model.language_model.model.embed_tokens(ids)
    visual = CONFIG.visual_tokens
    assert embeds.shape[1] == 5 + CONFIG.prefix_tokens == 5 + visual + 1
    torch.testing.assert_close(embeds[:, 0], text[:, 0])
    torch.testing.assert_close(embeds[:, visual + 1], model.proprio_projector(proprio)[:, 0])
    torch.testing.assert_close(embeds[:, visual + 2 :], text[:, 1:])


def test_proprioception_is_normalised_by_its_buffers():
    projector = small_model().proprio_projector
    raw = torch.tensor([[1.0, 2.0, 3.0]])
    plain = projector((raw - 2.0) / 4.0)
    projector.mean.fill_(2.0)
    projector.std.fill_(4.0)
    torch.testing.assert_close(projector(raw), plain)


@pytest.mark.parametrize(("size", "given_size"), [(0, 3), (3, 0)])
def test_proprioception_must_match_the_model(size, given_size):
    model = small_model(dataclasses.replace(CONFIG, proprio_size=size))
    proprio = torch.zeros(1, given_size) if given_size else None
    with pytest.raises(ValueError, match=f"the model takes {size}"):
        model.embed(torch.tensor([[1, 4]]), torch.zeros(1, 8, 32), proprio)


def test_gradients_reach_every_parameter_even_after_inference():
    model = small_model().requires_grad_(True)
    pixels, ids, actions, proprio = random_batch(CONFIG, [5, 3])
    with torch.inference_mode():
        model.prefill(embeds_of(model, (pixels, ids, actions, proprio)))
    out = model.forward_train(pixels, ids, actions, proprio, torch.tensor([5, 3]))
    out.logits.logsumexp(-1).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_bfloat16_autocast_trains():
    model = small_model().requires_grad_(True)
    batch = random_batch(CONFIG, [5, 5])
    exact = model.forward_train(*batch).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.forward_train(*batch).logits
    logits.float().sum().backward()
    assert (logits.float() - exact).abs().max() < 0.2 * exact.abs().max()


def test_state_dict_has_upstream_names_and_round_trips():
    model = small_model(seed=1)
    state = model.state_dict()
    assert "language_model.model.layers.1.self_attn.k_proj.weight" in state
    assert not [name for name in state if "qkv_proj" in name or "gate_up" in name]
    other = small_model(seed=2)
    other.load_state_dict(state)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)
    assert copy.deepcopy(model).state_dict().keys() == state.keys()


def packed(model):
    return [
        module._packed is not None for module in model.modules() if isinstance(module, PackedLinear)
    ]


@torch.inference_mode()
def test_arranging_for_the_cpu_changes_no_result():
    """With several columns, which are multiplied by packed weights, and with one."""
    batch = random_batch(CONFIG, [5])
    model = small_model()
    before, decoded = model.forward_train(*batch).logits, teacher_forced(model, batch, 0, 5)
    names = list(model.state_dict())
    model.arrange_for_cpu()
    assert list(model.state_dict()) == names and all(packed(model)) and packed(model)
    after = model.forward_train(*batch).logits, teacher_forced(model, batch, 0, 5)
    torch.testing.assert_close(after, (before, decoded), rtol=0, atol=1e-5)
    assert not any(packed(copy.deepcopy(model)))


@torch.inference_mode()
def test_gelu_within_a_product_is_exact():
    layer, x = PackedLinear(24, 40).eval(), torch.randn(2, 5, 24)
    wanted = torch.nn.functional.gelu(layer(x).double())
    for _ in range(2):
        for columns in (5, 1):
            torch.testing.assert_close(
                layer.gelu(x[:, :columns]).double(), wanted[:, :columns], rtol=0, atol=2e-6
            )
        layer.pack()


def test_packed_weights_do_not_outlive_those_that_they_are_of():
    model = small_model()
    for change in (
        lambda: model.train(),
        lambda: model.to(torch.float64),
        lambda: model.load_state_dict(small_model(seed=2).state_dict()),
    ):
        model.float().arrange_for_cpu()
        assert all(packed(model.eval()))
        change()
        assert not any(packed(model))


def test_weights_are_not_kept_twice_where_they_are_large_or_cannot_be(monkeypatch):
    for name, value in (("MOST_PACKED_BYTES", 1), ("can_pack", lambda: False)):
        with monkeypatch.context() as patch:
            patch.setattr(f"heisd_ros.vla.packed_linear.{name}", value)
            model = small_model()
            model.arrange_for_cpu()
            assert not any(packed(model))


@torch.inference_mode()
def test_a_full_cache_is_an_error():
    model = small_model()
    embeds = embeds_of(model, random_batch(CONFIG, [5]))
    cache = model.new_cache(1, embeds.shape[1])
    model.prefill(embeds, cache)
    with pytest.raises(ValueError, match=r"14 \+ 1 columns; 14 fit"):
        model.decode(torch.tensor([[4]]), cache)


def test_an_initialised_model_knows_nothing_yet():
    """All actions about equally likely, so that training starts at log 256."""
    torch.manual_seed(0)
    model = VLAModel(CONFIG).initialise()
    pixels, ids, actions, proprio = random_batch(CONFIG, [5, 5])
    logits = model.forward_train(pixels, ids, actions, proprio).logits.flatten(0, 1)
    targets = (actions - (CONFIG.real_vocab_size - 256)).flatten()
    assert F.cross_entropy(logits, targets).item() == pytest.approx(math.log(256), abs=0.1)


def test_pixel_shuffle_folds_neighbours():
    patches = torch.arange(16.0).reshape(1, 16, 1)  # a 4 x 4 grid, row by row
    folded = pixel_shuffle(patches, grid=4, r=2)
    assert folded[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
