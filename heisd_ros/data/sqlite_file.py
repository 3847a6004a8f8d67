"""One SQLite file of a recording, including what its recorder left in SQLite's journal."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from heisd_ros.data.storage import LIMIT, Stored, definition
from heisd_ros.errors import BagError

_JOURNALS = ("-wal", "-journal")


class SqliteFile:
    """A `Storage`. A damaged file gives its rows in the order written, as far as they can be read.

    Raises:
        sqlite3.Error: It is no SQLite file, or its table of topics is damaged.
        BagError: Its tables are not those of a recorder.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.damage = path, ""
        self._topics: dict[int, Stored] = {}
        self.foreign: dict[str, str] = {}
        with closing(self._connect()) as database:
            self._take_topics(database)
            self.start = self._first(database)
            pages, size = (
                database.execute(f"PRAGMA page_{what}").fetchone()[0] for what in ("count", "size")
            )
        missing = pages * size - path.stat().st_size
        if missing > 0:
            self.damage = f"its last {missing} bytes are missing"
        self.connections = list(self._topics.values())

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """Yields messages in order of time, unless damaged; see `Storage.messages`."""
        wanted = [number for number, stored in self._topics.items() if stored.topic in topics]
        # An index may be damaged where the rows are not.
        source, order = ("messages NOT INDEXED", "id") if self.damage else ("messages", "timestamp")
        query = (
            f"SELECT topic_id, timestamp, data FROM {source} WHERE topic_id IN "
            f"({','.join('?' * len(wanted))}) AND timestamp >= ? AND timestamp < ? ORDER BY {order}"
        )
        with closing(self._connect()) as database:
            for topic, stamp, data in database.execute(query, (*wanted, start, stop)):
                yield self._topics[topic], stamp, bytes(data)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)
        if sys.version_info >= (3, 11):
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LIMIT)
        database.execute("PRAGMA trusted_schema = OFF")
        # Without it SQLite opens no file that is shorter than its header says.
        database.execute("PRAGMA writable_schema = ON")
        return database

    def _take_topics(self, database: sqlite3.Connection) -> None:
        tables = {
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        if not {"topics", "messages"} <= tables:
            raise BagError(f"its tables are {sorted(map(str, tables))}; accepted: a recorder's")
        definitions = {}
        if "message_definitions" in tables:
            query = (
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            )
            definitions = {kind: definition(*rest) for kind, *rest in database.execute(query)}
        query = "SELECT id, name, type, serialization_format FROM topics"
        for number, topic, kind, form in database.execute(query).fetchall():
            if not (isinstance(topic, str) and isinstance(kind, str)):
                raise BagError(f"its table of topics holds {topic!r}; accepted: text")
            if form != "cdr":
                self.foreign[topic] = str(form)
                continue
            known = definitions.get(kind) or definition("", "")
            self._topics[number] = Stored(topic, kind, known)

    def _first(self, database: sqlite3.Connection) -> int | None:
        """Returns when the first message was received, and detects damage of the file."""
        try:
            counted = "SELECT min(timestamp), max(timestamp), count(*) FROM messages"
            first = database.execute(counted).fetchone()[0]
        except sqlite3.Error as error:
            self.damage = str(error)
            written = "SELECT timestamp FROM messages NOT INDEXED ORDER BY id LIMIT 1"
            first = next(iter(database.execute(written)), (None,))[0]
        return first if isinstance(first, int) else None


def with_journal(path: Path, stack: ExitStack) -> Path:
    """Merges the journal that a killed recorder left into a copy of a SQLite file.

    Args:
        path: As in the bag; neither it nor its journal is changed.
        stack: Removes the copy when it is closed.

    Returns:
        A copy with the journal taken in; the file itself where it has none.

    Raises:
        OSError: There is no room for a copy, or a file cannot be read.
        sqlite3.Error: File and journal do not go together.
    """
    real = path.resolve()  # a journal is next to the file, not next to a link to it
    journals = [real.with_name(real.name + ending) for ending in _JOURNALS]
    journals = [journal for journal in journals if journal.is_file() and journal.stat().st_size]
    if not journals:
        return path
    folder = Path(stack.enter_context(TemporaryDirectory()))
    for file in (real, *journals):
        shutil.copyfile(file, folder / file.name)
    with closing(sqlite3.connect(folder / real.name)) as database:
        # Leaving the mode in which a journal is kept writes all of it into the file.
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return folder / real.name
