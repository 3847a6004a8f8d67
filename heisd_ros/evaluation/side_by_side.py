"""Runs several decoding modes on the same initial states, side by side.

All modes run one initial state back to back in one process, so that a slow phase of the machine
affects them alike: compared times are measured within a minute or two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from heisd_ros.decoding.chunks import ChunkUse
from heisd_ros.decoding.types import Decoder, Observation
from heisd_ros.evaluation.accounting import Row, episode_row
from heisd_ros.evaluation.rollout import ALL_INPUTS, WHOLE_CHUNKS, SceneInputs, observe, run_episode
from heisd_ros.evaluation.setup import Parts
from heisd_ros.evaluation.starts import Start, begin_at
from heisd_ros.kinematics.metric import FusedMetric, MetricSample
from heisd_ros.sim.scene import LiberoScene

_WARM_UP_STEPS = 3
_SLOW = MetricSample(0.0, 0.0, 0.0, 0.0, "paper", True, "velocity")
_FAST = replace(_SLOW, value=1.0)


class SideBySide:
    """Runs a decoder of each mode from the same starts.

    Decoders are kept between episodes, as on a robot: what one learns from the outcome of its
    episodes stays with it.

    Args:
        decoders: Decoders by the names of the modes.
        metrics: The kinematic metric of each mode that decides by one.
        seed: Seed of the order in which modes run.
        max_steps: Control steps after which an episode has failed; None: the suite's.
        rehearsal: Decoders like those that run, which warm the process up and are discarded.
        inputs: The model's inputs from a scene.
        chunk: How much of the model's chunks is executed.
    """

    def __init__(
        self,
        decoders: Mapping[str, Decoder],
        metrics: Mapping[str, FusedMetric],
        seed: int = 0,
        max_steps: int | None = None,
        rehearsal: Sequence[Decoder] = (),
        inputs: SceneInputs = ALL_INPUTS,
        chunk: ChunkUse = WHOLE_CHUNKS,
    ) -> None:
        self._decoders, self._metrics = decoders, metrics
        self._seed, self._max_steps = seed, max_steps
        self._rehearsal, self._inputs, self._chunk = rehearsal, inputs, chunk

    @classmethod
    def load(cls, parts: Parts) -> SideBySide:
        """Loads the model and everything that the modes need.

        Raises:
            HeisdError: The model or a part of a mode cannot be used.
        """
        bounds = {name: parts.bounds(mode) for name, mode in parts.modes.items()}
        metrics = {name: FusedMetric(found) for name, found in bounds.items() if found is not None}
        vla = parts.load_model()
        rehearsal = list(parts.decoders(vla).values())
        return cls(
            parts.decoders(vla),
            metrics,
            parts.setup.seed,
            parts.max_steps,
            rehearsal,
            SceneInputs.of(replace(vla.spec, views=parts.protocol.data.views or vla.spec.views)),
            parts.setup.chunk,
        )

    def run(self, scene: LiberoScene, start: Start) -> list[Row]:
        """Runs every mode once from a start; returns rows in the order of the runs.

        Args:
            scene: Scene of the start's task.
            start: Start of each episode.

        Raises:
            SceneError: No such initial state.
        """
        if self._rehearsal:
            scene.reset(start.init_state)
            for decoder in self._rehearsal:
                warm_up(decoder, observe(scene, inputs=self._inputs))
            self._rehearsal = ()
        rows = []
        for name in order_of_modes(list(self._decoders), self._seed, start):
            result = run_episode(
                begin_at(scene, start),
                self._decoders[name],
                start.init_state,
                self._metrics.get(name),
                max_steps=self._max_steps,
                inputs=self._inputs,
                chunk=self._chunk,
            )
            rows.append(episode_row(name, result, start.variation))
        return rows


def order_of_modes(modes: Sequence[str], seed: int, start: Start) -> list[str]:
    """Returns the order in which modes run a start: shuffled, but reproducible.

    In a fixed or rotating order a mode would always follow the same other one, or always come
    first in the same task.
    """
    drawn = [start.variation] if start.variation else []
    rng = np.random.default_rng([seed, start.task_index, start.init_state, *drawn])
    return [modes[i] for i in rng.permutation(len(modes))]


def warm_up(decoder: Decoder, observation: Observation) -> None:
    """Takes a few unmeasured steps, slow and fast motion in turn.

    The first passes of a process allocate memory, choose kernels and read mapped files, which a
    robot that has been running for a minute has long done. These steps change the decoder's state
    (checks of skips, random sequence), so it must not be one that is measured.
    """
    for _ in range(_WARM_UP_STEPS):
        for motion in (_SLOW, _FAST):
            decoder.infer(replace(observation, motion=motion))
            decoder.settle()
