"""The passes of a language model of the `transformers` library: any that takes embeddings.

What `engine.PlainEngine` is to our own network, this is to Llama, Gemma, Qwen2 and their like: a
prefill with a draft in it, tree attention by an explicit mask and explicit positions, and a cache
of which the accepted columns are kept. The library's classes run as they are, on a CPU and on a GPU
by the same code.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_utils import PreTrainedModel

from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.engine import Draft, PassLogits, Prompt, Stage

_FULL, _SLIDING = "full_attention", "sliding_attention"


class TransformersEngine:
    """Runs a decoder of `transformers`, one prompt after another.

    Attributes:
        backbone: the decoder without its head, for instance ``GemmaModel``.
        head: hidden states [..., hidden] -> logits [..., vocab].
        answer: how its answers are written.
        penalty: repetition penalty, as ``generation_config.json`` has it; 1: none. Every id of the
            prompt and of the answer so far counts, along a draft those of the path to each token.
        kinds: the kinds of attention that its layers have.
        window: columns that the sliding kind looks back; None without that kind.

    Raises:
        ValueError: the decoder attends in a way that masks do not describe.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: Callable[[Tensor], Tensor],
        answer: AnswerFormat,
        penalty: float = 1.0,
    ) -> None:
        self.backbone, self.head, self.answer, self.penalty = backbone, head, answer, penalty
        self.kinds, self.window = _attention_of(backbone.config)
        self._by_kind = getattr(backbone.config, "layer_types", None) is not None
        # The library renamed the argument in 5.24.
        names = inspect.signature(backbone.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"

    def without_penalty(self) -> TransformersEngine:
        """Returns the same network without the penalty on its logits."""
        return TransformersEngine(self.backbone, self.head, self.answer)

    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """Implements `Engine.stage`."""
        return function(value)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> input columns [..., hidden], scaled where the family scales them."""
        embedding = self.backbone.get_input_embeddings()
        assert isinstance(embedding, nn.Module)
        columns: Tensor = embedding(ids)
        return columns

    def forward(self, columns: Tensor, positions: Tensor, sees: Tensor, cache: Cache) -> Tensor:
        """Runs columns that follow those in the cache.

        Args:
            columns: [1, T, hidden].
            positions: [1, T] or, with M-RoPE, [3, 1, T].
            sees: [T, S + T] boolean, where S columns are in the cache, or one for each kind of
                attention that the decoder has, in the order of `kinds`: [K, T, S + T].
            cache: is extended by T columns.

        Returns:
            hidden states [1, T, hidden] after the last norm.
        """
        zeros = torch.zeros(sees.shape, dtype=columns.dtype, device=columns.device)
        masks = zeros.masked_fill_(~sees, -math.inf)[:, None, None]
        mask = dict(zip(self.kinds, masks, strict=True)) if self._by_kind else masks[0]
        hidden: Tensor = self.backbone(
            inputs_embeds=columns,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_argument: cache},
        ).last_hidden_state
        return hidden

    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[TransformersSequence, PassLogits]:
        """Implements `Engine.start`.

        Raises:
            ValueError: there is a repetition penalty and the prompt does not say its ids.
        """
        if isinstance(prompt, Tensor):
            prompt = Prompt(prompt)
        if self.penalty != 1.0 and prompt.ids is None:
            raise ValueError("a repetition penalty counts the prompt's ids, and it has none")
        drafted = len(draft.tokens) if draft is not None else 0
        sequence = TransformersSequence(self, prompt, max(drafted, room))
        return sequence, sequence.run(prompt.columns, draft)


class TransformersSequence:
    """Implements `PromptSequence`, with cache columns in the order of the sequence.

    Args:
        engine: runs the passes.
        prompt: what the first pass reads.
        room: tokens of the largest draft.
    """

    prompt_hidden: Tensor

    def __init__(self, engine: TransformersEngine, prompt: Prompt, room: int) -> None:
        self._engine, self._prompt = engine, prompt
        count = prompt.columns.shape[1]
        self._layers = [
            _Columns(count + room) for _ in range(engine.backbone.config.num_hidden_layers)
        ]
        self._cache = Cache(layers=list(self._layers))
        # Position of a token less its column: M-RoPE counts an image's rows, not its patches.
        self._ahead = 0 if prompt.next_position is None else prompt.next_position - count
        self._end = 0  # of the columns that are certain
        self._drafted: tuple[int, ...] = ()
        self._seen: Tensor | None = None
        if engine.penalty != 1.0 and prompt.ids is not None:
            size = engine.backbone.config.vocab_size
            self._seen = torch.zeros(size, dtype=torch.bool, device=prompt.columns.device)
            self._seen[prompt.ids.flatten()] = True

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
        """Implements `PromptSequence.extend`."""
        if not isinstance(token, Tensor):
            token = torch.tensor([token], device=self._prompt.columns.device)
        if self._seen is not None:
            self._seen[token] = True
        return self.run(self._engine.embed(token).unsqueeze(0), draft)

    def keep(self, nodes: Sequence[int]) -> None:
        """Implements `PromptSequence.keep`."""
        for layer in self._layers:
            layer.keep(self._end, nodes)
        if self._seen is not None:
            self._seen[[self._drafted[node] for node in nodes]] = True
        self._end += len(nodes)
        self._drafted = ()

    def run(self, certain: Tensor, draft: Draft | None) -> PassLogits:
        """Runs a pass over certain columns [1, T, hidden], followed by drafts."""
        start, count, device = self._end, certain.shape[1], certain.device
        self._drafted = draft.tokens if draft is not None else ()
        columns = certain
        places = torch.arange(start, start + count, device=device)
        sees = torch.ones(count, start + count, dtype=torch.bool, device=device).tril_(start)
        if not start and self._prompt.mask is not None:
            sees = _boolean(self._prompt.mask).expand(1, 1, count, count)[0, 0]
        if draft is not None and draft.tokens:
            ids = torch.tensor([draft.tokens], device=device)
            columns = torch.cat([certain, self._engine.embed(ids)], dim=1)
            levels = torch.tensor(draft.levels, device=device)
            places = torch.cat([places, start + count + levels])
            sees = _with_draft(sees, draft.mask(device))
        hidden = self._engine.forward(
            columns, self._positions(places, count), self._windowed(sees, places), self._cache
        )
        if not start:
            self.prompt_hidden = hidden[:, :count]
        self._end = start + count
        read = hidden[0, count - 1 :]
        logits = self._penalised(self._engine.head(read), draft)
        return PassLogits(logits.argmax(dim=-1), logits, read)

    def _positions(self, places: Tensor, certain: int) -> Tensor:
        """Maps columns of the sequence [T] to position ids [1, T] or [3, 1, T]."""
        given = self._prompt.positions
        if self._end or given is None:
            positions = (places + self._ahead)[None]
            return positions if given is None or given.ndim == 2 else positions.expand(3, 1, -1)
        behind = (places[certain:] + self._ahead).expand(*given.shape[:-1], -1)
        return torch.cat([given, behind], dim=-1)

    def _windowed(self, sees: Tensor, places: Tensor) -> Tensor:
        """Expands [T, S] to [K, T, S]: what each kind of attention sees."""
        if self._engine.window is None:
            return sees[None]
        keys = torch.cat([torch.arange(self._end, device=places.device), places])
        near = places[:, None] - keys[None] < self._engine.window
        return torch.stack(
            [sees & near if kind == _SLIDING else sees for kind in self._engine.kinds]
        )

    def _penalised(self, logits: Tensor, draft: Draft | None) -> Tensor:
        """Applies the penalty to logits [1 + N, vocab], each row by the tokens before it."""
        if self._seen is None:
            return logits
        seen = self._seen.expand(len(logits), -1)
        if draft is not None and draft.tokens:
            seen = seen.clone()
            node, above = draft.mask(torch.device("cpu")).nonzero(as_tuple=True)
            seen[node + 1, torch.tensor(draft.tokens)[above]] = True
        # As `generate` has it: in float32, whatever the weights are.
        logits = logits if logits.dtype == torch.float64 else logits.float()
        penalty = self._engine.penalty
        return torch.where(
            seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits
        )


class _Columns(CacheLayerMixin):
    """Keys and values of one layer, in buffers that grow; their columns can be picked.

    Args:
        capacity: columns to make room for at first.
    """

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity, self._length = capacity, 0
        self._buffers: tuple[Tensor, ...] = ()

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocates the buffers with the type of the first columns."""
        self._buffers = tuple(
            states.new_empty((*states.shape[:2], self._capacity, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends columns and returns all of them."""
        end = self._length + key_states.shape[2]
        more = end - self._capacity
        if more > 0:
            more = max(more, self._capacity // 2)
            self._capacity += more
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        elif more > 0:
            self._buffers = tuple(nn.functional.pad(b, (0, 0, 0, more)) for b in self._buffers)
        keys, values = self._buffers
        keys[:, :, self._length : end] = key_states
        values[:, :, self._length : end] = value_states
        self._length = end
        return keys[:, :, :end], values[:, :, :end]

    def keep(self, end: int, nodes: Sequence[int]) -> None:
        """Keeps only these of the columns after `end`, counted from there, in their order."""
        wanted = [end + node for node in nodes]
        for buffer in self._buffers:
            buffer[:, :, end : end + len(wanted)] = buffer[:, :, wanted]
        self._length = end + len(wanted)

    def get_seq_length(self) -> int:
        """Number of columns stored."""
        return self._length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns how many columns a pass sees, and the first of them."""
        return self._length + query_length, 0

    def get_max_length(self) -> int:
        """Returns -1, which stands for no limit."""
        return -1

    get_max_cache_shape = get_max_length  # its name before 5.24


def _attention_of(config: Any) -> tuple[tuple[str, ...], int | None]:
    """Returns the kinds of attention of a decoder, and the window of the sliding one."""
    given = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if given is None:
        return ((_FULL,), None) if window is None else ((_SLIDING,), window)
    kinds = tuple(sorted(set(given)))
    if not set(kinds) <= {_FULL, _SLIDING}:
        raise ValueError(f"layer_types are {kinds}; accepted: {_FULL} and {_SLIDING}")
    return kinds, window if _SLIDING in kinds else None


def _boolean(mask: Tensor) -> Tensor:
    """An additive mask, or a boolean one -> boolean."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def _with_draft(sees: Tensor, draft: Tensor) -> Tensor:
    """What T columns see [T, S + T] and a draft's own mask [N, N] -> [T + N, S + T + N]."""
    certain, nodes = sees.shape[1], len(draft)
    whole = torch.zeros(len(sees) + nodes, certain + nodes, dtype=torch.bool, device=sees.device)
    whole[: len(sees), :certain] = sees
    whole[len(sees) :, :certain] = True
    whole[len(sees) :, certain:] = draft
    return whole
