"""Selects the recorded episodes of a database; checks that they fit the model and each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from heisd_ros.data.source import Item, Source
from heisd_ros.errors import DatabaseError, HeisdError
from heisd_ros.kinematics.proprio import STATE_SIZES
from heisd_ros.vla.token_model import TokenModel


def check_sources(vla: TokenModel, sources: Sequence[Source], control_rate_hz: float) -> str:
    """Checks that sources fit a model and each other.

    Returns:
        The robot.

    Raises:
        DatabaseError: they don't; the message names what differs and what is accepted.
    """
    if vla.spec.proprio_size not in (0, *STATE_SIZES.values()):
        raise DatabaseError(
            f"the model takes {vla.spec.proprio_size} numbers of proprioception, demonstrations "
            f"give {' or '.join(map(str, STATE_SIZES.values()))}"
        )
    return robot_of(sources, control_rate_hz, DatabaseError)


def robot_of(sources: Sequence[Source], control_rate_hz: float, refusal: type[HeisdError]) -> str:
    """Returns the one robot that sources are of.

    Args:
        sources: The sources.
        control_rate_hz: The model's, which they have to have unless they name none; 0: any.
        refusal: What is raised if there are several robots, or another rate.
    """
    robots = sorted({source.robot for source in sources})
    if len(robots) != 1:
        raise refusal(f"the sources are of the robots {robots}; accepted: one")
    for source in sources:
        if control_rate_hz and source.rate_hz not in (0.0, control_rate_hz):
            raise refusal(
                f"{source.label} has {source.rate_hz:g} steps a second, the model "
                f"{control_rate_hz:g}: its actions are not those of one control step"
            )
    return robots[0]


def choose_items(sources: Sequence[Source], states: Collection[int]) -> Iterator[Item]:
    """Yields the episodes of the given initial states, and those that name none.

    Raises:
        DatabaseError: There is none, or a source is not fit for a database.
    """
    found = False
    for source in sources:
        outlines = source.outline()
        if source.report.unusable:
            raise DatabaseError(f"{source.label}: {source.report.unusable}")
        for place, outline in enumerate(outlines):
            if outline.init_state is None or outline.init_state in states:
                found = True
                yield Item(source, place, outline)
            else:
                source.report.dropped["episode of an initial state that is not requested"] += 1
    if not found:
        raise DatabaseError(
            f"{sorted({source.label for source in sources})} have no episode of the initial states "
            f"{ranges(states)}; record more with `heisd demos`, or ask for other states"
        )


def plan_of(items: Sequence[Item]) -> list[Any]:
    """Returns the inputs of a build as JSON values, for the journal."""
    return [[i.source.label, i.place, i.outline.instruction, i.outline.steps] for i in items]


def ranges(states: Collection[int]) -> str:
    """Writes numbers as ranges: 0, 1, 2, 5 becomes `0-2,5`."""
    runs: list[list[int]] = []
    for state in sorted(states):
        if runs and state == runs[-1][1] + 1:
            runs[-1][1] = state
        else:
            runs.append([state, state])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
