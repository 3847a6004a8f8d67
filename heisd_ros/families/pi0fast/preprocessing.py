"""Pictures, states and instructions as LeRobot's pi0-FAST takes them, equal to it bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import ImageError, ProprioceptionError
from heisd_ros.families.pi0fast.normalisation import Normalisation

_EDGES = np.linspace(-1.0, 1.0, 257)[:-1]


def prepare_image(image: NDArray[np.uint8], side: int) -> Tensor:
    """RGB uint8 [H, W, 3] -> float32 [3, S, S] in [-1, 1]: resized with its aspect, padded by 0.

    The bands of the padding are -1. Sides are cut to whole pixels after a float division, which can
    lose one.

    Raises:
        ImageError: the picture is malformed.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"an image is {image.dtype} {image.shape}; RGB uint8 [H, W, 3] is needed")
    pixels = torch.tensor(image).permute(2, 0, 1).contiguous().float()[None] / 255.0
    height, width = image.shape[:2]
    if (height, width) != (side, side):
        ratio = max(width / side, height / side)
        size = max(1, int(height / ratio)), max(1, int(width / ratio))
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False).clamp(0, 1)
        top, left = (side - size[0]) // 2, (side - size[1]) // 2
        pixels = F.pad(pixels, (left, side - size[1] - left, top, side - size[0] - top))
    return pixels[0] * 2.0 - 1.0


def state_bins(state: ArrayLike, normalisation: Normalisation, size: int) -> NDArray[np.int64]:
    """A state in units of the robot -> its 256 bins; -1 for what is below all of them.

    Raises:
        ProprioceptionError: it is of the wrong size or not finite.
    """
    vector = np.asarray(state, dtype=np.float32)
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise ProprioceptionError(f"the state is {vector}; {size} finite numbers are needed")
    return np.digitize(normalisation.forward(vector), _EDGES) - 1


def prompt_text(instruction: str, bins: Sequence[int]) -> str:
    """The sentence that the model reads; case and double spaces stay."""
    task = instruction.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {task}, State: {' '.join(str(int(b)) for b in bins)};\n"


def prompt_ids(tokenizer: Tokenizer, text: str, most: int) -> list[int]:
    """<bos> and the text's ids, cut at the length that the model was trained with.

    Of a long instruction the cut loses the state, as in LeRobot.
    """
    return tokenizer.encode(text).ids[:most]
