"""The report on reading a recording: what was read, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

SECOND = 1_000_000_000
"""Nanoseconds."""


@dataclass
class TopicStatistics:
    """Messages of one topic that could be used.

    Attributes:
        messages: Number of messages.
        rate_hz: Rate from the median interval; 0 with fewer than two messages.
        longest_gap_sec: The longest interval.
    """

    messages: int
    rate_hz: float = 0.0
    longest_gap_sec: float = 0.0

    @classmethod
    def of(cls, stamps: list[int]) -> TopicStatistics:
        """Computes the statistics of stamps, ns, in ascending order."""
        if len(stamps) < 2:
            return cls(len(stamps))
        intervals = np.diff(np.array(stamps))
        usual = float(np.median(intervals))
        return cls(
            messages=len(stamps),
            rate_hz=SECOND / usual if usual > 0.0 else 0.0,
            longest_gap_sec=float(intervals.max()) / SECOND,
        )


@dataclass(frozen=True)
class Outline:
    """An episode without its contents.

    Attributes:
        instruction: The task in words.
        steps: Number of steps.
        init_state: Number of the fixed initial state that it started from, or None.
        start_sec: Start time relative to the recording's; None if unknown.
        ended_by: Why it ends there, in words.
        outcome: How it ended by report, "success" or "failure"; empty: not reported.
        person_steps: Number of steps in which a person had the arm.
    """

    instruction: str
    steps: int
    init_state: int | None = None
    start_sec: float | None = None
    ended_by: str = ""
    outcome: str = ""
    person_steps: int = 0


@dataclass
class ReadReport:
    """The outcome of reading a source.

    Attributes:
        topics: Statistics by topic or feature.
        dropped: Messages and steps left out, by reason.
        cuts: Ends of episodes, by reason.
        damage: Where bytes are missing or damaged; empty where the recording is whole.
        remarks: Remarks, one line each; none of them means a loss.
        warnings: Signs of a faulty recording, one line each.
        notes: Texts that the recorder put into the recording, by name: `parameters` is the robot's
            YAML, `model` names the model.
        unusable: Why it must not be used for a database; empty if it may be.
    """

    topics: dict[str, TopicStatistics] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    damage: str = ""
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    unusable: str = ""

    def lines(self) -> list[str]:
        """Returns everything except statistics and cuts, one line each."""
        return [
            *(f"note: {remark}" for remark in self.remarks),
            *(f"left out: {count} x {reason}" for reason, count in self.dropped.most_common()),
            *(f"warning: {warning}" for warning in self.warnings),
            *([f"broken off: {self.damage}"] if self.damage else []),
        ]
