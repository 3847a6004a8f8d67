"""Which of a checkpoint's action statistics bring its actions into robot units."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from heisd_ros.errors import UnknownStatisticsError


def chosen(
    names: Iterable[str],
    key: str | None,
    place: str | Path = "the checkpoint",
    *,
    any_statistics: bool = False,
) -> str:
    """Returns the name of the statistics in use.

    Args:
        names: those that there are.
        key: the wanted ones (None: the only ones).
        place: what holds them, for the message.
        any_statistics: take the first if the choice is ambiguous, for callers that do not act.

    Raises:
        UnknownStatisticsError: there are none of that name, or none or several without a name.
    """
    known = list(names)
    if key is None and known and (any_statistics or len(known) == 1):
        return known[0]
    if key is None or key not in known:
        asked = "no statistics key was chosen" if key is None else f"no statistics {key!r}"
        raise UnknownStatisticsError(f"{asked}; {place} has {sorted(known) or 'none'}")
    return key
