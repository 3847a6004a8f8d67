"""Settings of a run: what each field accepts."""

from __future__ import annotations

import dataclasses
import math

import pytest

from heisd_ros.training.training_settings import TrainingSettings

COUNTS = {"steps": 1, "batch_size": 1, "warmup_steps": 0, "seed": 0}
AT_LEAST_ZERO = ("learning_rate", "weight_decay", "landmark_weight", "text_weight", "proprio_noise")
SHARES = ("average", "brightness")
REFUSED = [
    *(
        (name, value)
        for name, least in COUNTS.items()
        for value in (least - 1, 1.5, True, math.nan)
    ),
    *((name, value) for name in AT_LEAST_ZERO for value in (-0.1, math.inf, math.nan)),
    *((name, value) for name in SHARES for value in (-0.1, 1.0, math.nan)),
    *(("soft_bins", value) for value in (0.0, -1.0, math.inf, math.nan)),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is {value}; accepted: .+$"):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize("name, least", COUNTS.items())
def test_the_least_count_is_accepted(name, least):
    assert getattr(TrainingSettings(**{name: least}), name) == least


def test_every_field_is_checked():
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert names == {name for name, _ in REFUSED}
