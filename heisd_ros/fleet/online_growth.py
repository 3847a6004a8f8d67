"""Online growth: successful episodes go to the journal, then the robot's searches, then the fleet.

The control loop hands over steps and never waits: one thread writes files, another uses the
network.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import GrowthError, HeisdError
from heisd_ros.fleet.collection_layout import Layout
from heisd_ros.fleet.episode_journal import Journal
from heisd_ros.fleet.episode_recorder import EpisodeRecorder, Verified
from heisd_ros.fleet.link import FleetLink, LinkStatus, RemoteStore
from heisd_ros.fleet.recorded_episode import RecordedEpisode
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.growing import GrowingStore

_CLOSE_SEC = 5.0


@dataclass(frozen=True)
class GrowthStatus:
    """The state of online growth.

    Attributes:
        episodes: number of episodes in the journal.
        added: entries that searches find besides the database's own.
        problem: why something was not kept or not added; empty while all is well.
        link: state of the connection to the server; None without one.
    """

    episodes: int
    added: int
    problem: str
    link: LinkStatus | None


class OnlineGrowth:
    """Records successful episodes, adds them to searches, and exchanges them with the fleet.

    Args:
        store: the store that the robot searches.
        folder: folder of the journal; None: nothing is recorded; shards only come from the fleet.
        append: whether searches find recorded entries.
        receiver: names the server in the journal's marks; empty: there is none.
        connect: opens the connection to the server.

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
                for _, record in self._journal.read(0):
                    self._add(RecordedEpisode.unpack(record))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._link: FleetLink | None = None
        if connect is not None:
            self._link = FleetLink(receiver, connect, self._journal, self._take)
            store.missing = self._link.want

    @property
    def records(self) -> bool:
        """Whether steps are recorded."""
        return self._journal is not None

    @property
    def status(self) -> GrowthStatus:
        """The current state, for the diagnostics."""
        return GrowthStatus(
            episodes=0 if self._journal is None else self._journal.records,
            added=self.store.added,
            problem=self._problem,
            link=None if self._link is None else self._link.status,
        )

    def note(
        self, instruction: str, action: NDArray[np.floating], verified: Verified | None
    ) -> None:
        """Records a control step; as `EpisodeRecorder.note`."""
        if self.records:
            self.recorder.note(instruction, action, verified)

    def end(self, success: bool) -> None:
        """Ends the episode and returns at once; a success is written in the background."""
        if not success or not self.records:
            self.recorder.drop()
            return
        episode = self.recorder.finish()
        if episode is not None:
            self._writer.submit(self._keep, episode)

    def close(self) -> None:
        """Writes what is still pending and ends the threads."""
        self._writer.shutdown(wait=True)
        if self._link is not None:
            self._link.close(_CLOSE_SEC)
        # Also beside an abandoned thread, which will find it closed: a new one may need the file.
        if self._journal is not None:
            self._journal.close()

    def _keep(self, make: Callable[[], RecordedEpisode]) -> None:
        try:
            self._unwritten.append(make())
        except (HeisdError, ValueError) as error:
            self._problem = f"an episode was not recorded: {error}"
            return
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

    def _take(self, instruction: str, entries: Entries) -> int:
        """Adds a shard of the fleet, unless the robot has one by now; returns how many entries.

        One that is too small to be searched is left out, or each time it is asked for it would be
        added again.
        """
        if self.store.holds(instruction) or len(entries) < self.store.least:
            return 0
        self.store.add(instruction, entries)
        return len(entries)


def frozen_by_calibration(database: Database, created: str, mode: str) -> str:
    """Returns why the shards of a calibrated database may not grow.

    Args:
        database: the database whose calibration is in force.
        created: time at which the calibration was made.
        mode: name of the mode that skips by it.
    """
    return (
        f"the calibration of {created} of {database.folder} is in force in mode {mode!r}, and its "
        "bound holds for the entries that it was made with; record only, choose a mode that does "
        "not skip by it, or remove calibration.json"
    )
