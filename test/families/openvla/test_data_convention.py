from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes import episode
from support.small_models import INSTRUCTIONS, small_vla

from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.types import Observation
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.image_steps import ImageSteps
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.training.encode_frames import read_frames

OPENVLA = DataConvention(gripper=(1.0, 0.0))


@given(st.floats(-1.0, 1.0).filter(lambda x: abs(x - 0.5) > 1e-9))
def test_openvla_s_gripper_is_libero_s(number):
    """As upstream: 2 x - 1, its sign, and that inverted."""
    action = np.array([0.1] * 6 + [number])
    expected = -np.sign(2.0 * number - 1.0)
    np.testing.assert_array_equal(OPENVLA.to_environment(action), [0.1] * 6 + [expected])


@pytest.mark.parametrize(("environment", "own"), [(-1.0, 1.0), (1.0, 0.0)])
def test_and_back(environment, own):
    action = np.array([[0.0] * 6 + [environment]] * 3)
    np.testing.assert_array_equal(OPENVLA.to_model(action)[:, 6], [own] * 3)
    np.testing.assert_array_equal(OPENVLA.to_environment(OPENVLA.to_model(action)), action)


def test_a_vla_speaks_the_environment_s_convention():
    plain = small_vla()
    vla = VLA(plain.model, plain.prompts.tokenizer, plain.statistics, None, OPENVLA)
    opened, closed = (np.array([0.5] * 6 + [gripper]) for gripper in (-1.0, 1.0))
    for action in (opened, closed):
        tokens = vla.codec.tokens(action)
        np.testing.assert_allclose(vla.codec.actions(tokens), action, atol=2.0 / 255)
    assert plain.codec.actions(vla.codec.tokens(opened))[6] > 0.99
    assert abs(plain.codec.actions(vla.codec.tokens(closed))[6]) < 0.01


def test_the_default_changes_nothing():
    action = np.linspace(-1.0, 1.0, 7)
    assert DataConvention().to_environment(action) is action
    np.testing.assert_array_equal(DataConvention().to_model(action), action)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"veiws": []}, r"unknown keys in data: \['veiws'\]"),
        ({"images": {"crop": 0.9}}, r"unknown key data\.images\.crop"),
        ({"gripper": {"open": 1.0}}, "open and closed"),
        ({"gripper": {"open": 1.0, "closed": 1.0}}, "two different numbers"),
    ],
)
def test_a_malformed_one(content, message):
    with pytest.raises(ValueError, match=message):
        DataConvention.from_dict(content)


@pytest.mark.parametrize("steps", [ImageSteps(), ImageSteps(mirror=True, crop_area=0.9)])
def test_frames_of_a_database_are_those_that_the_robot_sees(steps):
    plain, convention = small_vla(), DataConvention(images=steps)
    vla = VLA(plain.model, plain.prompts.tokenizer, plain.statistics, None, convention)
    recorded, proprio = recording(vla.config, 3, 0)
    kept = {
        view: np.stack(list(map(vla.resize, all_of))) for view, all_of in recorded.images.items()
    }
    frames = read_frames(vla, replace(recorded, images=kept), proprio, 2)
    for step in range(3):
        images = tuple(recorded.images[view][step] for view in vla.config.views)
        seen = perceive(vla, Observation(images, INSTRUCTIONS[0], proprio[step]))
        np.testing.assert_allclose(frames.keys[step], vla.retrieval_key(seen.features), atol=1e-5)


def recording(config, steps, seed):
    """An episode with the model's views, and proprioception of its size."""
    chance = np.random.default_rng(seed)
    images = {
        view: chance.integers(0, 256, (steps, 40, 40, 3), dtype=np.uint8) for view in config.views
    }
    proprio = chance.normal(size=(steps, config.proprio_size)).astype(np.float32)
    return episode(steps=steps, images=images, instruction=INSTRUCTIONS[0]), proprio
