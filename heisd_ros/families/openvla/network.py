"""The whole model: vision towers, projector and language model, for inference and for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heisd_ros.families.openvla.codec import OpenVLAAnswer
from heisd_ros.families.openvla.config import ACTION_BINS, ACTION_DIMENSIONS, VLAConfig
from heisd_ros.families.openvla.vision import Projector, ProprioProjector, VisionBackbone
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.llama import KVCache, LanguageModel
from heisd_ros.vla.packed_linear import pack


@dataclass(frozen=True)
class OpenVLAInputs:
    """B observations of one instruction, on the model's device.

    Attributes:
        pixels: [B, V, 6, S, S] in the model's type.
        ids: [1, T] prompt ids, BOS first.
        proprio: [B, P] in the model's type, or None.
    """

    pixels: Tensor
    ids: Tensor
    proprio: Tensor | None = None


class Prefill(NamedTuple):
    """The result of the prefill.

    Attributes:
        logits: [B, vocab] of the next token.
        cache: keys and values of the prompt.
        hidden: [B, T, hidden], after the last norm, of every prompt column.
    """

    logits: Tensor
    cache: KVCache
    hidden: Tensor


class TrainOutput(NamedTuple):
    """Teacher-forced outputs.

    Attributes:
        logits: [B, A, R] over the requested ids, by default the 256 action ids.
        visual_tokens: [B, V * N, hidden].
    """

    logits: Tensor
    visual_tokens: Tensor


class VLAModel(nn.Module):
    """OpenVLA's architecture. Parameter names are those of its checkpoint."""

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config)
        self.language_model = LanguageModel(config.language)
        if config.proprio_size:
            self.proprio_projector = ProprioProjector(
                config.proprio_size, config.language.hidden_size
            )
        self.answer: AnswerFormat = OpenVLAAnswer(config.real_vocab_size)
        self.action_rows = slice(config.real_vocab_size - ACTION_BINS, config.real_vocab_size)

    @property
    def prefix_columns(self) -> int:
        """Columns of a prompt between BOS and the text."""
        return self.config.prefix_tokens

    def initialise(self) -> VLAModel:
        """Initialises weights for training: normal 0.02, residual outputs scaled by depth.

        Drawn from torch's global generator, like what the constructor draws (stems, positions).

        Returns:
            the model itself.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Embedding):
                    module.weight.normal_(0.0, 0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()
            scale = (2 * self.config.language.num_hidden_layers) ** -0.5
            for name, weight in self.language_model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.mul_(scale)
        return self

    def arrange_for_cpu(self) -> None:
        """Lays the weights out as a CPU multiplies them fastest; shapes, names and results stay."""
        # Convolutions keep a pixel's channels together: the shipped towers take 2.0 ms instead of
        # 2.3 (AMD EPYC, 1 thread).
        for module in self.vision_backbone.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.data
                module.weight.data = weight.contiguous(memory_format=torch.channels_last)
        self.language_model.store_columns()
        pack(self)

    def vision_features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, V, 6, S, S] -> visual features [B, V * N, D]."""
        return self.vision_backbone(pixels)

    def project(self, features: Tensor) -> Tensor:
        """Visual features [B, V * N, D] -> visual tokens [B, V * N, hidden]."""
        return self.projector(features)

    def embed(self, ids: Tensor, visual_tokens: Tensor, proprio: Tensor | None = None) -> Tensor:
        """The input columns of the language model: BOS, image, proprioception, text.

        Args:
            ids: [B or 1, T] token ids, the first of them BOS.
            visual_tokens: [B, V * N, hidden].
            proprio: [B, P], in the units of the demonstrations; needed if the model has the token.

        Returns:
            [B, T + V * N (+ 1), hidden].

        Raises:
            ValueError: proprioception is missing, or given to a model without it.
        """
        if (proprio is None) == bool(self.config.proprio_size):
            given = "none" if proprio is None else f"{proprio.shape[-1]} numbers"
            raise ValueError(
                f"proprioception: {given} given, the model takes {self.config.proprio_size}"
            )
        text = self.language_model.embed_tokens(ids).expand(len(visual_tokens), -1, -1)
        # Under autocast the projectors answer in the lower precision; the residual stream does not.
        columns = [text[:, :1], visual_tokens.to(text.dtype)]
        if proprio is not None:
            columns.append(self.proprio_projector(proprio).to(text.dtype))
        return torch.cat([*columns, text[:, 1:]], dim=1)

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """Makes an empty cache with this model's type and device."""
        return self.language_model.new_cache(batch, capacity)

    def prefill(self, embeds: Tensor, cache: KVCache | None = None) -> Prefill:
        """Runs the prompt; the LM head is applied to its last column only.

        Args:
            embeds: [B, T, hidden] from `embed`, possibly followed by drafted columns.
            cache: an empty cache to fill; by default one that has room for the 7 action tokens.
        """
        if cache is None:
            cache = self.new_cache(embeds.shape[0], embeds.shape[1] + ACTION_DIMENSIONS)
        hidden = self.language_model.model(embeds, cache)
        return Prefill(self.language_model.logits(hidden[:, -1]), cache, hidden)

    def decode(self, token: Tensor, cache: KVCache) -> Tensor:
        """Appends one token per sequence [B, 1]; returns logits [B, vocab] of the next one."""
        embeds = self.language_model.model.embed_tokens(token)
        hidden = self.language_model.model(embeds, cache)
        return self.language_model.logits(hidden[:, -1])

    def forward_train(
        self,
        pixels: Tensor,
        ids: Tensor,
        answers: Tensor,
        proprio: Tensor | None = None,
        lengths: Tensor | None = None,
        rows: slice | None = None,
    ) -> TrainOutput:
        """Runs a teacher-forced pass, equal to prefill and decode with the same tokens.

        Args:
            pixels: [B, V, 6, S, S].
            ids: [B, T] prompt ids, the first of them BOS, padded on the right with any id.
            answers: [B, A] token ids of the answers to predict, padded on the right with any id.
            proprio: [B, P] if the model takes it.
            lengths: [B] ids of each prompt (None: all T).
            rows: ids that get a logit (None: the 256 action ids).

        Returns:
            logits at the A positions that predict an answer's token.
        """
        batch, longest = ids.shape
        if lengths is None:
            lengths = torch.full((batch,), longest, device=ids.device)
        steps = torch.arange(answers.shape[1], device=ids.device)
        # Each sample's answer follows its own text directly, so padding comes last and the causal
        # mask alone hides it from every column that is read.
        sequence = F.pad(ids, (0, len(steps) - 1))
        sequence = sequence.scatter(1, lengths[:, None] + steps[:-1], answers[:, :-1])
        visual_tokens = self.project(self.vision_features(pixels))
        hidden = self.language_model.model(self.embed(sequence, visual_tokens, proprio))
        columns = self.config.prefix_tokens + lengths[:, None] - 1 + steps
        read = hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = self.language_model.logits(read, rows or self.action_rows)
        return TrainOutput(logits, visual_tokens)
