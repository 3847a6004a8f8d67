"""What may be said to the arm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.robot.instruction import MAX_LENGTH, instruction_problem
from heisd_ros.robot.parameters import VlaNodeParameters


@pytest.mark.parametrize("text", ["", "pick up the bowl", "räume auf", "x" * MAX_LENGTH])
def test_a_sentence_is_taken(text):
    assert instruction_problem(text) == ""


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "nul\0", "x" * (MAX_LENGTH + 1)])
def test_others_are_refused_everywhere(text):
    assert "accepted:" in instruction_problem(text)
    with pytest.raises(ValueError, match="'instruction'"):
        VlaNodeParameters(instruction=text)


@given(st.text())
def test_a_refusal_is_one_line(text):
    assert instruction_problem(text).isprintable()
