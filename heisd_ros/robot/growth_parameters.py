"""Parameters of the VLA node for recording successful episodes and sharing them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.robot.declare import Parameters, parameter


@dataclass(frozen=True)
class GrowthParameters(Parameters):
    """Recording and use of successful episodes."""

    mode: str = parameter(
        "off",
        "What becomes of the verified steps of an episode that ~/report_episode calls a success: "
        "nothing; a journal in growth.folder; or that, and they are searched from then on, which "
        "is refused while the decoding mode skips by a calibration.",
        choices=("off", "record", "append"),
    )
    folder: str = parameter("", "Folder of the journal where growth.mode is not 'off'.")

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.mode != "off" and not self.folder:
            yield "folder", f"a folder, as 'growth.mode' is {self.mode!r}"


@dataclass(frozen=True)
class FleetParameters(Parameters):
    """The server that receives the journal and provides missing shards."""

    uri: str = parameter(
        "",
        "Milvus server that gets the journal and has shards of other robots, such as "
        "http://fleet:19530, or a file for an embedded one; the environment variable "
        "HEISD_FLEET_TOKEN holds its token; empty: no fleet.",
    )
    collection: str = parameter("heisd", "Collection on that server: one for each model and robot.")

    def _problems(self) -> Iterator[tuple[str, str]]:
        if not re.fullmatch(r"[A-Za-z_]\w{0,254}", self.collection, re.ASCII):
            yield "collection", "letters, digits and underscores, no digit first"
