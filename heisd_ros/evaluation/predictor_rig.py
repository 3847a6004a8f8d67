"""Sets up the fit of a predictor, and runs its episodes in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.modes import load_mode
from heisd_ros.evaluation.accounting import Row
from heisd_ros.evaluation.calibration_setup import Place
from heisd_ros.evaluation.predictor_steps import FILE, ProbedEpisodes, acting_mode, probe_episode
from heisd_ros.evaluation.rollout import SceneInputs, make_scene
from heisd_ros.evaluation.starts import Start
from heisd_ros.kinematics.metric import FusedMetric
from heisd_ros.sim.scene import LiberoScene


class ProbeRig:
    """A loaded model and database, and the scene of the last task.

    Raises:
        HeisdError: A part is missing or cannot be used.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._mode = acting_mode(load_mode(place.mode))
        self._assembly = place.assembly()
        self._vla, self._protocol = place.load_model()
        self._inputs = SceneInputs.of(self._vla.spec)
        self._scene: LiberoScene | None = None

    def run(self, start: Start) -> tuple[Row, list[list[float | None]]]:
        """Runs one episode with a new decoder; as `probe_episode`."""
        if self._scene is None or self._scene.task_index != start.task_index:
            if self._scene is not None:
                self._scene.close()
            self._scene = make_scene(self._place.suite, start.task_index, self._protocol)
        decoder = cast(HybridDecoder, self._assembly.decoder(self._vla, self._mode))
        bounds = self._assembly.bounds(self._mode)
        metric = None if bounds is None else FusedMetric(bounds)
        most = self._protocol.max_steps.get(self._place.suite)
        return probe_episode(self._scene, decoder, start, metric, self._inputs, most)


_rigs: dict[Place, ProbeRig] = {}
"""The rig of a worker process."""


def probe_of(place: Place, number: int, start: Start) -> tuple[int, Row, list[list[float | None]]]:
    """Runs one job in a worker; returns the number of the episode, its row and its steps."""
    if place not in _rigs:
        _rigs[place] = ProbeRig(place)
    return number, *_rigs[place].run(start)


@dataclass(frozen=True)
class FittedParts:
    """What a predictor is bound to.

    Attributes:
        database_id: The database.
        model_fingerprint: The model.
        drafter: SHA-256 of the drafter's weights; None: the mode has none.
    """

    database_id: str
    model_fingerprint: str
    drafter: str | None

    @classmethod
    def of(cls, place: Place) -> FittedParts:
        """Reads them; raises HeisdError if a part is missing or damaged."""
        assembly = place.assembly()
        identity = assembly.database.manifest.database_id
        return cls(identity, assembly.fingerprint, assembly.drafter_hash(load_mode(place.mode)))


def probed_episodes(
    place: Place, parts: FittedParts, tasks: Sequence[int], draw: int
) -> ProbedEpisodes:
    """Starts or resumes the episodes of a fit.

    Args:
        place: What is loaded.
        parts: What the predictor will be bound to.
        tasks: Tasks of the suite, over which the starts go.
        draw: Seed by which starts are drawn; 0: the calibration states in turn.

    Raises:
        PredictorError: The file of the run is damaged or another run's.
        HeisdError: No predictor decides in the mode.
    """
    header: dict[str, Any] = {
        "mode": acting_mode(load_mode(place.mode)).recorded(),
        "suite": place.suite,
        "tasks": list(tasks),
        "draw": draw,
        **place.run_as(),
        **vars(parts),
    }
    return ProbedEpisodes(Path(place.database) / FILE, header)
