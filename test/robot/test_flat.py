"""Settings by flat names, as scripts wrote them before parameters nested."""

from __future__ import annotations

import copy
import pickle

import pytest

from heisd_ros.robot.declare import parameters_of, values_of
from heisd_ros.robot.flat import VlaNodeParameters
from heisd_ros.robot.parameters import VlaNodeParameters as Nested


@pytest.mark.parametrize(
    ("flat", "name", "value"),
    [
        ("interface", "command.interface", "pose"),
        ("rate_hz", "command.rate_hz", 50.0),
        ("control_rate_hz", "model.control_rate_hz", 5.0),
        ("gripper_action", "gripper.action", "gripper_command"),
        ("joint_velocity_scale", "joints.velocity_scale", 0.5),
        ("dry_run", "dry_run", True),
    ],
)
def test_a_flat_name_sets_its_parameter_alone(flat, name, value):
    assert values_of(VlaNodeParameters(**{flat: value})) == values_of(Nested()) | {name: value}


def test_settings_are_read_by_flat_names_with_a_warning():
    with pytest.warns(DeprecationWarning, match="model_path is model.path now"):
        assert Nested().model_path == ""
    with pytest.raises(AttributeError, match="'nonsense' is unknown"):
        assert Nested().nonsense
    assert copy.deepcopy(Nested()) == pickle.loads(pickle.dumps(Nested())) == Nested()


def test_every_parameter_has_a_flat_name():
    values = values_of(Nested())
    flat = {info.name.replace(".", "_"): values[info.name] for info in parameters_of(Nested)}
    assert VlaNodeParameters(**flat) == Nested()


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"nonsense": 1}, "'nonsense' is unknown; accepted: a declared one"),
        ({"mode": "ar"}, "'mode' is ambiguous; accepted: decoding_mode or growth_mode"),
        ({"rate_hz": -1.0}, "'command.rate_hz' is -1.0; accepted: 0 to 500"),
    ],
)
def test_others_are_named(flat, message):
    with pytest.raises(ValueError, match=message):
        VlaNodeParameters(**flat)
