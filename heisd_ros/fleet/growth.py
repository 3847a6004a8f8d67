"""What a robot keeps of its successes: journal first, then its own searches, then the fleet.

The control loop hands over steps and goes on: files are written in one thread, the network is
waited for in another.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import GrowthError, HeisdError
from heisd_ros.fleet.episode import RecordedEpisode
from heisd_ros.fleet.journal import Journal
from heisd_ros.fleet.layout import Layout
from heisd_ros.fleet.link import FleetLink, LinkStatus, RemoteStore
from heisd_ros.fleet.recorder import EpisodeRecorder, Verified
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.growing import GrowingStore

_CLOSE_SEC = 5.0


@dataclass(frozen=True)
class GrowthStatus:
    """What was kept.

    Attributes:
        episodes: in the journal.
        added: entries that searches find beside the database's own.
        problem: why something was not kept or not added; empty while all is well.
        link: how things stand with the server; None without one.
    """

    episodes: int
    added: int
    problem: str
    link: LinkStatus | None


class OnlineGrowth:
    """Records successful episodes.

    Args:
        store: what the robot searches.
        folder: of the journal; None: nothing is recorded, and shards only come from the fleet.
        append: whether searches are to find what was recorded.
        receiver: names the server in the journal's marks; empty: there is none.
        connect: makes the connection to it.

    Raises:
        GrowthError: entries are to be appended while a calibration is in force, or the journal
            cannot be used.
    """

    def __init__(
        self,
        store: GrowingStore,
        folder: Path | None,
        *,
        append: bool = False,
        receiver: str = "",
        connect: Callable[[], RemoteStore] | None = None,
    ) -> None:
        if append and store.frozen:
            raise GrowthError(f"the database may not grow: {store.frozen}")
        self.store, self._append = store, append
        self.recorder = EpisodeRecorder()
        self._problem = ""
        self._unwritten: list[RecordedEpisode] = []
        layout = Layout.of(store.database.manifest)
        self._journal = None if folder is None else Journal(folder, layout)
        if self._journal is not None:
            if self._journal.torn_bytes:
                self._problem = (
                    f"{self._journal.torn_bytes} bytes of a journal of the format before, kept "
                    f"beside {self._journal.path}, are no whole episode"
                )
            if append:
                self._replay(self._journal)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._link: FleetLink | None = None
        if connect is not None:
            self._link = FleetLink(receiver, connect, self._journal, self._take)
            store.missing = self._link.want

    @property
    def records(self) -> bool:
        """Whether steps are kept."""
        return self._journal is not None

    @property
    def status(self) -> GrowthStatus:
        """What was kept so far."""
        return GrowthStatus(
            episodes=0 if self._journal is None else self._journal.records,
            added=self.store.added,
            problem=self._problem,
            link=None if self._link is None else self._link.status,
        )

    def note(
        self, instruction: str, action: NDArray[np.floating], verified: Verified | None
    ) -> None:
        """Takes a control step; as `EpisodeRecorder.note`."""
        if self.records:
            self.recorder.note(instruction, action, verified)

    def end(self, success: bool) -> None:
        """Ends the episode: a success is kept, soon; returns at once."""
        if not success or not self.records:
            self.recorder.drop()
            return
        episode = self.recorder.finish()
        if episode is not None:
            self._writer.submit(self._keep, episode)

    def close(self) -> None:
        """Writes what is still to be written, and ends the threads."""
        self._writer.shutdown(wait=True)
        ended = self._link is None or self._link.close(_CLOSE_SEC)
        # A thread that was left behind may still read the journal; its process ends soon.
        if self._journal is not None and ended:
            self._journal.close()

    def _keep(self, episode: RecordedEpisode) -> None:
        self._unwritten.append(episode)
        while self._unwritten and self._journal is not None:
            try:
                self._journal.append(self._unwritten[0].pack())
            except GrowthError as error:
                self._problem = f"{len(self._unwritten)} episodes wait in memory: {error}"
                return
            self._problem = ""
            self._add(self._unwritten.pop(0))
            if self._link is not None:
                self._link.wake()

    def _add(self, episode: RecordedEpisode) -> None:
        if self._append:
            try:
                self.store.add(episode.instruction, episode.entries)
            except HeisdError as error:
                self._problem = f"an episode was recorded, but not added: {error}"

    def _replay(self, journal: Journal) -> None:
        for _, record in journal.read(0):
            self._add(RecordedEpisode.unpack(record))

    def _take(self, instruction: str, entries: Entries) -> None:
        """Takes a shard of the fleet, unless the robot has one by now."""
        if self.store.holds(instruction):
            return
        self.store.add(instruction, entries)


def frozen_by_calibration(database: Database, created: str, mode: str) -> str:
    """Why the shards of a database may not grow.

    Args:
        database: whose calibration is in force.
        created: when it was made.
        mode: what skips by it.
    """
    return (
        f"the calibration of {created} of {database.folder} is in force in mode {mode!r}, and its "
        "bound holds for the entries that it was made with; record only, choose a mode that does "
        "not skip by it, or remove calibration.json"
    )
