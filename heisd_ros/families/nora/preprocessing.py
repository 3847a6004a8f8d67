"""Pictures and instructions as NORA takes them: Qwen2.5-VL's patches and chat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import CheckpointError, ImageError, UnknownInstructionError
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.checks import require_whole
from heisd_ros.files.typed import typed

SIDE = 224
"""What ``nora.py`` resizes every picture to, pixels; the aspect is not kept."""
PREPROCESSOR = "preprocessor_config.json"
_IMAGE = "<|image_pad|>"
_BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
_AFTER = "<|vision_end|>{instruction}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Patches:
    """How a picture becomes patches.

    Attributes:
        mean: of the channels, in [0, 1].
        std: of the channels.
        patch: side of a patch, pixels.
        merge: patches along each side that become one visual token.
        frames: times that a still picture is repeated.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int
    merge: int
    frames: int

    def __post_init__(self) -> None:
        for name in ("patch", "merge", "frames"):
            require_whole(name, getattr(self, name), most=SIDE)
        for name, least, most in (("mean", 0.0, 1.0), ("std", 0.01, 10.0)):
            if not all(least <= value <= most for value in getattr(self, name)):
                raise ValueError(
                    f"image_{name} is {getattr(self, name)}; accepted: {least:g} to {most:g}"
                )
        if SIDE % (self.patch * self.merge):
            raise ValueError(
                f"patches of {self.patch} px, merged by {self.merge}: {SIDE} px is no multiple"
            )

    @classmethod
    def read(cls, folder: Path) -> Patches:
        """Reads ``preprocessor_config.json``.

        Raises:
            CheckpointError: the file is missing, damaged, or would resize the picture.
        """
        path = folder / PREPROCESSOR
        content = read_object(path, CheckpointError)
        try:
            least, most = _pixels(content)
            if not least <= SIDE**2 <= most:
                raise ValueError(
                    f"min_pixels {shown(least)} to max_pixels {shown(most)}; accepted: {SIDE**2} "
                    "lies between"
                )
            return cls(
                typed(tuple[float, float, float], content.get("image_mean"), "image_mean"),
                typed(tuple[float, float, float], content.get("image_std"), "image_std"),
                typed(int, content.get("patch_size"), "patch_size"),
                typed(int, content.get("merge_size"), "merge_size"),
                typed(int, content.get("temporal_patch_size"), "temporal_patch_size"),
            )
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @property
    def grid(self) -> int:
        """Patches along a side of the picture."""
        return SIDE // self.patch

    @property
    def tokens(self) -> int:
        """Visual tokens along a side of the picture."""
        return self.grid // self.merge

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """RGB uint8 [H, W, 3] -> patches [G * G, 3 * frames * patch * patch] float32.

        Raises:
            ImageError: the picture is malformed.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(
                f"an image is {image.dtype} {image.shape}; RGB uint8 [H, W, 3] is needed"
            )
        resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels = torch.tensor(np.asarray(resized)).permute(2, 0, 1).contiguous().float()
        # The library joins scaling to [0, 1] and normalising, which rounds once less.
        mean, std = (torch.tensor(c, dtype=torch.float32) * 255.0 for c in (self.mean, self.std))
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        cut = pixels.view(3, self.tokens, self.merge, self.patch, self.tokens, self.merge, -1)
        # Rows in blocks of those that are merged; in a row channel, frame, then the patch.
        rows = cut.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        rows = rows.expand(-1, -1, -1, -1, -1, self.frames, -1, -1)
        return rows.reshape(self.grid**2, -1)


def _pixels(content: Mapping[str, Any]) -> tuple[float, float]:
    """Returns between how many pixels a picture is not resized, by either name of the limits."""
    size = typed(dict[str, Any], content.get("size") or {}, "size")
    least, most = content.get("min_pixels"), content.get("max_pixels")
    least = size.get("shortest_edge") if least is None else least
    most = size.get("longest_edge") if most is None else most
    return (
        0 if least is None else typed(int, least, "min_pixels"),
        math.inf if most is None else typed(int, most, "max_pixels"),
    )


def chat_text(instruction: str, images: int = 1) -> str:
    """The chat of one picture and a bare instruction, whose case stays as it is."""
    return _BEFORE + _IMAGE * images + _AFTER.format(instruction=instruction)


def prompt_ids(tokenizer: Tokenizer, instruction: str, images: int) -> list[int]:
    """Ids of the chat, with as many image ids as there are visual tokens.

    Raises:
        UnknownInstructionError: the instruction holds the text of a special token, which would
            become one.
    """
    special = tokenizer.get_added_tokens_decoder().values()
    found = [token.content for token in special if token.content in instruction]
    if found:
        raise UnknownInstructionError(
            f"the instruction {shown(instruction)} holds {shown(found)}; accepted: plain text"
        )
    return tokenizer.encode(chat_text(instruction, images), add_special_tokens=False).ids


def rope_positions(ids: list[int], image_id: int, side: int) -> tuple[Tensor, int]:
    """M-RoPE of a prompt with one picture: positions [3, 1, T] (time, row, column), and the next.

    Text increments all three; the image has one time, and its rows and columns count from there;
    what follows continues after the largest.
    """
    start, count = ids.index(image_id), side * side
    text = torch.arange(len(ids)).expand(3, -1).clone()
    place = torch.arange(count)
    image = torch.stack([torch.zeros_like(place), place // side, place % side])
    text[:, start : start + count] = image + start
    text[:, start + count :] += side - count
    return text[:, None], len(ids) + side - count
