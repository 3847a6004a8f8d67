"""Recorded episodes in SQLite, whole after a crash, a power cut and a full disk."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from heisd_ros.errors import GrowthError
from heisd_ros.files.atomic import sync
from heisd_ros.fleet.layout import Layout

FILE, OLD_FILE = "episodes.sqlite", "episodes.journal"
_TABLES = (
    "CREATE TABLE layout (text TEXT NOT NULL)",
    "CREATE TABLE episodes (place INTEGER PRIMARY KEY, checksum INTEGER, payload BLOB NOT NULL)",
    "CREATE TABLE sent (receiver TEXT PRIMARY KEY, place INTEGER NOT NULL)",
)
_ADD = "INSERT INTO episodes (checksum, payload) SELECT ?1, ?2"
_OLD_MAGIC = b"HEISDJ1\n"


class Journal(contextlib.AbstractContextManager["Journal"]):
    """Recorded episodes, oldest first, each at a place above 0; one process at a time.

    Attributes:
        path: the file.
        records: episodes in it.
        torn_bytes: of a journal of the format before that were no whole episode.

    Args:
        folder: where it lies; made where it is not there.
        layout: of the episodes.

    Raises:
        GrowthError: it is another layout's, damaged, in use, or the folder cannot be written.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.path = folder / FILE
        self.torn_bytes = 0
        self._lock = threading.Lock()
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
        try:
            with self._named():
                self._take_over(layout)
            self.records = sum(1 for _ in self.read(0))
        except BaseException:
            self._database.close()
            raise

    def __exit__(self, *error: object) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file; another process may have it then."""
        with self._lock:
            self._database.close()

    def append(self, payload: bytes) -> None:
        """Adds an episode; it is on the disk when this returns.

        Raises:
            GrowthError: it could not be written; the journal is as before.
        """
        self._execute(_ADD, zlib.crc32(payload), payload)
        self.records += 1

    def read(self, place: int) -> Iterator[tuple[int, bytes]]:
        """Episodes behind a place, each with its own.

        Args:
            place: that of an episode, or 0.

        Raises:
            GrowthError: one is damaged.
        """
        while rows := self._execute(
            "SELECT * FROM episodes WHERE place > ? ORDER BY place LIMIT 1", place
        ):
            ((place, checksum, payload),) = rows
            if zlib.crc32(payload) != checksum:
                raise GrowthError(f"the journal {self.path} is damaged: episode {place}")
            yield place, payload

    def sent(self, receiver: str) -> int:
        """The place up to which a receiver has every episode; 0 for one that is new."""
        rows = self._execute("SELECT place FROM sent WHERE receiver = ?", receiver)
        return rows[0][0] if rows else 0

    def mark_sent(self, receiver: str, place: int) -> None:
        """Keeps how far a receiver has every episode."""
        self._execute("INSERT OR REPLACE INTO sent VALUES (?, ?)", receiver, place)

    def _execute(self, statement: str, *values: object) -> list[tuple]:
        with self._lock, self._named():
            return self._database.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Makes every failure a GrowthError that names the journal."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            # SQLite's own words: Python 3.10 has no error codes.
            said, problem = str(error), f"cannot be used: {error}"
            if "is locked" in said:
                problem = "is in use by another process; give each its own folder"
            elif "not a database" in said:
                problem = "is no journal; name another folder"
            elif "malformed" in said:
                problem = f"is damaged: {error}; move it away to begin a new one"
            raise GrowthError(f"the journal {self.path} {problem}") from error

    def _take_over(self, layout: Layout) -> None:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            self._database.execute(f"PRAGMA {pragma}")
        old = self.path.with_name(OLD_FILE)
        with self._database:
            self._database.execute("BEGIN EXCLUSIVE")
            if not self._database.execute("SELECT * FROM sqlite_master").fetchall():
                for table in _TABLES:
                    self._database.execute(table)
                self._database.execute("INSERT INTO layout VALUES (?)", (layout.to_json(),))
            ((text,),) = self._database.execute("SELECT * FROM layout")
            _check(self.path, text, layout)
            if old.exists():
                self._import(old, layout)
        sync(self.path.parent)  # the file's name, too, has to survive
        if old.exists():
            old.rename(old.with_name(f"imported-{old.stat().st_mtime_ns}.journal"))

    def _import(self, old: Path, layout: Layout) -> None:
        """Takes over a journal of the format before, whose first payload is the layout."""
        end, size = 0, old.stat().st_size
        with old.open("rb") as file:
            if not _OLD_MAGIC.startswith(file.read(len(_OLD_MAGIC)).rstrip(b"\0")):
                raise GrowthError(f"{old} is no journal; name another folder")
            while len(head := file.read(8)) == 8:
                length, checksum = struct.unpack("<II", head)
                payload = file.read(min(length, size))
                if len(payload) < length or not length or zlib.crc32(payload) != checksum:
                    break
                if end:
                    # A crash may have come after this and before the file was renamed.
                    self._database.execute(
                        f"{_ADD} WHERE NOT EXISTS (SELECT * FROM episodes "
                        "WHERE checksum = ?1 AND payload = ?2)",
                        (checksum, payload),
                    )
                else:
                    _check(old, payload.decode(errors="replace"), layout)
                end = file.tell()
        self.torn_bytes = max(size - max(end, len(_OLD_MAGIC)), 0)


def _check(path: Path, text: str, layout: Layout) -> None:
    try:
        difference = Layout.from_json(text).difference(layout)
    except ValueError as error:
        raise GrowthError(f"the journal {path} is damaged: {error}") from error
    if difference:
        raise GrowthError(
            f"the journal {path} holds episodes of {difference}; name another folder for this model"
        )
