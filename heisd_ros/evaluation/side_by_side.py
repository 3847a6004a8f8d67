"""Several decoding modes on the same initial states, side by side.

All modes run one initial state back to back in one process, so that a slow moment of the machine
meets them alike: what is compared was measured within a minute or two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from heisd_ros.decoding.types import Decoder, Observation
from heisd_ros.evaluation.accounting import Row, episode_row
from heisd_ros.evaluation.rollout import ALL_INPUTS, SceneInputs, observe, run_episode
from heisd_ros.evaluation.setup import Parts
from heisd_ros.evaluation.starts import Start, begin_at
from heisd_ros.kinematics.metric import FusedMetric, MetricSample
from heisd_ros.sim.scene import LiberoScene

_WARM_UP_STEPS = 3
_SLOW = MetricSample(0.0, 0.0, 0.0, 0.0, "paper", True, "velocity")
_FAST = replace(_SLOW, value=1.0)


class SideBySide:
    """A decoder for each mode, ready to run.

    Decoders live on from episode to episode, as on a robot: what one learns from how its episodes
    end stays with it.

    Args:
        decoders: By the modes' names.
        metrics: The kinematic metric of each mode that decides by one.
        seed: Of the order in which modes run.
        max_steps: Control steps after which an episode has failed; None: the suite's.
        rehearsal: Decoders like those that run, to warm the process up with and throw away.
        inputs: What the model takes of a scene.
    """

    def __init__(
        self,
        decoders: Mapping[str, Decoder],
        metrics: Mapping[str, FusedMetric],
        seed: int = 0,
        max_steps: int | None = None,
        rehearsal: Sequence[Decoder] = (),
        inputs: SceneInputs = ALL_INPUTS,
    ) -> None:
        self._decoders, self._metrics = decoders, metrics
        self._seed, self._max_steps = seed, max_steps
        self._rehearsal, self._inputs = rehearsal, inputs

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
            SceneInputs.of(vla.config),
        )

    def run(self, scene: LiberoScene, start: Start) -> list[Row]:
        """Runs every mode once from a start; rows in the order in which they ran.

        Args:
            scene: Of the start's task.
            start: Where each episode begins.

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
            )
            rows.append(episode_row(name, result, start.variation))
        return rows


def order_of_modes(modes: Sequence[str], seed: int, start: Start) -> list[str]:
    """The order in which modes run a start: shuffled, but the same whenever it is run.

    Were the order fixed, or turned on in step with the tasks, a mode would always come after the
    same other one, or always first in the same task.
    """
    drawn = [start.variation] if start.variation else []
    rng = np.random.default_rng([seed, start.task_index, start.init_state, *drawn])
    return [modes[i] for i in rng.permutation(len(modes))]


def warm_up(decoder: Decoder, observation: Observation) -> None:
    """Takes a few unmeasured steps, slow and fast motion in turn.

    The first passes of a process allocate memory, choose kernels and read mapped files; a robot
    that has been running for a minute knows nothing of that. What the decoder learns from these
    steps (skips checked, a random sequence begun) stays with it, so it isn't one to measure.
    """
    for _ in range(_WARM_UP_STEPS):
        for motion in (_SLOW, _FAST):
            decoder.infer(replace(observation, motion=motion))
            decoder.settle()
