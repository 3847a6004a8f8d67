"""Preprocessing of a fine-tune's training images before the model's own resize.

OpenVLA's LIBERO fine-tunes saw images that were rotated, stored as JPEG, resized by TensorFlow, and
cropped at random; evaluation repeats this with a central crop (openvla c8f03f4,
``experiments/robot/libero/libero_utils.py`` and ``experiments/robot/openvla_utils.py``). Each step
here is TensorFlow's arithmetic without TensorFlow: JPEG bit for bit, the other two but for single
values that lie on the edge between two grey levels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heisd_ros.errors import MissingPackageError

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSteps:
    """Steps from a camera's upright picture to one as in the training data, in this order.

    Attributes:
        mirror: left and right are swapped. LIBERO's raw pictures lie upside down, and turned by
            180 degrees, as OpenVLA's data are, they are upright and mirrored.
        jpeg_quality: the picture is stored as a JPEG file and read again; 0: it is not.
        resize: side after a Lanczos-3 resize with antialiasing, pixels; 0: no such step.
        crop_area: share of the area that a central crop keeps, which is resized back; 1: all.

    Raises:
        ValueError: a value is out of range.
    """

    mirror: bool = False
    jpeg_quality: int = 0
    resize: int = 0
    crop_area: float = 1.0

    def __post_init__(self) -> None:
        for name, accepted in (("jpeg_quality", range(101)), ("resize", range(4097))):
            value = getattr(self, name)
            if not isinstance(value, int) or value not in accepted:
                raise ValueError(f"{name} is {value!r}; 0 to {accepted[-1]}")
        if not isinstance(self.mirror, bool):
            raise ValueError(f"mirror is {self.mirror!r}; true or false")
        if not isinstance(self.crop_area, int | float) or not 0.0 < self.crop_area <= 1.0:
            raise ValueError(f"crop_area is {self.crop_area!r}; above 0, at most 1")

    def __call__(self, image: RGB) -> RGB:
        """RGB uint8 [H, W, 3] -> RGB uint8, of the side `resize` if that is set."""
        if self.mirror:
            image = np.ascontiguousarray(image[:, ::-1])
        if self.jpeg_quality:
            image = through_jpeg(image, self.jpeg_quality)
        if self.resize:
            image = lanczos3(image, self.resize)
        if self.crop_area < 1.0:
            image = centre_crop(image, self.crop_area)
        return image


def through_jpeg(image: RGB, quality: int) -> RGB:
    """``tf.io.decode_image(tf.image.encode_jpeg(image))``, bit for bit: chroma at half resolution.

    Raises:
        MissingPackageError: simplejpeg is not installed. TensorFlow decodes with libjpeg's fast
            transform, which Pillow does not offer; its accurate one is up to 9 grey levels off.
    """
    try:
        from simplejpeg import decode_jpeg
    except ImportError as error:
        raise MissingPackageError(
            "pictures that go through JPEG as in TensorFlow need simplejpeg: pip install simplejpeg"
        ) from error
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    decoded: RGB = decode_jpeg(file.getvalue(), fastdct=True)
    return decoded


def lanczos3(image: RGB, side: int) -> RGB:
    """``tf.image.resize(image, method="lanczos3", antialias=True)``, rounded to uint8.

    The same filter as Pillow's, which for 8-bit pictures rounds between its two passes; for
    floating-point channels it does not, like TensorFlow.
    """
    pictures = [Image.fromarray(channel) for channel in np.moveaxis(image.astype(np.float32), 2, 0)]
    filters = Image.Resampling.LANCZOS
    resized = [np.asarray(picture.resize((side, side), filters)) for picture in pictures]
    return np.clip(np.rint(np.stack(resized, axis=-1)), 0, 255).astype(np.uint8)


def centre_crop(image: RGB, area: float) -> RGB:
    """``tf.image.crop_and_resize`` of the middle to the picture's own size: bilinear, float32.

    The crop's corners lie between pixels: sides are those of the picture times sqrt(area), counted
    from the centre of the first pixel to that of the last.
    """
    pixels = image.astype(np.float32) * np.float32(1 / 255)
    pixels = _along_rows(_along_rows(pixels, area).swapaxes(0, 1), area).swapaxes(0, 1)
    # convert_image_dtype: 255.5 and a cast, which cuts off.
    return (np.clip(pixels, 0.0, 1.0) * np.float32(255.5)).astype(np.uint8)


def _along_rows(pixels: NDArray[np.float32], area: float) -> NDArray[np.float32]:
    """The crop along the first axis, step by step in float32 as TensorFlow's kernel has it."""
    size = len(pixels)
    share = np.sqrt(np.float32(area))
    start = (np.float32(1) - share) / np.float32(2)
    scale = (start + share - start) * np.float32(size - 1) / np.float32(size - 1)
    at = start * np.float32(size - 1) + np.arange(size, dtype=np.float32) * scale
    low = np.floor(at).astype(int)
    weight = (at - low.astype(np.float32)).reshape(-1, *[1] * (pixels.ndim - 1))
    first, second = pixels[low], pixels[np.minimum(low + 1, size - 1)]
    return first + (second - first) * weight
