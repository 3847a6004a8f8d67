"""Marks in a recording: when a person had the arm, and how episodes ended."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any


class Outcome(str, Enum):
    """How an episode ended, as somebody reported it."""

    __str__ = str.__str__

    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    """It is to be left out, whatever became of it."""


def is_persons(message: Any) -> bool:
    """Returns whether a person had the arm, by a StepTelemetry of any version."""
    return getattr(message, "commander", "") == "person"


def outcomes(values: Sequence[Any]) -> list[Outcome]:
    """Returns the outcomes among texts; others are none."""
    known = {outcome.value: outcome for outcome in Outcome}
    return [known[value] for value in values if value in known]


def reported_of(
    attempts: Sequence[tuple[object, ...]], ends: Sequence[Outcome]
) -> dict[tuple[object, ...], Outcome]:
    """Returns the outcome of each attempt: a report is about the last one before it.

    Args:
        attempts: Of each step, in order of time; the last item of each counts the reports so far.
        ends: The reports.
    """
    last = {attempt[-1]: attempt for attempt in attempts}
    return {last[number]: outcome for number, outcome in enumerate(ends) if number in last}
