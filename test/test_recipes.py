"""The Dockerfile and the CI recipe run the commands of docs/installation.md."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

PAGE = (ROOT / "docs/installation.md").read_text()
COLCON = [line.strip() for line in re.findall(r"^ {4}.+", PAGE, re.MULTILINE)]


def documented(word):
    (line,) = {line for line in COLCON if word in line}
    return line


@pytest.mark.parametrize("recipe", ["Dockerfile", ".github/workflows/ci.yml"])
@pytest.mark.parametrize(
    "word", ["rosdep install", "--system-site-packages", "requirements.py --apt", "colcon build"]
)
def test_a_recipe_runs_the_documented_command(recipe, word):
    assert documented(word) in (ROOT / recipe).read_text()


def test_what_is_copied_into_an_image_is_no_environment():
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "build", "install", "log"} <= set(left_out)
