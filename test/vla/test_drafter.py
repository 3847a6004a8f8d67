"""The drafter: its trees equal those of single passes; it saves only its own weights."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.small_models import CONFIG, configs, small_model, small_vla

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.errors import DrafterError
from heisd_ros.families.openvla.codec import OpenVLAAnswer
from heisd_ros.vla.drafter import Drafter, load_drafter, save_drafter
from heisd_ros.vla.packed_linear import PackedLinear

MODEL = "a" * 64
depths, widths = st.integers(1, 6), st.integers(1, 5)


def small_drafter(config=CONFIG, seed=0):
    """Weights larger than at the start of training, so that every part shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    drafter = Drafter(config.language, OpenVLAAnswer(config.real_vocab_size).action_ids)
    for parameter in drafter.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * parameter.shape[-1] ** -0.5 if noise.dim() > 1 else 1 + 0.1 * noise
    return drafter.requires_grad_(False)


def prompt(config=CONFIG, columns=7, seed=0):
    """Hidden states, input columns and a first token."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, columns, config.language.hidden_size)
    hidden, embeds = torch.randn(2, *shape, generator=generator)
    return hidden, embeds, config.real_vocab_size - 1 - seed % 256


def guess_plainly(drafter, language, hidden, embeds, tokens):
    """The last hidden state guessed behind a chain of tokens; every pass runs over everything."""
    following = language.model.embed_tokens(torch.tensor([tokens]))
    following = torch.cat([embeds[:, 1:], following], dim=1)
    for _ in tokens:
        columns = hidden.shape[1]
        x = drafter.fc(torch.cat([following[:, :columns], hidden], dim=-1))
        rotary = drafter.rotary(torch.arange(columns).unsqueeze(0), x.dtype)
        out = drafter.norm(drafter.layer(x, rotary, None, True, None))
        hidden = torch.cat([hidden, out[:, -1:]], dim=1)
    return hidden[0, -1]


def likelihoods(drafter, language, hidden, embeds, tokens):
    """[256] log-probabilities of the action that follows a chain."""
    guess = guess_plainly(drafter, language, hidden, embeds, tokens)
    return language.logits(guess, drafter.rows).log_softmax(-1)


def paths_of(tokens, parents):
    """The chain that ends in each node."""
    paths = []
    for token, parent in zip(tokens, parents, strict=True):
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    return paths


def search_plainly(follow, depth, top_k, nodes):
    """Scores of the nodes that the search for likely paths should find, best first."""
    frontier, found = [((), 0.0)], []
    for _ in range(depth):
        level = [
            ((*path, token), score + value)
            for path, score in frontier
            for value, token in zip(
                *(part.tolist() for part in follow(path).topk(top_k)), strict=True
            )
        ]
        found += level
        frontier = sorted(level, key=lambda node: -node[1])[:top_k]
    return sorted((score for _, score in found), reverse=True)[:nodes]


@settings(max_examples=25, deadline=None)
@given(configs(), depths, widths, st.integers(1, 40), st.integers(2, 9), st.integers(0, 99))
@torch.inference_mode()
def test_a_tree_holds_the_likeliest_paths(config, depth, top_k, nodes, columns, seed):
    """Whatever the model's shape, as if each node had been reached by passes of its own."""
    language, drafter = small_model(config, seed).language_model, small_drafter(config, seed)
    hidden, embeds, first = prompt(config, columns, seed)
    state = drafter.start(hidden, embeds, first)
    tokens, parents = drafter.propose(language, state, depth, top_k, nodes)

    def follow(path):
        start = drafter.rows.start
        chain = [first, *(start + column for column in path)]
        return likelihoods(drafter, language, hidden, embeds, chain)

    def score(path):
        columns = [token - drafter.rows.start for token in path]
        return sum(follow(tuple(columns[:i]))[column].item() for i, column in enumerate(columns))

    scores = sorted((score(path) for path in paths_of(tokens, parents)), reverse=True)
    assert scores == pytest.approx(search_plainly(follow, depth, top_k, nodes), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(depths, widths, st.integers(1, 60), st.integers(0, 99), st.sampled_from([0.1, 1.0, 1e4]))
def test_a_tree_is_one_that_verification_takes(depth, top_k, nodes, seed, sharpness):
    """Also where the drafter is so sure that a child is as likely as its parent."""
    language, drafter = small_model(seed=seed).language_model, small_drafter(seed=seed)
    language.lm_head.weight.mul_(sharpness)
    state = drafter.start(*prompt(seed=seed))
    tokens, parents = drafter.propose(language, state, depth, top_k, nodes)
    tree = DraftTree(tuple(tokens), tuple(parents))
    made = top_k + (depth - 1) * top_k**2
    assert len(tree) == min(nodes, made)
    assert set(tree.levels) <= set(range(depth))
    assert set(tokens) <= set(range(CONFIG.real_vocab_size - 256, CONFIG.real_vocab_size))
    assert len(set(paths_of(tokens, parents))) == len(tokens)


@torch.inference_mode()
def test_one_child_each_is_the_greedy_chain():
    language, drafter = small_model().language_model, small_drafter()
    hidden, embeds, first = prompt()
    tokens, parents = drafter.propose(language, drafter.start(hidden, embeds, first), 6, 1, 6)
    chain = [first]
    for _ in range(6):
        best = likelihoods(drafter, language, hidden, embeds, chain).argmax()
        chain.append(drafter.rows.start + best.item())
    assert tokens == chain[1:]
    assert parents == [-1, 0, 1, 2, 3, 4]


def test_a_state_may_be_proposed_from_again():
    language, drafter = small_model().language_model, small_drafter()
    state = drafter.start(*prompt())
    first = drafter.propose(language, state, 4, 3, 20)
    assert drafter.propose(language, state, 4, 3, 20) == first


def test_more_children_than_actions_are_all_actions():
    language, drafter = small_model().language_model, small_drafter()
    tokens, _ = drafter.propose(language, drafter.start(*prompt()), 1, 1000, 1000)
    assert sorted(tokens) == list(range(CONFIG.real_vocab_size - 256, CONFIG.real_vocab_size))


def test_every_input_reaches_the_draft():
    language, drafter = small_model().language_model, small_drafter()
    hidden, embeds, first = prompt()

    def guess(hidden=hidden, embeds=embeds, first=first):
        return guess_plainly(drafter, language, hidden, embeds, [first])

    for column in range(hidden.shape[1]):
        changed = hidden.clone()
        changed[:, column] += torch.randn(hidden.shape[2])
        assert (guess(hidden=changed) - guess()).abs().max() > 1e-4, column
    changed = embeds + torch.randn(embeds.shape)
    assert (guess(embeds=changed) - guess()).abs().max() > 1e-4
    assert (guess(first=first - 1) - guess()).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_saved_drafts_the_same(tmp_path, dtype):
    vla = small_vla()
    language = vla.model.to(dtype).language_model
    drafter = small_drafter().half().to(dtype)
    save_drafter(tmp_path / "drafter", drafter, MODEL, {"acceptance": 1.5})
    loaded = load_drafter(tmp_path / "drafter", MODEL, vla)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    hidden, embeds, first = prompt()
    drafts = [
        one.propose(language, one.start(hidden.to(dtype), embeds.to(dtype), first), 6, 8, 50)
        for one in (drafter, loaded)
    ]
    assert drafts[0] == drafts[1]


def test_a_folder_holds_two_files_and_nothing_of_the_vla(tmp_path):
    save_drafter(tmp_path, small_drafter(), MODEL, {"acceptance": 1.5})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drafter.json", "drafter.safetensors"]
    assert len({p.stat().st_mode for p in tmp_path.iterdir()}) == 1  # who reads one reads both
    record = json.loads((tmp_path / "drafter.json").read_text())
    assert record == {"format": 1, "model": MODEL, "acceptance": 1.5}
    tensors = load_file(tmp_path / "drafter.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"fc", "layer", "norm"}
    assert "layer.self_attn.q_proj.weight" in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


@pytest.fixture
def folder(tmp_path):
    save_drafter(tmp_path, small_drafter(), MODEL)
    return tmp_path


def refused(folder, match, model=MODEL, config=CONFIG):
    with pytest.raises(DrafterError, match=match) as caught:
        load_drafter(folder, model, small_vla(config))
    assert "`heisd train drafter`" in str(caught.value), "the error names the fix"


def test_a_missing_drafter_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no drafter in .*nowhere")


def test_another_models_drafter_is_refused(folder):
    refused(folder, "made for the model aaaaaaaaaaaa.*this one is bbbbbbbbbbbb", model="b" * 64)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no JSON"),
        ("[]", r"it holds \[\]; accepted: a JSON object"),
        ("{}", "has format None; 1 is read"),
        ('{"format": 2}', "has format 2; 1 is read"),
    ],
)
def test_a_damaged_record_is_refused(folder, text, match):
    (folder / "drafter.json").write_text(text)
    refused(folder, match)


def test_missing_weights_are_refused(folder):
    (folder / "drafter.safetensors").unlink()
    refused(folder, "drafter.safetensors is missing")


def test_truncated_weights_are_refused(folder):
    path = folder / "drafter.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "cannot be read")


def test_weights_of_another_shape_are_refused(folder):
    language = dataclasses.replace(CONFIG.language, intermediate_size=50)
    refused(folder, "does not fit", config=dataclasses.replace(CONFIG, language=language))


def test_weights_that_are_not_finite_are_refused(folder):
    path = folder / "drafter.safetensors"
    tensors = load_file(path)
    tensors["fc.weight"][3, 4] = float("nan")
    save_file(tensors, path)
    refused(folder, "not finite")


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(0, 5), st.integers(0, 9))
@torch.inference_mode()
def test_following_tokens_is_starting_behind_them(columns, more, seed):
    drafter, vla = small_drafter(seed=seed), small_vla()
    hidden, embeds, first = prompt(columns=columns + more, seed=seed)
    tokens = [first - n for n in range(more + 1)]
    answer = vla.embed_tokens(torch.tensor([tokens[:-1]], dtype=torch.long))
    whole = torch.cat([embeds[:, :columns], answer], dim=1)
    expected = drafter.start(hidden, whole, tokens[-1])
    state = drafter.start(hidden[:, :columns], embeds[:, :columns], first)
    state = drafter.follow(vla, state, hidden[0, columns:], tokens[1:])
    assert (state.token, state.position) == (expected.token, expected.position)
    drafts = [drafter.propose(vla, one, 3, 2, 8) for one in (state, expected)]
    assert drafts[0] == drafts[1]


def test_a_model_without_hidden_states_is_refused_by_name():
    class Mute:
        language = None

    with pytest.raises(DrafterError, match="Mute has no drafter: its engine gives no hidden"):
        Drafter.of(Mute())


def test_a_packed_layer_passes_gradients_on():
    layer = PackedLinear(8, 4, bias=False)
    layer.pack()
    columns = torch.ones(3, 8, requires_grad=True)
    layer(columns).sum().backward()
    torch.testing.assert_close(columns.grad, layer.weight.detach().sum(dim=0).expand(3, -1))
