"""NORA ready for use: Qwen2.5-VL with its preprocessing and codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from heisd_ros.errors import ImageError, ProprioceptionError
from heisd_ros.families.library import LibraryModel
from heisd_ros.families.nora.codec import NoraCodec
from heisd_ros.families.nora.preprocessing import SIDE, Patches, prompt_ids, rope_positions
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import ObservationSpec
from heisd_ros.vla.tokenizer import known_ids
from heisd_ros.vla.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class NoraInputs:
    """One observation on the model's device.

    Attributes:
        patches: [G * G, 3 * frames * patch * patch] in the model's type.
        ids: the prompt's token ids, those of the image included.
    """

    patches: Tensor
    ids: list[int]


class Nora(LibraryModel):
    """Implements `TokenModel`.

    Attributes:
        network: the library's Qwen2.5-VL.
        tokenizer: of text.
        patches: of pictures.
        codec: its answers.
        spec: what it wants to see.
        statistics: names of those that the checkpoint has.
        statistics_key: the name in use.
    """

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        tokenizer: Tokenizer,
        patches: Patches,
        codec: NoraCodec,
        penalty: float,
        control_rate_hz: float | None = None,
        statistics: Sequence[str] = (),
        statistics_key: str = "",
    ) -> None:
        engine = TransformersEngine(
            network.model.language_model, network.lm_head, answer=codec, penalty=penalty
        )
        super().__init__(network, engine)
        self.statistics, self.statistics_key = tuple(statistics), statistics_key
        self.tokenizer, self.patches, self.codec = tokenizer, patches, codec
        self.spec = ObservationSpec(
            codec.convention.named(("image",)), SIDE, control_rate_hz=control_rate_hz
        )

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
    ) -> NoraInputs:
        """Implements `TokenModel.encode`."""
        if len(images) != 1:
            raise ImageError(f"{len(images)} images are given; the model takes 1")
        if proprio is not None:
            raise ProprioceptionError("the model takes no numbers; a vector was given")
        ids = known_ids(
            prompt_ids(self.tokenizer, instruction, self.patches.tokens**2),
            self.network.config.get_text_config().vocab_size,
        )
        patches = self.patches(self.codec.convention.images(images[0]))
        return NoraInputs(patches.to(self.device, self.dtype), ids)

    def features(self, inputs: NoraInputs) -> Tensor:
        """Implements `TokenModel.features`: the merged patches, which are visual tokens already."""
        grid = torch.tensor([[1, self.patches.grid, self.patches.grid]], device=self.device)
        tokens: Tensor = self.network.model.visual(inputs.patches, grid_thw=grid).pooler_output
        return tokens[None]

    def prompt(self, inputs: NoraInputs, features: Tensor) -> Prompt:
        """Implements `TokenModel.prompt`."""
        image_id = self.network.config.image_token_id
        ids = torch.tensor([inputs.ids], device=self.device)
        columns = self.embed_tokens(ids)
        columns[ids == image_id] = features[0].to(columns.dtype)
        positions, following = rope_positions(inputs.ids, image_id, self.patches.tokens)
        return Prompt(
            columns, ids=ids, positions=positions.to(self.device), next_position=following
        )

    def describe(self) -> dict[str, str]:
        """Returns what `heisd model info` shows in addition to the common values."""
        text = self.network.config.get_text_config()
        vision = self.network.model.visual.config
        lacks = [] if self.spec.control_rate_hz else ["the control rate (heisd.control_rate_hz)"]
        if self.codec.horizon == 1:
            lacks.append("actions of an answer, so 1 (NORA-Long: heisd.horizon 5)")
        return {
            "vision": f"Qwen2.5-VL, {vision.depth} layers of {vision.hidden_size}",
            "language": f"Qwen2.5, {text.num_hidden_layers} layers of {text.hidden_size}; "
            f"repetition penalty {self._engine.penalty:g}",
            "action space": "dx dy dz, drx dry drz, gripper (0 closed, 1 open)",
            "statistics": ", ".join(sorted(self.statistics)),
            "lacks": "; ".join(lacks) or "nothing",
        }

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Implements `TokenModel.retrieval_key`: mean-pooled."""
        pooled = features[0].float().mean(dim=0)
        key: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return key
