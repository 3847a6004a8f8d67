"""Every row of the tables of accepted and refused input is backed by a test with its words."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

DOCUMENT = (ROOT / "docs/data.md").read_text(encoding="utf-8")
TABLES = "".join(
    DOCUMENT.partition(f"## {title}")[2].partition("\n## ")[0]
    for title in ("What is read, left out", "Export to LeRobot and RLDS")
)
ROWS = re.findall(r"^\| (.+?) \| .+ \| `(.+)` \|$", TABLES, re.MULTILINE)


def words_of_tests():
    """The text of every test of recordings but this one, as if it were one line."""
    files = [path for room in ("data", "cli") for path in (ROOT / "test" / room).glob("test_*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files if path.stem != __name__)
    return text.replace("\\", "").replace('"\n', "").replace('f"', '"')


@pytest.mark.parametrize(("what", "words"), ROWS, ids=lambda text: text[:40])
def test_the_words_of_a_line_are_those_of_a_test(what, words):
    assert words in words_of_tests(), f"no test has {words!r}, which docs/data.md says of: {what}"


def test_there_are_lines():
    assert len(ROWS) > 30
