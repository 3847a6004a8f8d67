"""The thread that talks to the fleet's server, so that no other thread waits for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from heisd_ros.errors import FleetError, HeisdError
from heisd_ros.fleet.episode_journal import Journal
from heisd_ros.fleet.recorded_episode import RecordedEpisode
from heisd_ros.instructions import normalise_instruction
from heisd_ros.retrieval.entries import Entries

State = Literal["connecting", "in touch", "away"]
MAX_ENTRIES = 20_000
"""Greatest number of entries in a fetched shard: exhaustive search is fast enough up to here."""
_PERIOD_SEC, _FIRST_RETRY_SEC, _LAST_RETRY_SEC, _ASK_AGAIN_SEC = 5.0, 1.0, 60.0, 60.0
"""Time between pings; between attempts to connect, doubling; and between requests for a shard that
the server did not have."""


class RemoteStore(Protocol):
    """A server of the fleet, such as `milvus.MilvusStore`."""

    def ping(self) -> None:
        """Checks that the server answers; raises FleetError if not."""
        ...

    def send(self, episode: RecordedEpisode) -> None:
        """Stores an episode; sending it again has no effect."""
        ...

    def fetch(self, instruction: str, most: int) -> Entries | None:
        """Returns up to `most` entries of a task; None if there are none."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


@dataclass(frozen=True)
class LinkStatus:
    """The state of the connection to the server.

    Attributes:
        state: whether the server answers.
        since: steady time at which that state began, s.
        sent: episodes that were sent to it in this run.
        waiting: episodes in the journal that it does not have yet.
        fetched: entries that were fetched from it in this run.
        problem: why it is away, or what did not fit; empty while all is well.
    """

    state: State
    since: float
    sent: int = 0
    waiting: int = 0
    fetched: int = 0
    problem: str = ""


class FleetLink:
    """Sends the episodes of the journal, oldest first, and fetches shards on request.

    Args:
        receiver: names the server and the collection in the journal's marks.
        connect: opens a connection; it may take long, and may raise.
        journal: journal of the episodes to send; None: nothing is sent.
        take: called with each fetched shard; returns how many of its entries were taken, and may
            refuse it by raising a HeisdError.
        retry_sec: pause after the first failure; it doubles up to a minute.
    """

    def __init__(
        self,
        receiver: str,
        connect: Callable[[], RemoteStore],
        journal: Journal | None,
        take: Callable[[str, Entries], int],
        retry_sec: float = _FIRST_RETRY_SEC,
    ) -> None:
        self._receiver, self._connect = receiver, connect
        self._journal, self._take, self._retry_sec = journal, take, retry_sec
        self._store: RemoteStore | None = None
        self._wanted: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._done = 0 if journal is None else journal.records - self._left(journal)
        self._status = LinkStatus("connecting", time.monotonic())
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._thread.start()

    @property
    def status(self) -> LinkStatus:
        """The current state of the connection."""
        waiting = 0 if self._journal is None else self._journal.records - self._done
        return replace(self._status, waiting=waiting)

    def wake(self) -> None:
        """Tells the thread that there is something to send."""
        self._wake.set()

    def want(self, instruction: str) -> None:
        """Requests a task's shard; it is delivered to `take` later."""
        name = normalise_instruction(instruction)
        since = self._asked.get(name)
        if since is None or time.monotonic() - since > _ASK_AGAIN_SEC:
            self._asked[name] = time.monotonic()
            self._wanted[name] = instruction
            self._wake.set()

    def close(self, timeout_sec: float = 2.0) -> bool:
        """Ends the thread; unsent episodes stay in the journal.

        Returns:
            whether the thread ended in time; one that waits for the network is abandoned.
        """
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = self._retry_sec
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._work()
            except Exception as error:  # the thread survives whatever a client raises
                self._lose(error)
                # Waking does not shorten the pause: an absent server is not tried every episode.
                self._stopping.wait(pause)
                pause = min(2.0 * pause, _LAST_RETRY_SEC)
            else:
                pause = self._retry_sec
                self._wake.wait(_PERIOD_SEC)
        if self._store is not None:
            self._hang_up(self._store)

    def _work(self) -> None:
        if self._store is None:
            self._store = self._connect()
        self._store.ping()
        if self._status.state != "in touch":
            self._set(state="in touch", since=time.monotonic(), problem="")
        self._send(self._store)
        self._fetch(self._store)

    def _send(self, store: RemoteStore) -> None:
        if self._journal is None:
            return
        for place, record in self._journal.read(self._journal.sent(self._receiver)):
            store.send(RecordedEpisode.unpack(record))
            self._journal.mark_sent(self._receiver, place)
            self._done += 1
            self._set(sent=self._status.sent + 1)
            if self._stopping.is_set():
                return

    def _fetch(self, store: RemoteStore) -> None:
        for name, instruction in list(self._wanted.items()):
            entries = store.fetch(instruction, MAX_ENTRIES)
            self._wanted.pop(name, None)
            if entries is None:
                continue
            try:
                taken = self._take(instruction, entries)
            except HeisdError as error:
                self._set(problem=f"a shard of the fleet was refused: {error}")
            else:
                self._set(fetched=self._status.fetched + taken)

    def _lose(self, error: Exception) -> None:
        store, self._store = self._store, None
        if store is not None:
            self._hang_up(store)
        text = str(error) if isinstance(error, HeisdError) else f"{type(error).__name__}: {error}"
        since = self._status.since if self._status.state == "away" else time.monotonic()
        self._set(state="away", since=since, problem=text)

    def _hang_up(self, store: RemoteStore) -> None:
        with contextlib.suppress(FleetError):  # the connection is closed in any case
            store.close()

    def _left(self, journal: Journal) -> int:
        """Counts the episodes that the server did not have when this run began."""
        return sum(1 for _ in journal.read(journal.sent(self._receiver)))

    def _set(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]
