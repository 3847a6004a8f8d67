"""Closed-loop episodes of a calibration: every shortened step is executed and judged.

A step is shortened if it was executed without verification or behind a kept reasoning. The loss of
an episode is, by one criterion, the share of these steps whose action is outside the tolerance
around the model's own greedy action on the same frame, decoded in full in shadow; by the other, 1
if it fails. Both are measured in closed loop, so they hold for the states that short steps lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.acceptance import acts_alike, within_tolerance
from heisd_ros.decoding.assembly import keeps_by_calibration
from heisd_ros.decoding.calibrated_path import Criterion
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import dispersion
from heisd_ros.decoding.types import Decoder, Observation, Source, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.rollout import ALL_INPUTS, SceneInputs, run_episode
from heisd_ros.evaluation.starts import CALIBRATION_STATES, Start, begin_at
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.metric import FusedMetric
from heisd_ros.retrieval.database import Database, Matches
from heisd_ros.sim.scene import LiberoScene, instruction_of
from heisd_ros.vla.action_codec import AnswerFormat

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
"""Default path, strict to loose. It is fixed before anything is measured, as the test demands."""
ENTRIES_OF_SHARD = 200
"""Number of evenly spaced entries of a shard whose neighbours are compared."""


@dataclass(frozen=True)
class EpisodeLoss:
    """Counts of one episode.

    Attributes:
        skipped: Steps executed without verification, or behind a kept reasoning.
        broken: Those of them outside the tolerance.
        retrieved: Steps in the zone of retrieval, the slow and the skipped ones included.
        steps: All steps.
        success: Whether the task was solved.
    """

    skipped: int
    broken: int
    retrieved: int
    steps: int
    success: bool

    @property
    def disagreement(self) -> float:
        """Share of the skipped steps outside the tolerance; 0 if none was skipped."""
        return self.broken / self.skipped if self.skipped else 0.0

    def loss(self, criterion: Criterion) -> float:
        """Returns the loss by a criterion, in [0, 1]."""
        return float(not self.success) if criterion == "failure" else self.disagreement


def plan_episodes(tasks: Sequence[int], count: int) -> list[Start]:
    """Returns episodes over tasks and calibration states in turn; a longer plan extends a shorter.

    Args:
        tasks: Tasks of the suite.
        count: How many episodes; beyond 8 for each task they vary by a small start motion.
    """
    states, all_tasks = len(CALIBRATION_STATES), len(tasks)
    return [
        Start(
            task_index=tasks[number % all_tasks],
            init_state=CALIBRATION_STATES[number // all_tasks % states],
            variation=number // (all_tasks * states),
        )
        for number in range(count)
    ]


def instructions_of(suite: str, tasks: Sequence[int]) -> dict[int, str]:
    """Returns the normalised instructions of a suite's tasks, by number."""
    return {index: normalise_instruction(instruction_of(suite, index)) for index in tasks}


def path_of(
    database: Database,
    k: int,
    levels: Sequence[float] = LEVELS,
    executed: Callable[[Matches], NDArray[np.int64]] = lambda matches: matches.tokens,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes thresholds from strict to loose from the database alone.

    Each frame of the database is compared with those of other episodes, as a live frame is with
    all. At level q the threshold is passed by the q of them whose k nearest differ least. Where
    entries agree, likeness adds little, so it only keeps out what is like nothing in the database:
    its threshold is passed by 0.9 + 0.1 q of them.

    Args:
        database: Its shards are taken together.
        k: Entries retrieved.
        levels: In (0, 1], rising.
        executed: Token ids [K, 7] that the mode makes of what was retrieved.

    Returns:
        Least similarity and greatest dispersion (bins) of each level.

    Raises:
        CalibrationError: Levels are not rising in (0, 1].
        DatabaseError: A task has fewer than k entries of other episodes.
    """
    rises = all(a < b for a, b in pairwise(levels))
    if not levels or not rises or not (levels[0] > 0.0 and levels[-1] <= 1.0):
        raise CalibrationError(f"levels {list(levels)} must rise and lie in (0, 1]")
    similarities, dispersions = [], []
    for shard in database:
        count = min(len(shard), ENTRIES_OF_SHARD)
        for entry in np.linspace(0, len(shard) - 1, count).round().astype(int):
            matches = shard.neighbours(int(entry), k)
            similarities.append(float(matches.similarity[0]))
            dispersions.append(dispersion(executed(matches)))
    return (
        tuple(float(np.quantile(similarities, 0.1 * (1.0 - level))) for level in levels),
        tuple(float(np.quantile(dispersions, level)) for level in levels),
    )


def calibration_mode(mode: ModeSettings) -> ModeSettings:
    """Returns a mode as it is calibrated: one fixed setting, without shadow checks.

    Raises:
        CalibrationError: The mode neither skips nor keeps reasonings by calibration.
    """
    if keeps_by_calibration(mode):
        return replace(mode, reasoning=replace(mode.reasoning, shadow_share=0.0))
    if mode.skip.policy != "calibrated":
        raise CalibrationError(
            f"the mode's skip.policy is {mode.skip.policy!r} and it keeps no reasonings: there is "
            "nothing to calibrate; give a mode with skip.policy 'calibrated', such as heisd, or "
            "one that keeps reasonings, such as heisd_reason"
        )
    return replace(mode, skip=replace(mode.skip, shadow_share=0.0, feedback=False))


class Judge(DecoderWrapper):
    """A decoder whose shortened steps are compared with a reference decoder on the same frames.

    A reset keeps the counts.

    Args:
        decoder: Decides the steps.
        reference: The model's plain greedy decoding.
        answer: Format of their answers; None: seven bins, and no words.
    """

    def __init__(
        self, decoder: Decoder, reference: Decoder, answer: AnswerFormat | None = None
    ) -> None:
        super().__init__(decoder)
        self._reference, self._answer = reference, answer
        self.skipped = self.broken = self.retrieved = 0

    def infer(self, observation: Observation) -> StepResult:
        """Returns the decoder's step, and judges it if it was shortened."""
        result = self._decoder.infer(observation)
        self.retrieved += result.source in (Source.RETRIEVAL, Source.LAST_COMMAND, Source.SKIP)
        if result.source in (Source.SKIP, Source.KEPT):
            tokens, own = result.tokens, self._reference.infer(observation).tokens
            self.skipped += 1
            if result.source == Source.KEPT and self._answer is not None:
                near = acts_alike(tokens, own, self._answer)
            else:
                near = within_tolerance(tokens, own, self._answer)
            self.broken += not near
        return result


def judge_episode(
    scene: LiberoScene,
    decoder: Decoder,
    reference: Decoder,
    start: Start,
    metric: FusedMetric | None,
    inputs: SceneInputs = ALL_INPUTS,
    answer: AnswerFormat | None = None,
    max_steps: int | None = None,
) -> EpisodeLoss:
    """Runs one episode and counts what skipping did in it.

    Args:
        scene: Scene of the episode's task.
        decoder: The decoder that skips or keeps reasonings.
        reference: The decoder that judges.
        start: Where it begins.
        metric: The kinematic metric, if the decoder needs it.
        inputs: The model's inputs from the scene.
        answer: Format of the decoders' answers; None: seven bins.
        max_steps: Control steps after which the episode has failed; None: the suite's.

    Raises:
        SceneError: No such initial state.
    """
    judge = Judge(decoder, reference, answer)
    begun = begin_at(scene, start)
    result = run_episode(begun, judge, start.init_state, metric, max_steps=max_steps, inputs=inputs)
    return EpisodeLoss(
        skipped=judge.skipped,
        broken=judge.broken,
        retrieved=judge.retrieved,
        steps=result.steps,
        success=result.success,
    )
