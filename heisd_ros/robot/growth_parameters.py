"""Parameters of the VLA node that say what is kept of its work, and with whom it is shared."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.robot.declare import parameter


@dataclass(frozen=True)
class GrowthParameters:
    """What becomes of successful episodes, and where shards come from that are missing here."""

    growth_mode: str = parameter(
        "growth.mode",
        "off",
        "What becomes of the verified steps of an episode that ~/report_episode calls a success: "
        "nothing; a journal in growth.folder; or that, and they are searched from then on, which "
        "is refused while the decoding mode skips by a calibration.",
        choices=("off", "record", "append"),
    )
    growth_folder: str = parameter(
        "growth.folder", "", "Folder of the journal where growth.mode is not 'off'."
    )
    fleet_uri: str = parameter(
        "fleet.uri",
        "",
        "Milvus server that gets the journal and has shards of other robots, such as "
        "http://fleet:19530, or a file for an embedded one; the environment variable "
        "HEISD_FLEET_TOKEN holds its token; empty: no fleet.",
    )
    fleet_collection: str = parameter(
        "fleet.collection", "heisd", "Collection on that server: one for each model and robot."
    )
