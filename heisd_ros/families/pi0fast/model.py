"""pi0-FAST ready for use: PaliGemma with its preprocessing and codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from heisd_ros.errors import ImageError, ProprioceptionError
from heisd_ros.families.library import LibraryModel
from heisd_ros.families.pi0fast.codec import Pi0FastCodec
from heisd_ros.families.pi0fast.config import Pi0FastConfig
from heisd_ros.families.pi0fast.normalisation import Normalisation
from heisd_ros.families.pi0fast.preprocessing import (
    prepare_image,
    prompt_ids,
    prompt_text,
    state_bins,
)
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import ObservationSpec
from heisd_ros.vla.tokenizer import known_ids
from heisd_ros.vla.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Pi0FastInputs:
    """One observation on the model's device.

    Attributes:
        pixels: [C, 3, S, S] float32 in [-1, 1], of the cameras that are there.
        ids: [1, T] prompt ids, the second <bos> included.
    """

    pixels: Tensor
    ids: Tensor


class Pi0Fast(LibraryModel):
    """Implements `TokenModel`.

    Attributes:
        network: the library's PaliGemma.
        config: of the policy.
        codec: its answers.
        spec: what it wants to see; a camera that the robot lacks is given as None.
        states: normalisation of states.
        tokenizer: of text.
    """

    def __init__(
        self,
        network: PaliGemmaForConditionalGeneration,
        config: Pi0FastConfig,
        tokenizer: Tokenizer,
        codec: Pi0FastCodec,
        states: Normalisation,
    ) -> None:
        engine = TransformersEngine(network.model.language_model, network.lm_head, answer=codec)
        super().__init__(network, engine)
        self.config, self.codec, self.states = config, codec, states
        self.tokenizer = tokenizer
        self.spec = ObservationSpec(
            codec.convention.named(config.views), config.resolution, config.state_size
        )
        # Gemma begins a sentence with it; LeRobot writes it before the prompt and behind it.
        self._bos = tokenizer.encode("").ids[0]

    def encode(
        self,
        images: Sequence[NDArray[np.uint8] | None],
        instruction: str,
        proprio: ArrayLike | None = None,
    ) -> Pi0FastInputs:
        """Implements `TokenModel.encode`; a missing camera is None, and at least one is needed."""
        if len(images) != len(self.spec.views) or all(image is None for image in images):
            raise ImageError(
                f"{len(images)} images are given, {sum(i is not None for i in images)} of them no "
                f"None; the model takes {len(self.spec.views)}: {', '.join(self.spec.views)}"
            )
        if proprio is None:
            raise ProprioceptionError(
                f"the model takes a state of {self.config.state_size} numbers; none was given"
            )
        pictures = [
            prepare_image(self.codec.convention.images(image), self.config.resolution)
            for image in images
            if image is not None
        ]
        return Pi0FastInputs(
            torch.stack(pictures).to(self.device),
            torch.tensor([self.prompt_ids(instruction, proprio)], device=self.device),
        )

    def prompt_ids(self, instruction: str, proprio: ArrayLike) -> list[int]:
        """Ids of the text, its own <bos> in front and LeRobot's second one behind."""
        bins = state_bins(proprio, self.states, self.config.state_size)
        text = prompt_text(instruction, bins.tolist())
        ids = [*prompt_ids(self.tokenizer, text, self.config.prompt_length), self._bos]
        return known_ids(ids, self.network.config.get_text_config().vocab_size)

    def features(self, inputs: Pi0FastInputs) -> Tensor:
        """Implements `TokenModel.features`: the cameras' patches in a row, [1, C * N, D]."""
        tower = self.network.model.vision_tower
        hidden: Tensor = tower(inputs.pixels).last_hidden_state
        return hidden.flatten(0, 1)[None]

    def prompt(self, inputs: Pi0FastInputs, features: Tensor) -> Prompt:
        """Implements `TokenModel.prompt`.

        All columns see each other. Upstream pads the text and encodes cameras that are missing, and
        then masks both: here they are left out, which is the same.
        """
        image = self.network.model.multi_modal_projector(features)
        text = self.embed_tokens(inputs.ids)
        columns = torch.cat([image.to(text.dtype), text], dim=1)
        every = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=columns.device)
        return Prompt(columns, mask=every)

    def describe(self) -> dict[str, str]:
        """Returns what `heisd model info` shows in addition to the common values."""
        text, vision = self.config.text, self.config.vision
        return {
            "vision": f"SigLIP, {vision.num_hidden_layers} layers of {vision.hidden_size}",
            "language": f"Gemma, {text.depth} layers of {text.width}",
            "action space": f"{self.codec.dimensions} numbers as they were demonstrated; "
            "LeRobot's files do not say of what",
            "statistics": "one set, of "
            + ", ".join(f"{kind.lower()} {mode}" for kind, mode in self.config.modes.items()),
            "lacks": "the control rate; what the numbers of state and action are",
        }

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Implements `TokenModel.retrieval_key`: mean-pooled per camera."""
        patches = self.spec.image_size // self.config.vision.patch_size
        pooled = features[0].float().unflatten(0, (-1, patches**2)).mean(dim=1).flatten()
        key: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return key
