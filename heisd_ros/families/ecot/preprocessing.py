"""Pictures as ECoT takes them: padded to a square, then resized, equal to upstream bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from heisd_ros.errors import ImageError
from heisd_ros.families.ecot.config import EcotConfig

_LONGEST = 8192
"""Longest side of a picture, pixels: its square takes three times the square of it, in bytes."""


def prepare_image(image: NDArray[np.uint8], config: EcotConfig) -> Tensor:
    """RGB uint8 [H, W, 3] -> normalised float32 [3, S, S].

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
