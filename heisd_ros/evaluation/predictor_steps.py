"""What each way of drafting would have cost at each step of closed-loop episodes.

The steps from which a predictor is fitted: a mode acts by its hand-set thresholds, and every other
way is tried on the same frame from the same last command.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from heisd_ros.decoding.answer_actions import answer_of
from heisd_ros.decoding.chooser import acceptance_rule
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.perception import Perceived, perceive
from heisd_ros.decoding.predictor import DRAFTER, LAST, RETRIEVAL, WAYS
from heisd_ros.decoding.proposers import Step
from heisd_ros.decoding.settings import BoundarySettings, ModeSettings
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.terms import TERMS, StepTerms
from heisd_ros.decoding.types import Observation, Source, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper
from heisd_ros.errors import PredictorError
from heisd_ros.evaluation.accounting import Row, episode_row
from heisd_ros.evaluation.rollout import ALL_INPUTS, SceneInputs, run_episode
from heisd_ros.evaluation.starts import Start, begin_at
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object
from heisd_ros.files.typed import typed
from heisd_ros.kinematics.metric import FusedMetric
from heisd_ros.retrieval.database import Matches
from heisd_ros.sim.scene import LiberoScene

FILE = "predictor_run.json"
MOST_VALUES = 10_000_000
"""In such a file: about 25 a step."""
OUTCOMES = ("away", "gripper", *WAYS)
"""Of each step: greatest distance of the nearest entry from the model's own answer, bins; whether
their grippers are equal; and the passes of each way. NaN where there was nothing to try."""
COLUMNS = (*TERMS, *OUTCOMES)
_Numbers = Annotated[
    tuple[float | None, ...], Field(min_length=len(COLUMNS), max_length=len(COLUMNS))
]


def acting_mode(mode: ModeSettings) -> ModeSettings:
    """Returns the mode that acts while the predictor of another one is fitted.

    It is that mode with the paper's boundary and hand-set thresholds, without shadow checks.

    Raises:
        PredictorError: No predictor decides in the mode.
    """
    if not mode.predicted:
        raise PredictorError(
            "the mode's boundary.kind is 'paper': there is nothing to fit; give a mode with "
            "boundary.kind 'predicted', such as heisd_predicted"
        )
    boundary = BoundarySettings(metric=mode.boundary.metric)
    policy = "threshold" if mode.skip.policy == "predicted" else mode.skip.policy
    return replace(
        mode, boundary=boundary, skip=replace(mode.skip, policy=policy, shadow_share=0.0)
    )


class Prober(DecoderWrapper):
    """A decoder beside which every way of drafting is tried at each step."""

    def __init__(self, decoder: HybridDecoder) -> None:
        super().__init__(decoder)
        self._probed = decoder
        self._tracked = StepTerms(decoder.vla.codec.groups)
        self._last: tuple[int, ...] | None = None
        self.steps: list[NDArray[np.float64]] = []

    def reset(self, success: bool | None = None) -> None:
        """Resets the decoder; the steps are kept."""
        super().reset(success)
        self._tracked.reset()
        self._last = None

    @torch.inference_mode()
    def infer(self, observation: Observation) -> StepResult:
        """Returns the decoder's step after trying every way."""
        self.steps.append(self._probe(observation))
        result = super().infer(observation)
        self._tracked.end(result.tokens, result.passes)
        self._last = result.tokens
        return result

    def _probe(self, observation: Observation) -> NDArray[np.float64]:
        """Returns the numbers of `COLUMNS`."""
        decoder = self._probed
        seen = perceive(decoder.vla, observation)
        terms = self._tracked.begin(observation.motion)
        matches: Matches | None = None
        if decoder.database is not None:
            shard, _ = decoder.database.shard_for(observation.instruction)
            if shard is not None:
                matches = decoder.retrieve(shard, seen.features)
                terms = self._tracked.search(terms, matches, shard.clearance(matches))
        outcomes = [*self._of_entry(seen, matches), *self._of_ways(seen, matches, observation)]
        return np.concatenate([terms, outcomes])

    def _of_entry(self, seen: Perceived, matches: Matches | None) -> tuple[float, float]:
        if matches is None:
            return math.nan, math.nan
        decoder, entry = self._probed, answer_of(matches.tokens[0])
        own = decoder.speculation.verified(decoder.vla.prompt(*seen), self._last or entry)
        return self._tracked.distance(matches, own), float(own[-1] == entry[-1])

    def _of_ways(
        self, seen: Perceived, matches: Matches | None, observation: Observation
    ) -> list[float]:
        decoder = self._probed
        rule = acceptance_rule(decoder.mode, observation.motion)
        passes = []
        for way in WAYS:
            proposer = decoder.proposers.get(Source(way))
            nothing = {RETRIEVAL: matches is None, LAST: self._last is None, DRAFTER: False}
            if proposer is None or nothing[way]:
                passes.append(math.nan)
                continue
            step = Step(decoder.vla.prompt(*seen), self._last, matches)
            watch = Stopwatch(decoder.vla.device)
            passes.append(float(decoder.speculation.decode(step, proposer, watch, rule)[0].passes))
        return passes


def probe_episode(
    scene: LiberoScene,
    decoder: HybridDecoder,
    start: Start,
    metric: FusedMetric | None,
    inputs: SceneInputs = ALL_INPUTS,
    max_steps: int | None = None,
) -> tuple[Row, list[list[float | None]]]:
    """Runs one episode; returns its row of results, and the numbers of `COLUMNS` of each step.

    `max_steps` is that of `run_episode`.

    Raises:
        SceneError: No such initial state.
    """
    prober = Prober(decoder)
    begun = begin_at(scene, start)
    result = run_episode(
        begun, prober, start.init_state, metric, max_steps=max_steps, inputs=inputs
    )
    steps = [
        [round(float(x), 5) if math.isfinite(x) else None for x in step] for step in prober.steps
    ]
    return episode_row("acting", result, start.variation), steps


@dataclass(frozen=True)
class _Episode:
    row: dict[str, Any]
    steps: tuple[_Numbers, ...]


@dataclass(frozen=True)
class _Content:
    run: dict[str, Any]
    episodes: dict[int, _Episode]


class ProbedEpisodes:
    """Episodes and their steps, in a file from which a run is resumed.

    Args:
        file: The file.
        header: What determines the steps: a file with a different one is of another run.

    Raises:
        PredictorError: The file is damaged or another run's.
    """

    def __init__(self, file: Path, header: Mapping[str, Any]) -> None:
        self._file = file
        # Through JSON, as it is read back.
        self._header = json.loads(json.dumps({**header, "columns": COLUMNS}))
        self._episodes: dict[int, Mapping[str, Any]] = {}
        if file.exists():
            header, self._episodes = _read(file)
            if header != self._header:
                raise PredictorError(f"{file} is of another run; finish that one or delete it")

    @classmethod
    def read(cls, file: Path) -> ProbedEpisodes:
        """Reads the episodes of any run.

        Raises:
            PredictorError: The file is missing or damaged.
        """
        header, _ = _read(file)
        return cls(file, header)

    def pending(self, count: int) -> list[int]:
        """Returns the numbers below a count of the episodes that have not been run."""
        return [number for number in range(count) if number not in self._episodes]

    def add(self, number: int, row: Row, steps: Sequence[Sequence[float | None]]) -> None:
        """Adds an episode and writes the file atomically."""
        self._episodes[number] = {"row": row, "steps": steps}
        text = json.dumps({"run": self._header, "episodes": self._episodes})
        replace_text(self._file, text + "\n")

    @property
    def rows(self) -> list[Row]:
        """The episodes' rows of results, by their numbers."""
        return [episode["row"] for _, episode in sorted(self._episodes.items())]

    def steps(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the numbers of `COLUMNS` of all steps, [n, len(COLUMNS)], and their episodes."""
        found = sorted(self._episodes.items())
        tables = [np.array(e["steps"], np.float64).reshape(-1, len(COLUMNS)) for _, e in found]
        episodes = [np.full(len(t), n) for (n, _), t in zip(found, tables, strict=True)]
        if not tables:
            return np.zeros((0, len(COLUMNS))), np.zeros(0, np.int64)
        return np.concatenate(tables), np.concatenate(episodes)


def _read(file: Path) -> tuple[dict[str, Any], dict[int, Mapping[str, Any]]]:
    """Returns the header and the episodes of a file; raises PredictorError."""
    values = read_object(
        file, lambda problem: PredictorError(f"{problem}; delete it"), values=MOST_VALUES
    )
    try:
        read = typed(_Content, values)
    except ValueError as error:
        raise PredictorError(f"{file} is damaged: {error}; delete it") from error
    if read.run.get("columns") != list(COLUMNS):
        raise PredictorError(f"{file} has other columns than this version's; delete it")
    return read.run, {number: vars(episode) for number, episode in read.episodes.items()}
