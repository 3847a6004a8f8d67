"""The drafter: one decoder layer that guesses the next tokens of any `TokenModel`, as a tree.

EAGLE (Li et al. 2024) as in SpecVLA (arXiv 2507.22424): the input of a column is the VLA's last
hidden state of it and the embedding of the token that follows; the output is a guess of the next
hidden state, which the VLA's own LM head reads. From then on the drafter uses its own guesses as
input. Nodes are chosen by their probability, as in EAGLE-2: the expected number of accepted tokens
is the sum of the path probabilities of all nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from heisd_ros.errors import DrafterError
from heisd_ros.files.atomic import replacing
from heisd_ros.files.bounded import check_plain, read_object, shown
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.llama import (
    DecoderLayer,
    KVCache,
    RMSNorm,
    RotaryTable,
    rotate,
)
from heisd_ros.vla.packed_linear import pack
from heisd_ros.vla.tensor_files import write_tensors
from heisd_ros.vla.token_model import TokenModel, Vocabulary

WEIGHTS, RECORD = "drafter.safetensors", "drafter.json"
FORMAT = 1
_REMEDY = "`heisd train drafter` makes one"


class GrowingCache(KVCache):
    """Keys and values of one layer that grow by concatenation, so that gradients reach them.

    Args:
        keys: [B, key heads, T, head width].
        values: of the same shape.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = [keys], [values]

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the new columns and returns all of them."""
        self.keys[layer] = torch.cat([self.keys[layer], keys], dim=2)
        self.values[layer] = torch.cat([self.values[layer], values], dim=2)
        return self.keys[layer], self.values[layer]

    def fork(self) -> GrowingCache:
        """Returns a cache of the same columns that grows independently."""
        return GrowingCache(self.keys[0], self.values[0])


@dataclass(frozen=True)
class DrafterState:
    """The drafter's state after what the VLA has read; any number of proposals may start from it.

    Attributes:
        cache: keys and values of the columns that the VLA has read but the last.
        hidden: [1, 1, hidden], the VLA's last hidden state of that last column.
        token: the token that follows it.
        position: the position of that column, counted from 0 whatever the VLA's own positions are.
    """

    cache: GrowingCache
    hidden: Tensor
    token: int
    position: int


class Drafter(nn.Module):
    """``fc(2h -> h)``, one decoder layer and a norm; embedding and LM head are the VLA's own.

    EAGLE's drafter has no norm; this one does, since the states that it guesses are normalised.

    Args:
        language: sizes of its layer, whose width is that of the VLA's hidden states.
        drafted_ids: the token ids that it drafts.
    """

    def __init__(self, language: LanguageConfig, drafted_ids: range) -> None:
        super().__init__()
        width = language.hidden_size
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.layer = DecoderLayer(language, 0)
        self.norm = RMSNorm(width, language.rms_norm_eps)
        self.rotary = RotaryTable(language)
        self.rows = slice(drafted_ids.start, drafted_ids.stop)

    @classmethod
    def of(cls, model: TokenModel) -> Drafter:
        """Makes an untrained drafter for a model.

        It drafts action ids where an answer holds nothing else, and any id where it ends with a
        stop id.

        Raises:
            DrafterError: the model's engine gives no hidden states, or no layer fits them.
        """
        name = type(model).__name__
        try:
            language = model.language
        except ValueError as error:
            raise DrafterError(f"no drafter fits the hidden states of {name}: {error}") from error
        if language is None:
            raise DrafterError(f"{name} has no drafter: its engine gives no hidden states")
        every = range(language.vocab_size)
        return cls(language, model.codec.action_ids if model.codec.counted else every)

    def remember(
        self,
        hidden: Tensor,
        embeds: Tensor,
        positions: Tensor,
        cache: GrowingCache | None = None,
    ) -> GrowingCache:
        """Computes keys and values of columns that the VLA has read.

        Nothing reads the layer's output there, so attention and MLP are not computed.

        Args:
            hidden: [B, T, hidden], the VLA's hidden states of the columns, after the last norm.
            embeds: [B, T, hidden], the VLA's input column that follows each of them.
            positions: [B or 1, T].
            cache: earlier columns; the new ones are appended to it.
        """
        attention = self.layer.self_attn
        x = self.layer.input_layernorm(self._join(hidden, embeds))
        qkv = attention.qkv_proj(x).unflatten(-1, (-1, attention.head_width))
        keys, values = qkv[:, :, attention.heads :].split(attention.kv_heads, dim=2)
        keys = rotate(keys, *self.rotary(positions, x.dtype))
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        if cache is None:
            return GrowingCache(keys, values)
        cache.put(0, keys, values)
        return cache

    def advance(
        self,
        hidden: Tensor,
        embeds: Tensor,
        positions: Tensor,
        cache: GrowingCache,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Guesses the hidden states that follow some columns.

        Args:
            hidden: [B, T, hidden], hidden states of the columns, the VLA's or guessed.
            embeds: [B, T, hidden], the embedding of the token that follows each of them.
            positions: [B or 1, T].
            cache: earlier columns; the new ones are appended to it.
            mask: true = may look; broadcastable to [B, heads, T, cached + T]. By default
                everything is seen.

        Returns:
            [B, T, hidden], as the VLA's after the last norm.
        """
        x = self._join(hidden, embeds)
        guess: Tensor = self.norm(
            self.layer(x, self.rotary(positions, x.dtype), mask, False, cache)
        )
        return guess

    @torch.inference_mode()
    def start(self, hidden: Tensor, embeds: Tensor, token: int) -> DrafterState:
        """Reads a prompt that the VLA has read.

        Args:
            hidden: [1, P, hidden], `PromptSequence.prompt_hidden`.
            embeds: [1, P, hidden], the prompt's input columns (`Prompt.columns`).
            token: the token id that follows the prompt.
        """
        last = hidden.shape[1] - 1
        positions = torch.arange(last, device=hidden.device).unsqueeze(0)
        cache = self.remember(hidden[:, :-1], embeds[:, 1:], positions)
        return DrafterState(cache, hidden[:, -1:], token, last)

    @torch.inference_mode()
    def follow(
        self, vocabulary: Vocabulary, state: DrafterState, hidden: Tensor, tokens: Sequence[int]
    ) -> DrafterState:
        """Reads tokens of the answer that the VLA has read since.

        Args:
            vocabulary: the VLA's embedding and LM head.
            state: the state before; it is not changed.
            hidden: [N, hidden], the VLA's hidden states of ``state.token`` and of `tokens` but the
                last.
            tokens: [N] the tokens that follow ``state.token``; may be empty.
        """
        if not tokens:
            return state
        known = torch.cat([state.hidden, hidden.unsqueeze(0)], dim=1)
        ids = torch.tensor([[state.token, *tokens[:-1]]], device=hidden.device)
        last = state.position + len(tokens)
        positions = torch.arange(state.position, last, device=hidden.device).unsqueeze(0)
        columns = vocabulary.embed_tokens(ids)
        cache = self.remember(known[:, :-1], columns, positions, state.cache.fork())
        return DrafterState(cache, known[:, -1:], tokens[-1], last)

    @torch.inference_mode()
    def propose(
        self, vocabulary: Vocabulary, state: DrafterState, depth: int, top_k: int, nodes: int
    ) -> tuple[list[int], list[int]]:
        """Drafts a tree of the tokens after the newest one.

        Every level extends the `top_k` likeliest paths by their `top_k` likeliest tokens each. Of
        all nodes made, the `nodes` likeliest are proposed.

        Args:
            vocabulary: the VLA's embedding and LM head.
            state: state after what the VLA has read; it is not changed.
            depth: levels, at least 1.
            top_k: children of a node and extended nodes of a level, at least 1.
            nodes: greatest number of nodes in the tree, at least 1.

        Returns:
            the token ids of the nodes, level by level and within a level the likeliest path first,
            and for each node the index of its parent in that list, -1 for a child of the newest
            token.
        """
        rows, cache, device = self.rows, state.cache.fork(), state.hidden.device
        top_k = min(top_k, rows.stop - rows.start)
        hidden, tokens = state.hidden, torch.tensor([state.token], device=device)
        scores = torch.zeros(1, device=device)
        places = torch.full((1,), -1, device=device)  # of the extended nodes, among all made
        visible: Tensor | None = None  # [extended nodes, columns]; None: a chain sees everything
        made: list[_Level] = []
        count = 0
        for left in reversed(range(depth)):
            positions = torch.full((1, 1), state.position + len(made), device=device)
            embeds = vocabulary.embed_tokens(tokens).unsqueeze(0)
            hidden = self.advance(hidden, embeds, positions, cache, visible)
            likelihood = vocabulary.logits(hidden[0], rows).float().log_softmax(dim=-1)
            best, columns = likelihood.topk(top_k, dim=-1)
            level = _Level(
                scores=(scores.unsqueeze(1) + best).flatten(),
                tokens=columns.flatten() + rows.start,
                parents=places.repeat_interleave(top_k),
            )
            made.append(level)
            if not left:
                break
            scores, kept = level.scores.topk(min(top_k, len(level.scores)))
            above = kept // top_k
            hidden, tokens, places = hidden[:, above], level.tokens[kept], kept + count
            count += len(level.scores)
            if top_k > 1:
                own = torch.eye(len(kept), dtype=torch.bool, device=device)
                seen = own.new_ones(1, state.position + 1) if visible is None else visible
                visible = torch.cat([seen[above], own], dim=1)
        return _likeliest(made, nodes)

    def _join(self, hidden: Tensor, embeds: Tensor) -> Tensor:
        joined: Tensor = self.fc(torch.cat([embeds, hidden], dim=-1))
        return joined


class _Level(NamedTuple):
    """The nodes made at one level: path log-probabilities, token ids, and the parents' places."""

    scores: Tensor
    tokens: Tensor
    parents: Tensor


def _likeliest(made: list[_Level], nodes: int) -> tuple[list[int], list[int]]:
    """Returns the `nodes` likeliest nodes, level by level, and the indices of their parents."""
    scores, tokens, parents = (torch.cat(part) for part in zip(*made, strict=True))
    levels = torch.cat([torch.full_like(made_at.tokens, n) for n, made_at in enumerate(made)])
    # A child is never likelier than its parent and was made later: in a stable order its parent
    # comes first, and so is chosen too, even if a probability is exactly 1.
    order = scores.argsort(descending=True, stable=True)[:nodes]
    order = order[levels[order].argsort(stable=True)]
    chosen, ids, above = torch.stack([order, tokens[order], parents[order]]).tolist()
    place = {-1: -1} | {node: number for number, node in enumerate(chosen)}
    return ids, [place[parent] for parent in above]


def save_drafter(
    folder: str | Path,
    drafter: Drafter,
    model_fingerprint: str,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Writes ``drafter.safetensors`` (float16) and ``drafter.json``, each atomically.

    Args:
        folder: created if it does not exist.
        drafter: the drafter whose weights are saved.
        model_fingerprint: of the checkpoint that it drafts for (`checkpoint.fingerprint`).
        record: how it was trained and what it achieved.
    """
    folder = Path(folder)
    tensors = {
        name: tensor.to("cpu", torch.float16) for name, tensor in drafter.state_dict().items()
    }
    content = {"format": FORMAT, "model": model_fingerprint, **(record or {})}
    with replacing(folder / WEIGHTS) as weights, replacing(folder / RECORD) as text:
        write_tensors(weights, tensors)
        text.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_drafter(
    folder: str | Path,
    model_fingerprint: str,
    model: TokenModel,
) -> Drafter:
    """Loads what `save_drafter` wrote.

    Args:
        folder: holds ``drafter.safetensors`` and ``drafter.json``.
        model_fingerprint: of the checkpoint that it is to draft for.
        model: that checkpoint; the drafter takes the device and the type of its weights.

    Raises:
        DrafterError: it is missing, damaged, or made for another model.
    """
    folder = Path(folder)
    _check_record(folder, model_fingerprint)
    check_plain(folder / WEIGHTS, _with_remedy)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise DrafterError(
            f"{folder / WEIGHTS} cannot be read (truncated?): {error}. {_REMEDY}"
        ) from error
    drafter = Drafter.of(model)
    try:
        drafter.load_state_dict(tensors)
    except RuntimeError as error:
        raise DrafterError(
            f"{folder / WEIGHTS} does not fit the model: {error}. {_REMEDY}"
        ) from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise DrafterError(f"{folder / WEIGHTS} holds numbers that are not finite. {_REMEDY}")
    drafter = drafter.to(model.device, model.dtype).eval().requires_grad_(False)
    if model.device.type == "cpu":
        pack(drafter)
    return drafter


def _with_remedy(problem: str) -> DrafterError:
    return DrafterError(f"{problem}. {_REMEDY}")


def _check_record(folder: Path, model_fingerprint: str) -> None:
    """Checks ``drafter.json`` and its model; raises DrafterError."""
    if not (folder / RECORD).exists():
        raise DrafterError(f"no drafter in {folder}: {RECORD} is missing. {_REMEDY}")
    record = read_object(folder / RECORD, _with_remedy)
    if record.get("format") != FORMAT:
        found = shown(record.get("format"))
        raise DrafterError(f"{folder / RECORD} has format {found}; {FORMAT} is read. {_REMEDY}")
    if record.get("model") != model_fingerprint:
        raise DrafterError(
            f"the drafter in {folder} was made for the model {str(record.get('model'))[:12]}..., "
            f"this one is {model_fingerprint[:12]}... {_REMEDY}"
        )
