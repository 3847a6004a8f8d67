"""The layout of a fleet's collection: which frames may be searched together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from heisd_ros.files.bounded import parse_json
from heisd_ros.files.typed import typed
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER, Manifest


@dataclass(frozen=True)
class Layout:
    """What two databases must have in common for their entries to be mixed.

    Attributes:
        model_fingerprint: `vla.checkpoint.fingerprint` of the model whose features and tokens they
            hold.
        statistics_key: name of the action statistics that its tokens stand for.
        robot: the arm.
        control_rate_hz: control steps a second, Hz.
        views: camera views, in order.
        towers: channels of each vision tower, in order.
        size: numbers in a key.
        numbers: numbers of an entry's actions.
    """

    model_fingerprint: str
    statistics_key: str
    robot: str
    control_rate_hz: float
    views: tuple[str, ...]
    towers: tuple[int, ...]
    size: int
    numbers: int = UNNAMED_ANSWER.numbers

    @classmethod
    def of(cls, manifest: Manifest) -> Layout:
        """Returns the layout of a database."""
        features = manifest.features
        return cls(
            model_fingerprint=manifest.model_fingerprint,
            statistics_key=manifest.statistics_key,
            robot=manifest.robot,
            control_rate_hz=manifest.control_rate_hz,
            views=features.views,
            towers=features.towers,
            size=features.size,
            numbers=manifest.answer.numbers,
        )

    def to_json(self) -> str:
        """Returns the layout as JSON, for `from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Reads text that `to_json` wrote.

        Raises:
            ValueError: the text is not such a layout.
        """
        values = typed(dict[str, Any], parse_json(text, "the layout"), "the layout")
        known = {entry.name for entry in fields(cls)}
        return typed(cls, {name: value for name, value in values.items() if name in known})

    def difference(self, other: Layout) -> str:
        """Returns the differences in words, ``size 24, not 16``; empty if both are equal."""
        pairs = [(e.name, getattr(self, e.name), getattr(other, e.name)) for e in fields(self)]
        return ", ".join(
            f"{name} {_short(own)}, not {_short(wanted)}"
            for name, own, wanted in pairs
            if own != wanted
        )


def _short(value: object) -> str:
    return f"{value[:12]!r}" if isinstance(value, str) else repr(value)
