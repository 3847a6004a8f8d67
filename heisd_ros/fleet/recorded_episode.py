"""What is kept of a successful episode: its verified steps, and a name for each."""

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
        uid: 32 hexadecimal digits, drawn once: who sends an episode twice stores it once.
        instruction: what the robot was told to do.
        entries: the steps; `episodes` of them holds `episode_number`.
    """

    uid: str
    instruction: str
    entries: Entries

    @property
    def ids(self) -> list[str]:
        """A name for each entry, the same on every machine and at every time."""
        return [f"{self.uid}-{step}" for step in self.entries.steps]

    def pack(self) -> bytes:
        """As bytes; keys in half precision, which is finer than the codes that are searched."""
        arrays = {name: getattr(self.entries, name).astype(c.disk) for name, c in COLUMNS.items()}
        about = json.dumps({"uid": self.uid, "instruction": self.instruction})
        buffer = io.BytesIO()
        np.savez(buffer, keys=self.entries.keys.astype("<f2"), about=np.array(about), **arrays)
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> RecordedEpisode:
        """From bytes that `pack` made.

        Raises:
            GrowthError: they are others.
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
    """The number of an episode among a database's: 31 bits of its name."""
    return int(uid[:8], 16) & 0x7FFF_FFFF
