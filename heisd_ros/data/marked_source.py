"""Those episodes of a source that somebody reported as good, or corrected."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from heisd_ros.data.episode import Episode
from heisd_ros.data.read_report import Outline
from heisd_ros.data.source import Prepare, Source, whole
from heisd_ros.errors import DemonstrationError

MARKS = ("success", "corrected")
"""Marks that episodes can be chosen by: reported as a success; a person had the arm for a while."""


class MarkedSource:
    """A `Source`: the episodes of another one that have at least one of some marks.

    Raises:
        ValueError: A mark is unknown.
    """

    def __init__(self, source: Source, only: Collection[str]) -> None:
        for mark in only:
            if mark not in MARKS:
                raise ValueError(f"--only is {mark!r}; accepted: {' or '.join(map(repr, MARKS))}")
        self._source, self._only = source, frozenset(only)
        self._places: list[int] | None = None
        self.label, self.robot, self.arm = source.label, source.robot, source.arm
        self.cameras, self.rate_hz = source.cameras, source.rate_hz
        self.report = source.report

    def outline(self) -> list[Outline]:
        """See `Source`."""
        outlines = self._source.outline()
        self.report = self._source.report
        self._places = [place for place, each in enumerate(outlines) if self._takes(each)]
        left_out = len(outlines) - len(self._places)
        if left_out:
            asked = " or ".join(sorted(self._only))
            self.report.dropped[f"episode that is not marked as {asked}"] = left_out
        return [outlines[place] for place in self._places]

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """See `Source`."""
        if self._places is None:
            self.outline()
        assert self._places is not None, "outlined"
        return self._source.episode(self._places[number], views, prepare)

    def _takes(self, outline: Outline) -> bool:
        marks = {outline.outcome} | ({"corrected"} if outline.person_steps else set())
        return bool(marks & self._only)


def only_marked(sources: Sequence[Source], only: Collection[str]) -> list[Source]:
    """Returns the sources with their marked episodes alone.

    Args:
        sources: The sources.
        only: The marks, of `MARKS`; none: every episode.

    Raises:
        ValueError: A mark is unknown.
        DemonstrationError: No episode has one of the marks.
    """
    if not only:
        return list(sources)
    marked: list[Source] = [MarkedSource(source, only) for source in sources]
    if not any(source.outline() for source in marked):
        raise DemonstrationError(
            f"{sorted({source.label for source in sources})} have no episode that is marked as "
            f"{' or '.join(sorted(only))}; `heisd data inspect` shows their marks"
        )
    return marked
