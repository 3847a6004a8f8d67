"""Preprocessing of images and instructions, equal to upstream bit for bit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import ImageError, UnknownInstructionError
from heisd_ros.families.image_steps import ImageSteps
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.instructions import normalise_instruction
from heisd_ros.vla.tokenizer import known_ids


class ImagePreprocessor:
    """Resize with Pillow (bicubic, aspect ratio not kept), then normalise once for each tower.

    Args:
        config: the model's.
        steps: steps before the resize.

    Attributes:
        resizes_alone: whether there is no such step, so that what was resized stays as it is.
    """

    def __init__(self, config: VLAConfig, steps: ImageSteps | None = None) -> None:
        self._steps = steps or ImageSteps()
        self.resizes_alone = self._steps == ImageSteps()
        self.size = config.image_size
        self.views = config.views
        constants = [[getattr(t, name) for t in config.towers] for name in ("mean", "std")]
        self._mean, self._std = (torch.tensor(c).view(1, 2, 3, 1, 1) for c in constants)

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB uint8 [H, W, 3] -> [size, size, 3].

        Raises:
            ImageError: it isn't such an array, or has no pixels.
            MissingPackageError: a step needs a package that is not installed.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise ImageError(f"image is {kind}; a uint8 array is needed")
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ImageError(f"image has shape {image.shape}; [height, width, 3] is needed")
        image = self._steps(image)
        if image.shape[:2] == (self.size, self.size):
            return image
        picture = Image.fromarray(image)
        return np.asarray(picture.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [..., S, S, 3] on any device -> float32 [..., 6, S, S], one RGB per tower."""
        device = pixels.device
        # Plane by plane while a pixel is one byte: what follows is three times as fast so.
        planes = pixels.movedim(-1, -3).contiguous()
        scaled = planes.to(torch.float32).div_(255)
        per_tower = scaled.flatten(0, -4).unsqueeze(1)  # [images, 1, 3, S, S]
        stacked = (per_tower - self._mean.to(device)).div_(self._std.to(device))
        return stacked.flatten(1, 2).unflatten(0, pixels.shape[:-3])

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """One image per view -> float32 [1, V, 6, S, S].

        Raises:
            ImageError: wrong number of images, or `resize` refuses one.
        """
        if len(images) != len(self.views):
            raise ImageError(
                f"{len(images)} images; {len(self.views)} are needed, one per view: "
                f"{', '.join(self.views)}"
            )
        resized = np.stack([self.resize(image) for image in images])
        return self.normalise(torch.from_numpy(resized).unsqueeze(0))


class PromptTokenizer:
    """Instruction -> token ids of the whole prompt."""

    def __init__(self, config: VLAConfig, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._template, self._rows = config.prompt, config.language.vocab_size
        self._most = config.longest_text
        self._suffix = config.prompt_suffix
        self._verbatim = frozenset(config.instructions or ())
        self._known = (
            None
            if config.instructions is None
            else {normalise_instruction(known): known for known in config.instructions}
        )
        self._ids = lru_cache(maxsize=256)(self._tokenise)

    def prompt(self, instruction: str) -> str:
        """Returns the text that the model reads."""
        return self._template.format(instruction=instruction.lower())

    def encode(self, instruction: str) -> list[int]:
        """Token ids, BOS first.

        Raises:
            UnknownInstructionError: the model has a list of instructions and this isn't on it.
        """
        # A literal match needs no other: two instructions may differ only in their punctuation.
        if self._known is not None and instruction not in self._verbatim:
            known = self._known.get(normalise_instruction(instruction))
            if known is None:
                raise UnknownInstructionError(self._unknown(instruction, self._known))
            instruction = known
        return list(self._ids(instruction))

    @staticmethod
    def _unknown(instruction: str, known: Mapping[str, str]) -> str:
        closest = difflib.get_close_matches(
            normalise_instruction(instruction), known, 3, cutoff=0.0
        )
        texts = ", ".join(repr(known[text]) for text in closest)
        return f"unknown instruction {instruction!r}; closest of {len(known)} known: {texts}"

    def _tokenise(self, instruction: str) -> tuple[int, ...]:
        ids = self.tokenizer.encode(self.prompt(instruction)).ids
        if self._suffix and tuple(ids[-len(self._suffix) :]) != self._suffix:
            ids = [*ids, *self._suffix]
        return tuple(known_ids(ids, self._rows, self._most))
