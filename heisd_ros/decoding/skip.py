"""When a retrieved action is executed without verification by the language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.calibration import FIX, Calibration, TriedSetting
from heisd_ros.decoding.conformal import TaskAlarms
from heisd_ros.decoding.settings import SkipSettings
from heisd_ros.errors import CalibrationError
from heisd_ros.retrieval.database import Matches
from heisd_ros.vla.action_codec import POSE_GROUPS, motion_of


@dataclass(frozen=True)
class SkipContext:
    """The inputs of the decision to skip besides the retrieved entries.

    Attributes:
        retrieval_zone: whether the kinematic metric trusts retrieval.
        gripper: token id of the last executed gripper command; None at an episode's start.
        clearance: control steps until the first retrieved entry reaches a change of its gripper.
        speed: current speed of the end effector, m/s; NaN if unknown.
        task: the instruction; each task is monitored separately.
        harmless: chance that the predictor gives the first entry; NaN without one.
        because: what weighs most in that chance.
    """

    retrieval_zone: bool
    gripper: int | None
    clearance: float = math.inf
    speed: float = math.inf
    task: str = ""
    harmless: float = math.nan
    because: str = ""


@dataclass(frozen=True)
class SkipDecision:
    """The decision whether to skip verification.

    Attributes:
        skip: execute the retrieved action.
        shadow: verify it nevertheless, for the statistics; false if it is not skipped.
        reason: explanation for the telemetry.
        chance: that the action is harmless; None without a predictor.
    """

    skip: bool
    shadow: bool
    reason: str
    chance: float | None = None


def dispersion(tokens: NDArray[np.int64], groups: Sequence[range] = POSE_GROUPS) -> float:
    """Measures how much retrieved drafts differ, in bins.

    Args:
        tokens: [K, N] token ids. One id is one bin, so ids serve as bins.
        groups: `AnswerFormat.groups`: which tokens are bins.

    Returns:
        the greatest standard deviation among the tokens of motion.
    """
    return float(tokens[:, motion_of(groups)].std(axis=0).max())


class SkipGate:
    """Decides step by step whether verification is skipped, and monitors the outcome.

    ``calibrated`` skips if all of these hold: the motion is in the retrieval zone; the arm moves at
    `speed` or faster; fewer than `max_consecutive` skips came before; grippers are unanimous and as
    last executed, and no entry is nearer than `clearance` steps to a change of its gripper; with
    `once`, the first entry was not executed before in the episode; with `agree`, the first entry is
    close to what was executed at the last verified step; similarity and dispersion are within the
    setting in force. ``threshold`` is the same with hand-set values. ``predicted`` requires the
    predictor's chance in place of `agree`, similarity and dispersion; its drift alarm expects at
    most the rest of that chance to be harmful. ``cadence`` requires only the
    zone and the count, ``random`` draws instead, ``always`` requires only entries. ``hold`` skips
    no retrieved action: `hold` decides when the last command is repeated instead.

    Shadow checks are counted over all tasks and for each task. A task that is halfway to its alarm
    is skipped one step at a time, and not at all after the alarm.

    With `feedback` a successful episode loosens the setting by one and a failed one tightens it,
    never beyond the setting that the calibration chose: stricter ones passed it as well.

    Args:
        settings: the mode's settings of skipping.
        calibration: of the database in use; without one ``calibrated`` never skips.
        seed: seed of random skips and of shadow verification.
        groups: `AnswerFormat.groups` of the answers that are executed; without any, different
            entries have no distance, and nothing is skipped on the grounds of their distance.

    Raises:
        CalibrationError: the mode skips more steps in a row, nearer to a change of the gripper, or
            at a lower speed, than was calibrated.
    """

    def __init__(
        self,
        settings: SkipSettings,
        calibration: Calibration | None = None,
        seed: int = 0,
        groups: Sequence[range] = POSE_GROUPS,
    ) -> None:
        self.settings = settings
        self._groups, self._motion = groups, motion_of(groups)
        self.calibration = calibration
        # The calibration that limits this gate; a random gate only takes its rate from it.
        self._path = calibration if settings.policy == "calibrated" else None
        self._setting: int | None = None
        self._drift: TaskAlarms | None = None
        self._task = ""
        self._executed: set[tuple[int, int]] = set()
        self._agreed = False
        if self._path is not None:
            _check_covered(settings, self._path)
            self._setting = self._path.chosen
            self._drift = TaskAlarms(self._path.drift_limit)
        if settings.policy == "predicted":
            # Each skip was said to be harmless with at least this chance.
            self._drift = TaskAlarms(min(max(1.0 - settings.chance, 0.01), 0.99))
        # Separate generators, so that shadow verification does not change which steps are skipped.
        self._draws, self._shadows = np.random.default_rng(seed).spawn(2)
        self._skips_in_a_row = 0
        self.reset()

    @property
    def setting(self) -> int | None:
        """Number of the calibrated setting in force, 0 the strictest; None without one."""
        return self._setting

    @property
    def alarm(self) -> str:
        """Why skipping was turned off, for diagnostics; empty while all is well."""
        if self._drift is None:
            return ""
        were = "calibrated" if self._path else "predicted"
        words = self._drift.describe("shadow-verified skips", were, "skipping {task}is off")
        return f"{words} ({FIX} if the alarm returns)" if words else ""

    @property
    def warning(self) -> str:
        """Why nothing is skipped although the mode is meant to; empty while all is well."""
        if self.settings.policy != "calibrated":
            return self.alarm
        if self._path is None:
            return f"nothing is skipped: no calibration; {FIX}"
        if self._setting is None:
            return f"nothing is skipped: no setting keeps the risk of {self._path.risk:.1%}"
        return self.alarm

    def decide(self, matches: Matches, context: SkipContext) -> SkipDecision:
        """Decides one step.

        Args:
            matches: the retrieved entries, best first; `tokens` are those that would be executed.
            context: the other inputs.
        """
        self._task = context.task
        skip, reason = self._judge(matches, context)
        self._skips_in_a_row = self._skips_in_a_row + 1 if skip else 0
        if skip:
            self._executed.add(_entry(matches))
        shadow = skip and bool(self._shadows.random() < self.settings.shadow_share)
        chance = None if math.isnan(context.harmless) else context.harmless
        return SkipDecision(skip, shadow, f"{'skip' if skip else 'no skip'}: {reason}", chance)

    def hold(self) -> str:
        """Returns why the last command is repeated blindly; empty if it is not (``hold``)."""
        if self.settings.policy != "hold":
            return ""
        skip, reason = self._by_chance(lambda measured: measured.skip_rate)
        return f"the last command once more: {reason}" if skip else ""

    def may_skip(self, speed: float) -> bool:
        """Whether the next step may be skipped by what is known before the database is searched.

        Args:
            speed: as in `SkipContext`.
        """
        settings = self.settings
        return (
            settings.policy not in ("never", "hold")
            and self._skips_in_a_row < self._longest_run()
            and (settings.speed == 0.0 or speed >= settings.speed)
        )

    def note_verified(self) -> None:
        """Records a step that the model decided without a call of `decide`."""
        self._skips_in_a_row = 0

    def observe_verified(self, matches: Matches, tokens: tuple[int, ...]) -> None:
        """Compares what a verified step executed with what was retrieved for it.

        This is a check at no cost: would the entry have done what the model decided?
        """
        self._agreed = self.near(matches.tokens[0], tokens)

    def near(
        self, entry: Sequence[int] | NDArray[np.int64], own: Sequence[int] | NDArray[np.int64]
    ) -> bool:
        """Whether an entry's motion is within `agree` of the model's own, and the rest is equal."""
        drafted, wanted = np.asarray(entry), np.asarray(own)
        most = np.zeros(len(drafted))
        most[self._motion] = self.settings.agree
        return drafted.shape == wanted.shape and bool((np.abs(drafted - wanted) <= most).all())

    def observe_shadow(self, agreed: bool) -> None:
        """Records the outcome of a skipped step that was verified nevertheless."""
        if self._drift is not None:
            self._drift.add(self._task, not agreed)

    def reset(self, success: bool | None = None) -> None:
        """Ends an episode. An alarm stays.

        Args:
            success: how it ended, where that is known.
        """
        # A cadence begins with a verified step, since it has no other condition.
        begins_verified = self.settings.policy == "cadence"
        self._skips_in_a_row = self.settings.max_consecutive if begins_verified else 0
        self._executed.clear()
        self._agreed = False
        if self._drift is not None:
            self._drift.end_episode()
        if self.settings.feedback and success is not None:
            self._feed_back(success)

    def _longest_run(self) -> int:
        """Returns the number of skips in a row that the current task may have."""
        most = self.settings.max_consecutive
        if self._path is not None:
            most = self._path.longest_run(self._setting, most)
        doubtful = self._drift is not None and self._drift.doubtful(self._task)
        return min(most, 1) if doubtful else most

    def _feed_back(self, success: bool) -> None:
        if self._path is None or self._path.chosen is None or self._setting is None:
            return
        wanted = self._setting + (1 if success else -1)
        self._setting = min(max(wanted, 0), self._path.chosen)

    def _judge(self, matches: Matches, context: SkipContext) -> tuple[bool, str]:
        """Returns whether to skip, and the reason."""
        settings = self.settings
        if settings.policy in ("never", "hold"):
            return False, "the mode never does"
        if len(matches.similarity) == 0:
            return False, "nothing was retrieved"
        if settings.policy == "always":
            return True, "the mode always does"
        if self._skips_in_a_row >= (longest := self._longest_run()):
            return False, f"{longest} in a row"
        if settings.policy == "random":
            return self._by_chance(lambda measured: measured.rate_of_retrieved)
        if not context.retrieval_zone:
            return False, "slow or curved motion"
        if settings.policy == "cadence":
            return True, "cadence"
        if settings.speed and not context.speed >= settings.speed:
            return False, f"{context.speed:.3f} m/s < {settings.speed:g}"
        if context.clearance < settings.clearance:
            return False, f"gripper changes in {context.clearance:.0f} steps or less"
        if settings.once and _entry(matches) in self._executed:
            return False, "no progress: the entry was executed before"
        if settings.policy == "predicted":
            return self._by_chance_of(matches, context)
        if settings.agree and not self._agreed:
            return False, "the nearest entry was not what the model decided at the last step"
        if settings.policy == "threshold":
            return self._by_entries(matches, context, settings.similarity, settings.dispersion)
        return self._by_calibration(matches, context)

    def _by_chance(self, calibrated: Callable[[TriedSetting], float]) -> tuple[bool, str]:
        rate = self.settings.rate
        if rate == 0.0:
            measured = self.calibration.measured if self.calibration is not None else None
            if measured is None:
                return False, f"no calibrated rate to draw by; {FIX}"
            rate = calibrated(measured)
        return bool(self._draws.random() < rate), f"by chance, rate {rate:.2f}"

    def _by_calibration(self, matches: Matches, context: SkipContext) -> tuple[bool, str]:
        path, setting = self._path, self._setting
        if path is None:
            return False, f"no calibration; {FIX}"
        if setting is None:
            return False, f"no calibrated setting keeps the risk of {path.risk:.1%}"
        if self._drifted():
            return False, self.alarm
        if not path.allows(self._task):
            return False, f"the calibration does not let {self._task!r} be skipped in"
        if len(matches.similarity) != path.k:
            return False, (
                f"{len(matches.similarity)} entries retrieved, calibrated were {path.k}; {FIX} "
                "with this mode"
            )
        least, most = path.similarity[setting], path.dispersion[setting]
        return self._by_entries(matches, context, least, most)

    def _by_entries(
        self, matches: Matches, context: SkipContext, least: float, most: float
    ) -> tuple[bool, str]:
        """Whether the entries are close and similar enough; comparisons are false for NaN."""
        if problem := self._unlike(matches, context):
            return False, problem
        nearest = float(matches.similarity[0])
        if not nearest >= least:
            return False, f"similarity {nearest:.3f} < {least:.3f}"
        spread = dispersion(matches.tokens, self._groups)
        if not spread <= most:
            return False, f"dispersion {spread:.1f} > {most:.1f}"
        return True, (
            f"similarity {nearest:.3f} >= {least:.3f}, dispersion {spread:.1f} <= {most:.1f}"
        )

    def _drifted(self) -> bool:
        """Whether an alarm was raised, over all tasks or for the current one."""
        return self._drift is not None and self._drift.raised(self._task)

    def _by_chance_of(self, matches: Matches, context: SkipContext) -> tuple[bool, str]:
        """Whether the predictor's chance is great enough; false for NaN."""
        if self._drifted():
            return False, self.alarm
        if problem := self._unlike(matches, context):
            return False, problem
        least = self.settings.chance
        enough = context.harmless >= least
        sign = ">=" if enough else "<"
        return enough, f"harmless with {context.harmless:.2f} {sign} {least:g} [{context.because}]"

    def _unlike(self, matches: Matches, context: SkipContext) -> str:
        """Returns why the first entry cannot be judged by its neighbours; empty if it can."""
        if not self._groups:
            return "tokens of this model have no distance"
        grippers = matches.tokens[:, self._motion.stop]
        if (grippers != grippers[0]).any():
            return "retrieved grippers differ"
        if context.gripper != int(grippers[0]):
            return "no gripper command yet" if context.gripper is None else "gripper changes"
        return ""


def _check_covered(settings: SkipSettings, calibration: Calibration) -> None:
    """Raises CalibrationError if a mode skips what the calibration did not."""
    problem = ""
    if settings.max_consecutive > calibration.max_consecutive:
        problem = (
            f"skip.max_consecutive is {settings.max_consecutive}, calibrated were "
            f"{calibration.max_consecutive} skips in a row at most; lower it"
        )
    elif settings.clearance < calibration.clearance:
        problem = (
            f"skip.clearance is {settings.clearance}, calibrated were {calibration.clearance} "
            "control steps to a change of the gripper at least; raise it"
        )
    elif settings.speed < calibration.speed:
        problem = (
            f"skip.speed is {settings.speed:g}, calibrated were {calibration.speed:g} m/s at "
            "least; raise it"
        )
    if problem:
        raise CalibrationError(f"{problem}, or {FIX} with this mode")


def _entry(matches: Matches) -> tuple[int, int]:
    """Returns episode and step of the entry that would be executed."""
    return int(matches.episodes[0]), int(matches.steps[0])
