"""An append-only file of episodes that survives a power cut, a full disk and a torn last record.

    MAGIC, then records: length (uint32), CRC-32 of the payload (uint32), payload

The first payload is the layout. A record counts once it is on the disk (fsync) whole; what a crash
left of one at the end is moved to a file of its own at the next start.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from heisd_ros.errors import GrowthError
from heisd_ros.fleet.layout import Layout

FILE, SENT = "episodes.journal", "sent.json"
MAGIC = b"HEISDJ1\n"
_HEAD = struct.Struct("<II")


class Journal:
    """Recorded episodes, oldest first; one process at a time.

    Attributes:
        path: the file.
        records: episodes in it.
        torn_bytes: of an unfinished record that was moved away when it was opened.

    Args:
        folder: where it lies; made where it is not there.
        layout: of the episodes.

    Raises:
        GrowthError: it is another layout's, damaged, in use, or the folder cannot be written.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.path = folder / FILE
        self.records, self.torn_bytes = 0, 0
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise GrowthError(f"the journal {self.path} cannot be opened: {error}") from error
        try:
            self._take_over(layout)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file; another process may have it then."""
        os.close(self._file)

    @property
    def begin(self) -> int:
        """Where the first episode lies."""
        return self._begin

    @property
    def end(self) -> int:
        """Where the next record will lie."""
        return self._end

    def append(self, payload: bytes) -> None:
        """Adds an episode; it is on the disk when this returns.

        Raises:
            OSError: it could not be written; the journal is as before.
        """
        with self._lock:
            self._write(payload)
            self.records += 1

    def read(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Episodes from a place on, each with the place behind it.

        Args:
            start: `begin`, or a place behind an episode.

        Raises:
            GrowthError: the file was damaged since it was opened.
        """
        while start < self._end:
            record = self._record_at(start)
            if record is None:
                raise GrowthError(f"{self.path} is damaged at byte {start}")
            start += _HEAD.size + len(record)
            yield start, record

    def sent(self, receiver: str) -> int:
        """How far a receiver has it all; `begin` for one that is new.

        What is forgotten of this is sent again, and stored once.
        """
        place = self._marks().get(receiver)
        if isinstance(place, int) and self._begin <= place <= self._end:
            return place
        return self._begin

    def mark_sent(self, receiver: str, place: int) -> None:
        """Keeps how far a receiver has it all."""
        path = self.path.with_name(SENT)
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self._marks() | {receiver: place}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def _marks(self) -> dict[str, int]:
        try:
            marks = json.loads(self.path.with_name(SENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return marks if isinstance(marks, dict) else {}

    def _take_over(self, layout: Layout) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GrowthError(
                f"the journal {self.path} is in use by another process; give each its own folder"
            ) from error
        size = os.fstat(self._file).st_size
        if size < len(MAGIC) + _HEAD.size or not any(os.pread(self._file, size, len(MAGIC))):
            # New, or torn before there was anything in it; a length before its data reads as zeros.
            if not MAGIC.startswith(os.pread(self._file, len(MAGIC), 0).rstrip(b"\0")):
                raise GrowthError(f"{self.path} is no journal; name another folder")
            self._start(layout)
            return
        if os.pread(self._file, len(MAGIC), 0) != MAGIC:
            raise GrowthError(f"{self.path} is no journal; name another folder")
        self._scan(size, layout)

    def _start(self, layout: Layout) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, MAGIC, 0)
        self._end = len(MAGIC)
        self._write(layout.to_json().encode())
        self._begin = self._end
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)  # the file's name, too, has to survive
        os.close(folder)

    def _scan(self, size: int, layout: Layout) -> None:
        self._end = size
        place, count = len(MAGIC), 0
        while place < size:
            record = self._record_at(place)
            if record is None:
                break
            if count == 0:
                self._check(record, layout)
                self._begin = place + _HEAD.size + len(record)
            place += _HEAD.size + len(record)
            count += 1
        if place < size and not self._torn(place, size):
            raise GrowthError(
                f"{self.path} is damaged at byte {place}; the {max(count - 1, 0)} episodes before "
                "are whole. Move it away to begin a new one"
            )
        self.torn_bytes = size - place
        if self.torn_bytes:
            # Kept beside it: if it was no torn record after all, somebody can still look.
            torn = self.path.with_name(f"torn-{place}")
            torn.write_bytes(os.pread(self._file, self.torn_bytes, place))
            os.ftruncate(self._file, place)
            os.fsync(self._file)
        self._end = place
        if count == 0:
            self._start(layout)
        self.records = max(count - 1, 0)

    def _torn(self, place: int, size: int) -> bool:
        """Whether what lies there is a record that a crash left unfinished, the last one.

        A file may have its new length before its data: then the end is zeros.
        """
        head = os.pread(self._file, _HEAD.size, place)
        if len(head) < _HEAD.size or place + _HEAD.size + _HEAD.unpack(head)[0] >= size:
            return True
        return not any(os.pread(self._file, size - place, place))

    def _check(self, record: bytes, layout: Layout) -> None:
        try:
            own = Layout.from_json(record.decode())
        except ValueError as error:
            raise GrowthError(f"{self.path} is damaged: {error}") from error
        difference = own.difference(layout)
        if difference:
            raise GrowthError(
                f"the journal {self.path} holds episodes of {difference}; name another folder for "
                "this model"
            )

    def _record_at(self, place: int) -> bytes | None:
        """The payload that lies there; None where none is whole."""
        head = os.pread(self._file, _HEAD.size, place)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        if length == 0 or place + _HEAD.size + length > self._end:
            return None
        payload = os.pread(self._file, length, place + _HEAD.size)
        return payload if len(payload) == length and zlib.crc32(payload) == checksum else None

    def _write(self, payload: bytes) -> None:
        record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = 0
            while written < len(record):
                written += os.pwrite(self._file, record[written:], self._end + written)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(record)
