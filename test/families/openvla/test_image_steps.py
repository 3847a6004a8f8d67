"""What LIBERO fine-tunes' pictures go through, against TensorFlow's own outputs."""

from __future__ import annotations

import builtins
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tree import ROOT

from heisd_ros.errors import MissingPackageError
from heisd_ros.families.image_steps import ImageSteps, centre_crop, lanczos3, through_jpeg

TENSORFLOW = dict(np.load(ROOT / "test" / "data" / "tensorflow_images" / "steps.npz"))


def test_jpeg_is_tensorflow_s_bit_for_bit():
    got = through_jpeg(TENSORFLOW["image"], 95)
    np.testing.assert_array_equal(got, TENSORFLOW["jpeg"])


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (lambda image: lanczos3(image, 56), "jpeg", "lanczos3"),
        (lambda image: centre_crop(image, 0.9), "lanczos3", "crop"),
    ],
)
def test_resizing_is_tensorflow_s_but_for_values_on_an_edge(step, before, after):
    gap = np.abs(step(TENSORFLOW[before]).astype(int) - TENSORFLOW[after])
    assert gap.max() <= 1 and (gap > 0).mean() <= 0.001


def test_all_steps_in_their_order():
    steps = ImageSteps(mirror=True, jpeg_quality=95, resize=56, crop_area=0.9)
    upright = np.ascontiguousarray(TENSORFLOW["image"][:, ::-1])
    gap = np.abs(steps(upright).astype(int) - TENSORFLOW["crop"])
    assert gap.max() <= 1 and (gap > 0).mean() <= 0.002


@given(st.integers(2, 40), st.integers(0, 255), st.floats(0.1, 1.0))
def test_a_picture_of_one_shade_stays_one_shade(side, shade, area):
    image = np.full((side, side, 3), shade, np.uint8)
    steps = ImageSteps(mirror=True, resize=16, crop_area=area)
    np.testing.assert_array_equal(steps(image), np.full((16, 16, 3), shade, np.uint8))


def test_without_steps_a_picture_is_left_alone():
    image = TENSORFLOW["image"]
    assert ImageSteps()(image) is image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mirror": 1}, "mirror is 1"),
        ({"jpeg_quality": 101}, "jpeg_quality is 101; 0 to 100"),
        ({"resize": -1}, "resize is -1"),
        ({"crop_area": 0.0}, "crop_area is 0.0; above 0"),
        ({"crop_area": "most"}, "crop_area is 'most'"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ImageSteps(), **change)


def test_without_simplejpeg_it_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "simplejpeg":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match="pip install simplejpeg"):
        through_jpeg(TENSORFLOW["image"], 95)
