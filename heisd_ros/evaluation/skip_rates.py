"""Measured skip rates of a mode, for random skipping at the same rates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from heisd_ros.decoding.modes import COMPILED
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.results import read_results

_RETRIEVED = (Source.RETRIEVAL, Source.LAST_COMMAND, Source.SKIP)


class SkipRates(NamedTuple):
    """Shares of steps that were skipped.

    Attributes:
        of_steps: Of all steps.
        of_retrieved: Of those in the zone of retrieval, slow ones included.
    """

    of_steps: float
    of_retrieved: float


def measured_rates(path: Path, mode: str = "heisd") -> SkipRates:
    """The rates of a mode in a results file, over all of its steps; compiled or not.

    Raises:
        ValueError: The file is no results file, or the mode did not run there or skipped nothing.
    """
    names = mode, mode + COMPILED
    rows = [row for row in read_results(path)["episodes"] if row["mode"] in names]
    sources = "".join(row["source"] for row in rows)
    skipped = sources.count(Source.SKIP.letter)
    if not skipped:
        raise ValueError(f"{path} has no skipped step of mode {mode!r}, whose rate is needed")
    retrieved = sum(sources.count(source.letter) for source in _RETRIEVED)
    return SkipRates(skipped / len(sources), skipped / retrieved)


def at_rates(mode: ModeSettings, rates: SkipRates | None) -> ModeSettings:
    """A mode that skips by chance at measured rates, where its own file names none."""
    if rates is None or mode.skip.rate or mode.skip.policy not in ("random", "hold"):
        return mode
    rate = rates.of_steps if mode.skip.policy == "hold" else rates.of_retrieved
    return replace(mode, skip=replace(mode.skip, rate=round(rate, 4)))
