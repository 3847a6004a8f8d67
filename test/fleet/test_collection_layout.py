"""Layouts: equal after a round trip, and differences are named."""

from __future__ import annotations

import pytest
from support.fleet import layout

from heisd_ros.fleet.collection_layout import Layout


def test_a_layout_survives_its_text():
    assert Layout.from_json(layout().to_json()) == layout()


def test_a_difference_is_named_and_the_same_has_none():
    assert layout().difference(layout()) == ""
    other = layout(model="b" * 64, robot="ur5e")
    assert layout().difference(other) == (
        "model_fingerprint 'aaaaaaaaaaaa', not 'bbbbbbbbbbbb', robot 'panda', not 'ur5e'"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"size": 3}'])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):
        Layout.from_json(text)
