"""ECoT ready for use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import ImageError, ProprioceptionError
from heisd_ros.families.ecot.codec import EcotCodec
from heisd_ros.families.ecot.config import PROMPT, EcotConfig
from heisd_ros.families.ecot.network import EcotNetwork
from heisd_ros.families.own_network import OwnNetworkModel
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.token_model import ObservationSpec
from heisd_ros.vla.tokenizer import known_ids

_LONGEST = 8192
"""Longest side of a picture, pixels: its square takes three times the square of it, in bytes."""


@dataclass(frozen=True)
class EcotInputs:
    """One observation on the model's device.

    Attributes:
        pixels: [1, 3, S, S] in the model's type.
        ids: [1, T] prompt ids, BOS first.
    """

    pixels: Tensor
    ids: Tensor


class Ecot(OwnNetworkModel):
    """Implements `TokenModel`.

    Attributes:
        model: the network.
        config: its configuration.
        tokenizer: of text.
        codec: its answers.
        spec: what it wants to see.
        statistics: names of those that the checkpoint has.
        statistics_key: the name in use.
    """

    model: EcotNetwork

    def __init__(
        self,
        model: EcotNetwork,
        tokenizer: Tokenizer,
        codec: EcotCodec,
        statistics: Sequence[str] = (),
        statistics_key: str = "",
    ) -> None:
        self.statistics, self.statistics_key = tuple(statistics), statistics_key
        super().__init__(model)
        self.tokenizer, self.codec = tokenizer, codec
        self.config = model.config
        self.spec = ObservationSpec(
            codec.convention.named(("image",)),
            self.config.tower.image_size,
            control_rate_hz=self.config.control_rate_hz,
        )

    @property
    def language(self) -> LanguageConfig:
        """Sizes of the decoder."""
        return self.config.language

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
    ) -> EcotInputs:
        """Implements `TokenModel.encode`."""
        if len(images) != 1:
            raise ImageError(f"{len(images)} images are given; the model takes 1")
        if proprio is not None:
            raise ProprioceptionError("the model takes no numbers; a vector was given")
        shown = self.codec.convention.images(images[0])
        pixels = prepare_image(shown, self.config)[None].to(self.device, self.dtype)
        return EcotInputs(pixels, torch.tensor([self.prompt_ids(instruction)], device=self.device))

    def prompt_ids(self, instruction: str) -> list[int]:
        """Token ids of the prompt, BOS first."""
        ids = self.tokenizer.encode(PROMPT.format(instruction=instruction.lower())).ids
        room = self.language.max_position_embeddings - self.config.tower.tokens
        return known_ids(ids, self.language.vocab_size, room - self.config.max_tokens)

    def features(self, inputs: EcotInputs) -> Tensor:
        """Implements `TokenModel.features`."""
        return self.engine.stage(self.model.vision_backbone, inputs.pixels)

    def prompt(self, inputs: EcotInputs, features: Tensor) -> Prompt:
        """Implements `TokenModel.prompt`."""
        visual_tokens = self.engine.stage(self.model.projector, features)
        return Prompt(self.model.embed(inputs.ids, visual_tokens), inputs.ids)

    def describe(self) -> dict[str, str]:
        """Returns what `heisd model info` shows in addition to the common values."""
        tower, language = self.config.tower, self.config.language
        known = self.spec.control_rate_hz is not None
        return {
            "vision": f"SigLIP, {tower.blocks_run} blocks of {tower.width}",
            "language": f"Llama, {language.num_hidden_layers} layers of {language.hidden_size}",
            "action space": "dx dy dz, drx dry drz, gripper",
            "statistics": ", ".join(sorted(self.statistics)),
            "lacks": "nothing" if known else "the control rate (heisd.control_rate_hz)",
        }

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Implements `TokenModel.retrieval_key`: mean-pooled."""
        pooled = features[0].float().mean(dim=0)
        key: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return key


def prepare_image(image: NDArray[np.uint8], config: EcotConfig) -> Tensor:
    """RGB uint8 [H, W, 3] -> normalised float32 [3, S, S], equal to upstream bit for bit.

    Raises:
        ImageError: the picture is malformed.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"an image is {image.dtype} {image.shape}; RGB uint8 [H, W, 3] is needed")
    picture, side = Image.fromarray(image), config.tower.image_size
    longest = max(picture.size)
    if longest > _LONGEST:
        raise ImageError(
            f"an image is {image.shape}, which becomes a square; accepted: up to {_LONGEST} a side"
        )
    # Of an odd difference half a pixel is lost on each side; the crop below evens it.
    across, down = ((longest - size) // 2 for size in picture.size)
    picture = ImageOps.expand(picture, (across, down), fill=config.fill)
    width, height = picture.size
    short = min(width, height)
    size = int(side * width / short), int(side * height / short)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in size)
    picture = picture.crop((left, top, left + side, top + side))
    pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (config.tower.mean, config.tower.std))
    return (pixels - mean) / std
