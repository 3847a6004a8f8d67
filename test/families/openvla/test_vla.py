from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.small_models import CONFIG, INSTRUCTIONS, random_images, small_vla

from heisd_ros.errors import AnswerError, ImageError, ProprioceptionError, UnknownInstructionError

PROPRIO = np.array([0.1, 0.2, 0.3])


@pytest.fixture(scope="module")
def vla():
    return small_vla()


def test_encode(vla):
    inputs = vla.encode(random_images(size=50), INSTRUCTIONS[0], PROPRIO)
    assert inputs.pixels.shape == (1, 2, 6, 32, 32)
    assert inputs.ids.dtype == torch.int64 and inputs.ids[0, 0] == 1
    np.testing.assert_allclose(inputs.proprio, [PROPRIO], rtol=1e-6)


@pytest.mark.parametrize(
    ("proprio", "message"),
    [
        (None, "takes 3 numbers; none was given"),
        (PROPRIO[:2], "3 finite numbers are needed"),
        (PROPRIO[None], "3 finite numbers are needed"),
        (np.array([0.0, np.nan, 0.0]), "3 finite numbers are needed"),
    ],
)
def test_proprioception_that_does_not_fit(vla, proprio, message):
    with pytest.raises(ProprioceptionError, match=message):
        vla.encode(random_images(), INSTRUCTIONS[0], proprio)


def test_a_model_without_proprioception_takes_none():
    without = small_vla(dataclasses.replace(CONFIG, proprio_size=0))
    assert without.encode(random_images(), INSTRUCTIONS[0]).proprio is None
    with pytest.raises(ProprioceptionError, match="takes no numbers; a vector was given"):
        without.encode(random_images(), INSTRUCTIONS[0], PROPRIO)


def test_images_and_instructions_are_checked(vla):
    with pytest.raises(ImageError):
        vla.encode(random_images()[:1], INSTRUCTIONS[0], PROPRIO)
    with pytest.raises(UnknownInstructionError, match="dance"):
        vla.encode(random_images(), "dance", PROPRIO)


def test_tokens_become_actions_in_robot_units(vla):
    end = CONFIG.real_vocab_size
    action = vla.codec.decode([end - 1] * 6 + [end - 256])
    np.testing.assert_allclose(action, [[-2 * 254 / 255] * 6 + [254 / 255]])


def test_a_token_that_is_no_action_is_no_motion_either(vla):
    """Never the end of the range, whichever side of the action ids it lies on."""
    end = CONFIG.real_vocab_size
    for place in range(7):
        for strange in (0, end - 257, end):
            tokens = [end - 100] * 7
            tokens[place] = strange
            with pytest.raises(AnswerError, match=rf"of which \[{strange}\] are no actions"):
                vla.codec.decode(tokens)
    assert np.isfinite(vla.codec.decode([end - 1] * 6 + [end - 256])).all()


@pytest.mark.parametrize("count", [0, 6, 8])
def test_an_answer_has_seven_tokens(vla, count):
    with pytest.raises(AnswerError, match="accepted: 7 ids"):
        vla.codec.decode([CONFIG.real_vocab_size - 100] * count)
