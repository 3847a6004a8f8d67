"""The settings of a decoding mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from heisd_ros.decoding.types import Source
from heisd_ros.errors import ModeError
from heisd_ros.files.typed import one_of, typed, within
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.reasoning import Part

AcceptanceRule = Literal["exact", "token_relaxed", "sequence_relaxed"]
SkipPolicy = Literal[
    "never", "always", "calibrated", "threshold", "cadence", "random", "hold", "predicted"
]
Payload = Literal["own", "demonstrated"]


@dataclass(frozen=True)
class RetrievalSettings:
    """How retrieved entries draft.

    Attributes:
        k: entries retrieved.
        draft: ``entries``: each is a chain; ``consensus``: one chain, their mean.
        last: draft the last command as well.
        speed: least speed of the end effector, by the live joint velocities, m/s, at which the
            database is searched; in slower motion only the last command is drafted.
        payload: the model's own tokens for those frames, or the demonstrated actions.
        accept: acceptance rule of retrieved drafts.
        cross: let position and rotation groups of different entries be combined.
    """

    k: Annotated[int, within(1, 64)] = 5
    draft: Literal["entries", "consensus"] = "entries"
    last: bool = False
    speed: Annotated[float, within(0.0, 10.0)] = 0.0
    payload: Payload = "own"
    accept: AcceptanceRule = "sequence_relaxed"
    cross: bool = True


@dataclass(frozen=True)
class DrafterSettings:
    """How the drafter drafts.

    Attributes:
        depth: levels of the tree, 1 to 6: the first token comes from the prefill.
        top_k: children proposed for each node.
        nodes: greatest number of nodes in the tree.
        accept: acceptance rule of its drafts, and of the last command where only that is drafted:
            the rule of slow motion.
        last: draft the last command in the prefill, before the drafter runs.
    """

    depth: Annotated[int, within(1, 6)] = 4
    top_k: Annotated[int, within(1, 64)] = 8
    nodes: Annotated[int, within(1, 256)] = 50
    accept: AcceptanceRule = "token_relaxed"
    last: bool = False


@dataclass(frozen=True)
class BoundarySettings:
    """The boundary of the kinematic metric between retrieval and drafting.

    Attributes:
        kind: ``paper``: the metric decides. ``predicted``: the way with the shortest expected time,
            by the predictor that was fitted for the database (`heisd calibrate --criterion
            predictor`); the speed of the arm still decides how strictly drafts are accepted.
        metric: formula of the metric.
        hysteresis: F must pass the boundary by this much before the zone changes; less than the
            boundary, which the database holds for each metric (``paper``). Modes without a database
            read it from ``metric_bounds.json``.
    """

    kind: Literal["paper", "predicted"] = "paper"
    metric: MetricKind = "paper"
    hysteresis: Annotated[float, within(0.0, 0.5)] = 0.03


@dataclass(frozen=True)
class SkipSettings:
    """When a retrieved action is executed without verification.

    Attributes:
        policy: ``never``; ``always``; ``calibrated`` thresholds; hand-set ``threshold`` values;
            a fixed ``cadence``; ``random`` with `rate`; ``hold``, which repeats the last command
            with `rate`, whatever the camera sees; ``predicted``, where the predictor says that it
            is harmless.
        max_consecutive: greatest number of skips in a row (``cadence``: exactly this many).
        similarity: hand-set least similarity (``threshold``).
        dispersion: hand-set greatest dispersion, bins (``threshold``).
        rate: probability of a skip, in a step with retrieved entries (``random``) or in any step
            (``hold``); 0: as often as the calibration measured.
        chance: least chance, by the predictor, that the action is harmless (``predicted``).
        clearance: control steps that each retrieved entry must be away from its episode's next
            change of the gripper (``calibrated``, ``threshold``, ``predicted``).
        speed: least speed of the end effector, by the live joint velocities, m/s (``calibrated``,
            ``threshold``, ``predicted``).
        once: execute an entry without verification only once per episode (``calibrated``,
            ``threshold``, ``predicted``): an arm whose nearest demonstrated frame stays the same
            makes no progress along the demonstration.
        agree: greatest distance, bins, of a token of the nearest entry from what was executed at
            the last verified step that searched; beyond it nothing is skipped until a verified
            step agrees again (``calibrated``, ``threshold``). 0: not checked. ``predicted``:
            nothing is checked; an action is harmless if it is no further from the model's own.
        shadow_share: share of skips that are verified nevertheless, to detect drift.
        feedback: loosen after successful episodes and tighten after failed ones.
        act_first: verify skipped steps while the arm moves, and correct the next command.
    """

    policy: SkipPolicy = "never"
    max_consecutive: Annotated[int, within(1, 100)] = 2
    similarity: Annotated[float, within(-1.0, 1.0)] = 0.9
    dispersion: Annotated[float, within(0.0, 255.0)] = 15.0
    rate: Annotated[float, within(0.0, 1.0)] = 0.0
    chance: Annotated[float, within(0.0, 1.0)] = 0.9
    clearance: Annotated[int, within(0, 1000)] = 0
    speed: Annotated[float, within(0.0, 10.0)] = 0.0
    once: bool = False
    agree: Annotated[int, within(0, 255)] = 0
    shadow_share: Annotated[float, within(0.0, 1.0)] = 0.05
    feedback: bool = False
    act_first: bool = False


@dataclass(frozen=True)
class ReasoningSettings:
    """When the reasoning of the last answer is kept, and only what follows it is decoded.

    The tokens are then the model's own behind that reasoning, and not those of the plain loop.

    Attributes:
        keep: ``never``; ``count``: in each step after a full answer, `steps` times (upstream ECoT's
            freezing); ``motion``: in fast, straight motion by the kinematic metric, unless the last
            action was not near the one before (``sequence_relaxed``) or changed the gripper.
        again: what is decoded behind it: the ``action`` alone, or the words about the next
            ``motion`` and the action.
        accept: acceptance rule of drafts in fast, straight motion by the metric, in steps that keep
            a reasoning and in others (``motion``); elsewhere it is that of the proposer.
        steps: steps in a row that keep it, at most.
        clearance: steps after a change of the gripper in which all is decoded (``motion``).
        shadow_share: share of the steps that kept it that are decoded in full as well, while the
            arm moves, to detect drift.
    """

    keep: Literal["never", "count", "motion"] = "never"
    again: Part = "action"
    accept: AcceptanceRule = "exact"
    steps: Annotated[int, within(1, 100)] = 4
    clearance: Annotated[int, within(0, 1000)] = 4
    shadow_share: Annotated[float, within(0.0, 1.0)] = 0.0


def _proposers() -> list[str]:
    return ["none", *(source for source in Source if source.proposes), "hybrid"]


@dataclass(frozen=True)
class ModeSettings:
    """One decoding mode.

    Attributes:
        description: one line of text.
        engine: what runs the model's passes (`vla.engines.make_engine`); the tokens are the same.
        propose: who drafts, by the name of its `Source`; ``none``: the model decodes by itself;
            ``hybrid``: retrieval or drafter, by the kinematic metric.
        one_pass: verify a draft that is known before the prefill in the prefill itself.
        correct: where the model's tokens differ from an accepted draft, verify them in one more
            pass and execute them instead; the draft is executed if they leave the bounds.
        redraft: after a rejected token, verify the model's own guess at the rest in one pass.
        retrieval: settings of retrieved drafts.
        drafter: settings of the drafter.
        boundary: settings of the hybrid's boundary.
        skip: settings of skipped verification.
        reasoning: when a reasoning is kept.

    Raises:
        ModeError: a value is not accepted.
    """

    description: str = ""
    engine: EngineChoice = "auto"
    propose: Annotated[str, one_of(_proposers)] = "none"
    one_pass: bool = True
    correct: bool = False
    redraft: bool = False
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    drafter: DrafterSettings = field(default_factory=DrafterSettings)
    boundary: BoundarySettings = field(default_factory=BoundarySettings)
    skip: SkipSettings = field(default_factory=SkipSettings)
    reasoning: ReasoningSettings = field(default_factory=ReasoningSettings)

    def __post_init__(self) -> None:
        """Checks each value and their combinations; raises ModeError."""
        executes = self.skip.policy not in ("never", "hold")
        if executes and not self.retrieves:
            raise ModeError(
                f"skip.policy {self.skip.policy!r} executes retrieved actions, but propose is "
                f"{self.propose!r}; accepted with it: 'retrieval', 'hybrid'"
            )
        for name, speed in (("skip", self.skip.speed), ("retrieval", self.retrieval.speed)):
            if speed and self.propose != "hybrid":
                raise ModeError(
                    f"{name}.speed is {speed:g}, but the arm's speed is measured in modes with "
                    f"propose 'hybrid' alone, not {self.propose!r}; accepted with it: 0"
                )
        if (
            self.retrieval.speed
            and not self.predicted
            and not (self.retrieval.last and self.one_pass)
        ):
            raise ModeError(
                f"retrieval.speed is {self.retrieval.speed:g}: in slower motion the last command "
                "drafts, in the prefill; accepted with it: retrieval.last: true, one_pass: true"
            )
        self._check_predicted()
        by_speed = self.skip.policy in ("calibrated", "threshold", "predicted")
        least = self.skip.speed if by_speed else 0.0
        if executes and self.retrieval.speed > least:
            raise ModeError(
                f"retrieval.speed is {self.retrieval.speed:g}, but skip.policy "
                f"{self.skip.policy!r} executes what is retrieved from {least:g} m/s on; "
                f"accepted with it: at most {least:g}"
            )
        if self.reasoning.keep != "never" and self.propose == "none":
            raise ModeError(
                f"reasoning.keep is {self.reasoning.keep!r}, but propose 'none' is the plain loop; "
                "accepted with it: 'never', or another propose, such as 'last_command'"
            )
        if self.reasoning.accept != "exact" and self.reasoning.keep != "motion":
            raise ModeError(
                f"reasoning.accept is {self.reasoning.accept!r}, which holds in fast motion by the "
                f"metric, but reasoning.keep is {self.reasoning.keep!r}; accepted with it: 'exact'"
            )
        if self.drafter.last and not self.one_pass:
            raise ModeError(
                "drafter.last drafts in the prefill, which one_pass: false keeps free of drafts; "
                "accepted with it: one_pass: true"
            )

    def _check_predicted(self) -> None:
        """Checks what belongs to a predictor; raises ModeError."""
        if self.predicted and (self.propose != "hybrid" or not self.one_pass):
            raise ModeError(
                "boundary.kind is 'predicted', which chooses between drafts in the prefill; "
                "accepted with it: propose: hybrid, one_pass: true"
            )
        if self.skip.policy == "predicted" and not self.predicted:
            raise ModeError(
                "skip.policy is 'predicted', but boundary.kind is 'paper'; accepted with it: "
                "boundary.kind: predicted"
            )

    def decisive(self) -> dict[str, Any]:
        """All settings that affect what is executed, by dotted name (``retrieval.k``), in order."""
        silent = {"description", "engine"}
        if not self.measures or (self.predicted and self.reasoning.keep != "motion"):
            silent.add("boundary.hysteresis")
        recorded = _flat(self.recorded(), "")
        return {name: value for name, value in recorded if name not in silent}

    def recorded(self) -> dict[str, Any]:
        """All settings, nested, for the files of runs; those of a part only where it is in use.

        Runs and calibrations that began before there was such a part stay those of their modes.
        """
        values = asdict(self)
        if not self.predicted:
            del values["boundary"]["kind"]
        if self.skip.policy != "predicted":
            del values["skip"]["chance"]
        if self.reasoning.keep == "never":
            del values["reasoning"]
        return values

    @property
    def measures(self) -> bool:
        """Whether the mode needs the kinematic metric."""
        return self.propose == "hybrid" or self.reasoning.keep == "motion"

    @property
    def predicted(self) -> bool:
        """Whether a fitted predictor chooses between the proposers."""
        return self.boundary.kind == "predicted"

    @property
    def retrieves(self) -> bool:
        """Whether the mode needs a database."""
        return self.propose in ("retrieval", "hybrid")

    @property
    def drafts(self) -> bool:
        """Whether the mode needs a drafter."""
        return self.propose in ("drafter", "hybrid")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModeSettings:
        """Reads nested settings, as in ``config/modes/*.yaml``; missing values are the defaults.

        Raises:
            ModeError: a name is unknown or a value is not accepted.
        """
        try:
            return typed(cls, values)
        except ValueError as error:
            raise ModeError(str(error)) from error


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
