"""Shipped models are found by name."""

from __future__ import annotations

import pytest

from heisd_ros.models import find_model, shipped_model, shipped_models


def test_a_shipped_model_is_found_by_its_short_name():
    assert shipped_models()["panda"] == shipped_model() == find_model("panda") == find_model("")


def test_a_folder_is_itself(tmp_path):
    assert find_model(str(tmp_path)) == tmp_path


def test_what_is_neither_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"no model 'slow'; accepted: panda.*, or a checkpoint"):
        find_model("slow")
