"""The record of a successful episode: its verified steps, and a name for each."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, fields

import numpy as np

from heisd_ros.errors import DatabaseError, GrowthError
from heisd_ros.retrieval.entries import COLUMNS, Entries


@dataclass(frozen=True)
class RecordedEpisode:
    """Verified steps of one successful episode.

    Attributes:
        uid: 32 hexadecimal digits, drawn once: an episode that is sent twice is stored once.
        instruction: the task.
        entries: the steps; their `episodes` hold the `episode_number`.
    """

    uid: str
    instruction: str
    entries: Entries

    @property
    def ids(self) -> list[str]:
        """Returns a name for each entry, which is the same on every machine and at any time."""
        return [f"{self.uid}-{step}" for step in self.entries.steps]

    def pack(self) -> bytes:
        """Packs the episode into bytes; keys in half precision, finer than the codes searched."""
        arrays = {name: getattr(self.entries, name).astype(c.disk) for name, c in COLUMNS.items()}
        about = json.dumps({"uid": self.uid, "instruction": self.instruction})
        buffer = io.BytesIO()
        np.savez(buffer, keys=self.entries.keys.astype("<f2"), about=np.array(about), **arrays)
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> RecordedEpisode:
        """Reads bytes that `pack` made.

        Raises:
            GrowthError: they are not such bytes.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                values = {entry.name: arrays[entry.name] for entry in fields(Entries)}
            keys = values["keys"].astype(np.float32)
            values["keys"] = keys / np.linalg.norm(keys, axis=1, keepdims=True)
            return cls(about["uid"], about["instruction"], Entries(**values))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise GrowthError(f"no recorded episode: {error!r}") from error
        except DatabaseError as error:
            raise GrowthError(f"no recorded episode: {error!r}") from error


def episode_number(uid: str) -> int:
    """Returns the number of an episode in a database: 31 bits of its uid."""
    return int(uid[:8], 16) & 0x7FFF_FFFF
