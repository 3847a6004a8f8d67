"""Parsed values as declared types: nothing is converted, and errors name what does not fit."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.files.bounded import parse_json
from heisd_ros.files.typed import check_fields, typed, within


@dataclass(frozen=True)
class Inner:
    size: int
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}; accepted: 0 or more")


@dataclass(frozen=True)
class Outer:
    rate: float
    inner: Inner = Inner(1)
    names: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    more: dict[str, Inner] = field(default_factory=dict)
    on: bool = False
    limit: float | None = None
    targets: str | tuple[str, ...] = ""
    about: dict[str, Any] = field(default_factory=dict)


def test_what_fits_becomes_the_dataclass():
    values = {
        "rate": 20,
        "inner": {"size": 3, "kind": "b"},
        "names": ["x", "y"],
        "pair": [1, 2.5],
        "more": {"z": {"size": 0}},
        "limit": None,
        "targets": ["q"],
        "about": {"any": [1, {}]},
    }
    assert typed(Outer, values) == Outer(
        20,
        Inner(3, "b"),
        ("x", "y"),
        (1, 2.5),
        {"z": Inner(0)},
        False,
        None,
        ("q",),
        values["about"],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": "20"}, "^rate is '20'; accepted: a finite number$"),
        ({"rate": True}, "^rate is True; accepted: a finite number$"),
        ({"rate": math.nan}, "^rate is nan; accepted: a finite number$"),
        ({"inner": [1]}, r"^inner is \[1\]; accepted: a mapping$"),
        ({"inner": {}}, r"^inner\.size is missing$"),
        ({"inner": {"size": 1.0}}, r"^inner\.size is 1\.0; accepted: a whole number"),
        ({"inner": {"size": True}}, r"^inner\.size is True; accepted: a whole number"),
        ({"inner": {"size": -1}}, r"^inner: size is -1; accepted: 0 or more$"),
        ({"inner": {"size": 1, "kind": "c"}}, r"^inner\.kind is 'c'; accepted: 'a' or 'b'$"),
        ({"inner": {"size": 1, "kind": []}}, r"^inner\.kind is \[\]; accepted: 'a' or 'b'$"),
        ({"inner": {"size": 1, "sise": 1}}, r"^unknown key inner\.sise; accepted: size, kind$"),
        (
            {"more": {"z": {"size": 1, "sise": 1}}},
            r"^unknown key more\.z\.sise; accepted: size, kind$",
        ),
        ({"names": "xy"}, "^names is 'xy'; accepted: a list$"),
        ({"names": ["x", 1]}, r"^names\[1\] is 1; accepted: a text$"),
        ({"pair": [1.0]}, r"^pair is \[1\.0\]; accepted: a list of 2$"),
        ({"more": {"z": 5}}, r"^more\.z is 5; accepted: a mapping$"),
        ({"on": 1}, "^on is 1; accepted: true or false$"),
        ({"limit": "x"}, "^limit is 'x'; accepted: a finite number$"),
        ({"targets": 5}, "^targets is 5; accepted: a text$"),
        ({"about": None}, "^about is None; accepted: a mapping$"),
        ({"a\nb": None}, r"^unknown key 'a\\nb'; accepted: rate"),
    ],
)
def test_what_does_not_fit_is_named_with_key_value_and_what_is_accepted(change, message):
    with pytest.raises(ValueError, match=message):
        typed(Outer, {"rate": 1.0, **change})
    with pytest.raises(ValueError, match=r"^the content is 3; accepted: a mapping$"):
        typed(Outer, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"rate": 1{"0" * 400}}}', "^rate is inf; accepted: a finite number$"),
        (
            f'{{"rate": 1, "inner": {{"size": 1{"0" * 30}}}}}',
            r"^inner\.size is 1e\+30; accepted: a whole number below 2\^63$",
        ),
    ],
)
def test_a_whole_number_that_no_array_holds_is_a_real_one(text, message):
    with pytest.raises(ValueError, match=message):
        typed(Outer, parse_json(text, "the text"))


@pytest.mark.parametrize("values", [{"names": [1] * 10**5}, {str(n): 1 for n in range(10**5)}])
def test_many_faults_are_counted_and_not_listed(values):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"^the content has 10000\d values that are not accepted$"):
        typed(Outer, values)
    assert time.monotonic() - began < 5.0


@dataclass(frozen=True)
class Checked:
    share: Annotated[float, within(0, 1)] = 0.5
    inner: tuple[Inner, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_dataclass_checks_its_own_values():
    assert Checked(1, (Inner(3),)).inner[0].size == 3
    with pytest.raises(ValueError, match=r"^share is 1\.5; accepted: 0 to 1$"):
        Checked(1.5)
    with pytest.raises(ValueError, match=r"^checked\.share is nan; accepted: a finite number$"):
        typed(Checked, {"share": math.nan}, "checked")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("size"), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__]), JSON))
def test_nothing_but_a_value_error_comes_of_any_json(values):
    try:
        result = typed(Outer, values)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert isinstance(result, Outer) and math.isfinite(result.rate)
