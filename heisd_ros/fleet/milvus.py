"""Entries of a fleet on a Milvus server: robots send them, and robots that lack a task fetch them.

One collection holds the frames of one `Layout`. A row is an entry, and its primary key is the
entry's name, so an entry that is sent twice is stored once. The task's hash is the partition key,
so a fetch reads only that partition. One row of the collection holds the layout.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError, FleetError
from heisd_ros.fleet.collection_layout import Layout
from heisd_ros.fleet.recorded_episode import RecordedEpisode
from heisd_ros.instructions import normalise_instruction
from heisd_ros.retrieval.entries import COLUMNS, Entries, joined

TIMEOUT_SEC = 10.0
"""Timeout of a call; only the link's thread waits for it."""
_LAYOUT = "layout"
_BATCH = 200
"""Rows in a message: about 5 MB with keys of 4352 numbers; a server accepts 64 MB."""

_ONE_PROCESS = (
    "; another process may have it open, or it is none of Milvus Lite's: one file serves one "
    "process, and robots that share a database share a server, 'fleet.uri' http://HOST:19530"
)

P = ParamSpec("P")
R = TypeVar("R")


def _named(
    call: Callable[Concatenate[MilvusStore, P], R],
) -> Callable[Concatenate[MilvusStore, P], R]:
    """Turns every failure of the client library into a FleetError that names the server."""

    @wraps(call)
    def named(self: MilvusStore, *args: P.args, **kwargs: P.kwargs) -> R:
        from pymilvus.exceptions import MilvusException

        try:
            return call(self, *args, **kwargs)
        except MilvusException as error:
            locked = "" if "://" in self.uri else _ONE_PROCESS
            raise FleetError(f"{self.uri}: {error.message}{locked}") from error

    return named


def check_installed() -> None:
    """Imports the client library, which takes a second or two.

    Raises:
        FleetError: it is not installed.
    """
    try:
        import pymilvus  # noqa: F401
    except ImportError as error:
        raise FleetError(
            f"a fleet needs pymilvus ({error}); pip install 'heisd_ros[fleet]'"
        ) from error
    # The library logs every failure with a traceback. We report failures ourselves, and they
    # repeat while a server is away.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


class MilvusStore:
    """The frames of a fleet on a Milvus server.

    Args:
        uri: URI of the server, ``http://host:19530``, or a file's path for the embedded server.
        layout: layout of this robot's frames.
        collection: name of the collection.
        token: ``user:password`` or an API key; empty: none.

    Raises:
        FleetError: the server cannot be reached, or the collection holds frames of another layout.
    """

    def __init__(
        self, uri: str, layout: Layout, collection: str = "heisd", token: str = ""
    ) -> None:
        check_installed()
        self.uri, self.layout, self.collection = uri, layout, collection
        self._connect(token)
        self._take_over()

    @_named
    def _connect(self, token: str) -> None:
        from pymilvus import MilvusClient

        self._client = MilvusClient(uri=self.uri, token=token, timeout=TIMEOUT_SEC)

    @_named
    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    @_named
    def ping(self) -> None:
        """Checks that the server answers.

        Raises:
            FleetError: it does not.
        """
        self._client.has_collection(self.collection, timeout=TIMEOUT_SEC)

    @_named
    def send(self, episode: RecordedEpisode) -> None:
        """Stores an episode; one that is stored already stays unchanged.

        Raises:
            FleetError: it could not be stored completely.
        """
        rows = [
            {
                "id": name,
                "shard": shard_id(episode.instruction),
                "key": episode.entries.keys[row].tolist(),
                "payload": {
                    "instruction": episode.instruction,
                    **{column: _plain(episode.entries, column, row) for column in COLUMNS},
                },
            }
            for row, name in enumerate(episode.ids)
        ]
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            self._client.upsert(self.collection, batch, timeout=TIMEOUT_SEC)

    @_named
    def fetch(self, instruction: str, most: int) -> Entries | None:
        """Fetches entries of a task, ordered by episode and step; None if there are none.

        Args:
            instruction: the task.
            most: greatest number of entries.

        Raises:
            FleetError: the server is away, or its rows are not entries of this layout.
        """
        keys, payloads = [], []
        # Row by row: an array of many lists is made without giving other threads a turn.
        for row in self._rows(instruction, most):
            keys.append(np.array(row["key"], dtype=np.float32))
            payloads.append(row["payload"])
        return self._entries(np.array(keys), payloads) if keys else None

    @_named
    def _take_over(self) -> None:
        from pymilvus import DataType, MilvusClient

        if not self._client.has_collection(self.collection, timeout=TIMEOUT_SEC):
            schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            schema.add_field("shard", DataType.VARCHAR, max_length=32, is_partition_key=True)
            schema.add_field("key", DataType.FLOAT_VECTOR, dim=self.layout.size)
            schema.add_field("payload", DataType.JSON)
            index = self._client.prepare_index_params()
            index.add_index("key", index_type="AUTOINDEX", metric_type="COSINE")
            self._client.create_collection(
                self.collection, schema=schema, index_params=index, timeout=TIMEOUT_SEC
            )
        # After a restart of the server the collection is on its disk but not yet in memory.
        self._client.load_collection(self.collection, timeout=TIMEOUT_SEC)
        rows = self._client.query(
            self.collection,
            filter=f'id == "{_LAYOUT}"',
            output_fields=["payload"],
            timeout=TIMEOUT_SEC,
        )
        if rows:
            self._check(rows[0]["payload"])
            return
        first = [1.0] + [0.0] * (self._dim() - 1)
        about = {
            "id": _LAYOUT,
            "shard": _LAYOUT,
            "key": first,
            "payload": {_LAYOUT: self.layout.to_json()},
        }
        self._client.upsert(self.collection, [about], timeout=TIMEOUT_SEC)

    def _dim(self) -> int:
        """Returns the size of keys in the collection, which others may have created."""
        about = self._client.describe_collection(self.collection, timeout=TIMEOUT_SEC)
        sizes = [f["params"].get("dim") for f in about["fields"] if f["name"] == "key"]
        if [int(size or 0) for size in sizes] != [self.layout.size]:
            raise FleetError(
                f"{self.uri}: collection {self.collection!r} has keys of {sizes} numbers, this "
                f"model's have {self.layout.size}; name another collection"
            )
        return self.layout.size

    def _check(self, payload: dict[str, Any]) -> None:
        try:
            own = Layout.from_json(payload[_LAYOUT])
        except (KeyError, ValueError) as error:
            raise FleetError(
                f"{self.uri}: collection {self.collection!r} is not one of ours: {error!r}"
            ) from error
        difference = own.difference(self.layout)
        if difference:
            raise FleetError(
                f"{self.uri}: collection {self.collection!r} holds frames of {difference}; name "
                "another collection for this model"
            )

    def _rows(self, instruction: str, most: int) -> Iterator[dict[str, Any]]:
        iterator = self._client.query_iterator(
            self.collection,
            filter=f'shard == "{shard_id(instruction)}"',
            output_fields=["key", "payload"],
            batch_size=_BATCH,
            limit=most,
            timeout=TIMEOUT_SEC,
        )
        try:
            while rows := iterator.next():
                yield from rows
        finally:
            iterator.close()

    def _entries(self, keys: NDArray[np.float32], payloads: Sequence[dict[str, Any]]) -> Entries:
        columns = self._columns(payloads)
        order = np.lexsort((columns["steps"], columns["episodes"]))
        lengths = np.linalg.norm(keys, axis=1)
        if not np.all(np.abs(lengths - 1.0) < 1e-2):  # false for NaN as well
            raise FleetError(f"{self.uri}: keys of length {lengths.min()}; accepted: 1")
        try:
            return Entries(
                keys=keys[order], **{name: array[order] for name, array in columns.items()}
            )
        except DatabaseError as error:
            raise FleetError(f"{self.uri}: {error}") from error

    def _columns(self, payloads: Sequence[dict[str, Any]]) -> dict[str, NDArray[Any]]:
        try:
            columns = {
                name: joined(name, [np.array([p[name]], dtype=c.disk) for p in payloads])
                for name, c in COLUMNS.items()
            }
            if columns["actions"].shape[1:] != (self.layout.numbers,):
                raise ValueError(f"actions of shape {columns['actions'].shape}")
            return columns
        except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
            raise FleetError(f"{self.uri}: a row is no entry: {error!r}") from error


def shard_id(instruction: str) -> str:
    """Returns a task's name on the server: letters and digits, whatever the instruction is."""
    return hashlib.sha256(normalise_instruction(instruction).encode()).hexdigest()[:32]


def _plain(entries: Entries, column: str, row: int) -> Any:
    return getattr(entries, column)[row].astype(COLUMNS[column].disk).tolist()
