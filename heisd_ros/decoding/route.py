"""Which proposer a control step is routed to."""

from __future__ import annotations

from typing import NamedTuple

from heisd_ros.decoding.types import Source
from heisd_ros.retrieval.database import SearchableShard


class Route(NamedTuple):
    """Which proposer a step is routed to.

    Attributes:
        source: the proposer's source; without such a proposer the model decodes by itself.
        reason: explanation for the telemetry.
        shard: the shard that is searched for the step; None: none is.
        how: how the shard was found.
        chance: that the proposer's draft passes; None without a predictor.
    """

    source: Source
    reason: str
    shard: SearchableShard | None = None
    how: str = ""
    chance: float | None = None
