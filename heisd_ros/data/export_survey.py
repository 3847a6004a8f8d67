"""What the sources of an export have in common, found before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from heisd_ros.data.export_columns import OPTIONAL, Columns, camera_features
from heisd_ros.data.lerobot_index import named
from heisd_ros.data.source import Item, Source
from heisd_ros.errors import DemonstrationError


@dataclass(frozen=True)
class Survey:
    """All episodes, and what is the same in each.

    Attributes:
        items: The episodes.
        columns: Their numbers.
        cameras: Features of their pictures.
        robot: Name of the robot.
        rate_hz: Control steps a second.
        stride: Control steps from a frame to the next.
    """

    items: list[Item]
    columns: Columns
    cameras: tuple[str, ...]
    robot: str
    rate_hz: float
    stride: int

    @property
    def fps(self) -> Fraction:
        """Frames a second."""
        return Fraction(self.rate_hz).limit_denominator(1001) / self.stride

    def plan(self) -> list[Any]:
        """Returns the episodes as JSON values."""
        return [
            [item.source.label, item.place, about.instruction, about.steps, about.outcome,
             about.person_steps]
            for item in self.items
            for about in [item.outline]
        ]  # fmt: skip


def survey(sources: Sequence[Source], left_out: Collection[str] = ()) -> Survey:
    """Reads all episodes without their pictures.

    Args:
        sources: Where they are.
        left_out: Fields of `OPTIONAL` that are not to be written.

    Raises:
        DemonstrationError: There is no episode, or they do not fit into one data set; names the
            first that differs from the first of all, and in what.
        HeisdError: A source cannot be read.
    """
    unknown = sorted(set(left_out) - set(OPTIONAL))
    if unknown:
        raise DemonstrationError(f"{unknown} cannot be left out; accepted: {sorted(OPTIONAL)}")
    items: list[Item] = []
    first: dict[str, Any] = {}
    for source in sources:
        outline = source.outline()
        if source.report.unusable:
            raise DemonstrationError(f"{source.label}: {source.report.unusable}")
        for place, about in enumerate(outline):
            name = f"{source.label}, episode {place}"
            with named(name):
                episode = source.episode(place, ())
                columns = Columns.of(episode, source.arm.joint_names, left_out)
                columns.values(episode)
                episode.instruction.encode()
            found = {
                "robot": source.robot,
                "cameras": tuple(camera_features(source.cameras)),
                "control steps a second": source.rate_hz,
                "control steps from a frame to the next": episode.stride,
                "joints": columns.joints,
                "optional numbers": columns.optional,
            }
            first = first or found
            for what, value in found.items():
                if value != first[what]:
                    raise DemonstrationError(
                        f"{name} has other {what} than {items[0].name}: {value}, not "
                        f"{first[what]}; accepted: the same in all (export it apart"
                        + (", or leave out what not all have)" if what[0] == "o" else ")")
                    )
            items.append(Item(source, place, about))
    if not items:
        labels = sorted({source.label for source in sources})
        raise DemonstrationError(f"{labels} hold no episode to export")
    if not first["control steps a second"] > 0.0:
        raise DemonstrationError(f"{items[0].name} has no control rate; name one with --rate-hz")
    return Survey(
        items=items,
        columns=columns,
        cameras=first["cameras"],
        robot=first["robot"],
        rate_hz=first["control steps a second"],
        stride=first["control steps from a frame to the next"],
    )
