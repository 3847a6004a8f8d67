from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_models import small_vla

from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.vla import VLA

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
