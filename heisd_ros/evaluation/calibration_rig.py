"""Runs episodes of a calibration in a worker, which keeps the model and scene."""

from __future__ import annotations

from dataclasses import replace

from heisd_ros.decoding.calibrated_path import CalibratedPath
from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.types import Decoder
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss, judge_episode
from heisd_ros.evaluation.calibration_losses import BASE
from heisd_ros.evaluation.calibration_setup import Place
from heisd_ros.evaluation.rollout import SceneInputs, make_scene
from heisd_ros.evaluation.starts import Start
from heisd_ros.kinematics.metric import FusedMetric
from heisd_ros.sim.scene import LiberoScene


class Rig:
    """A loaded model and database, and the scene of the last task.

    Raises:
        HeisdError: A part is missing or cannot be used.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._mode, self._assembly = place.open()
        self._vla, self._protocol = place.load_model()
        self._inputs = SceneInputs.of(self._vla.spec)
        # Both give the plain loop's tokens; a long answer takes it several times as long.
        exact = load_mode("ar" if self._vla.codec.counted else "last_command")
        self._reference = self._assembly.decoder(self._vla, exact)
        self._scene: LiberoScene | None = None

    def run(self, candidate: CalibratedPath, setting: int, start: Start) -> EpisodeLoss:
        """Runs one episode with a new decoder, so that nothing is carried over.

        Args:
            candidate: The path of settings.
            setting: Number of the setting; `BASE`: the plain loop.
            start: Start of the episode.
        """
        decoder: Decoder = self._reference
        metric = None
        if setting != BASE:
            decoder = self._decoder(candidate.at(setting))
            bounds = self._assembly.bounds(self._mode)
            metric = None if bounds is None else FusedMetric(bounds)
        scene = self._scene_of(start.task_index)
        most = self._protocol.max_steps.get(self._place.suite)
        return judge_episode(
            scene, decoder, self._reference, start, metric, self._inputs, self._vla.codec, most
        )

    def _decoder(self, candidate: CalibratedPath) -> Decoder:
        """Makes a decoder without shadow checks and feedback, which only prevent skips."""
        mode = self._mode
        if isinstance(candidate, Calibration) and candidate.runs:
            # The path's run length counts.
            mode = replace(mode, skip=replace(mode.skip, max_consecutive=candidate.runs[-1]))
        own = replace(candidate, settings=mode.decisive())
        return self._assembly.decoder(self._vla, mode, calibration=own)

    def _scene_of(self, task_index: int) -> LiberoScene:
        if self._scene is None or self._scene.task_index != task_index:
            if self._scene is not None:
                self._scene.close()
            self._scene = make_scene(self._place.suite, task_index, self._protocol)
        return self._scene


_rigs: dict[Place, Rig] = {}
"""The rig of a worker process."""


def run_episode_of(
    place: Place, candidate: CalibratedPath, setting: int, number: int, start: Start
) -> tuple[int, int, EpisodeLoss]:
    """Runs one job in a worker; returns setting, number of the episode, and its loss."""
    if place not in _rigs:
        _rigs[place] = Rig(place)
    return setting, number, _rigs[place].run(candidate, setting, start)
