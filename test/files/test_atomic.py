"""A file is replaced atomically: its content is old or new, never partial."""

from __future__ import annotations

import os

import pytest

from heisd_ros.files.atomic import replace_text, replacing


def test_the_new_content_replaces_the_old_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file.json"
    replace_text(path, "old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["while it is written", "fsync", "replace"])
def test_an_error_leaves_the_old_content(tmp_path, monkeypatch, moment):
    def fail(*arguments):
        raise OSError("No space left on device")

    replace_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, moment, fail, raising=False)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "file") as partial:
        partial.write_text("half")
        if moment == "while it is written":
            fail()
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_others_may_read_it(tmp_path):
    replace_text(tmp_path / "file", "text")
    assert (tmp_path / "file").stat().st_mode & 0o044 == 0o044
