"""When a retrieved action is executed without asking the language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.calibration import FIX, Calibration, TriedSetting
from heisd_ros.decoding.conformal import DriftAlarm
from heisd_ros.decoding.settings import SkipSettings
from heisd_ros.errors import CalibrationError
from heisd_ros.retrieval.database import Matches
from heisd_ros.vla.action_codec import POSE_GROUPS, motion_of


@dataclass(frozen=True)
class SkipContext:
    """What a step knows beside its retrieved entries.

    Attributes:
        retrieval_zone: whether the kinematic metric trusts retrieval.
        gripper: token id of the last executed gripper command; None at an episode's start.
        clearance: control steps until the first retrieved entry comes to a change of its gripper.
        speed: of the end effector now, m/s; NaN where nothing is known of it.
        task: the instruction, which has a gate of its own.
    """

    retrieval_zone: bool
    gripper: int | None
    clearance: float = math.inf
    speed: float = math.inf
    task: str = ""


@dataclass(frozen=True)
class SkipDecision:
    """Whether to skip.

    Attributes:
        skip: execute the retrieved action.
        shadow: verify it all the same, for the statistics; false where it isn't skipped.
        reason: for a reader of the telemetry.
    """

    skip: bool
    shadow: bool
    reason: str


def dispersion(tokens: NDArray[np.int64], groups: Sequence[range] = POSE_GROUPS) -> float:
    """How much retrieved drafts differ, in bins.

    Args:
        tokens: [K, N] token ids. One id is one bin, so ids serve as bins.
        groups: `AnswerFormat.groups`: which tokens are bins.

    Returns:
        the greatest standard deviation among the tokens of motion.
    """
    return float(tokens[:, motion_of(groups)].std(axis=0).max())


class SkipGate:
    """Decides step by step whether verification is skipped, and watches how that goes.

    ``calibrated`` skips where all of these hold: the retrieval zone; the arm at
    `speed` or faster; fewer than `max_consecutive` skips before; grippers unanimous and as last
    executed, no entry nearer than `clearance` steps to a change of its gripper; with `once`, the
    first entry not executed before in the episode; with `agree`, the first entry near to what was
    executed at the last verified step; similarity and dispersion within the setting in force.
    ``threshold`` is the same with hand-set values. ``cadence`` asks for the zone and the
    count alone, ``random`` draws instead, ``always`` asks for nothing but entries. ``hold`` skips
    no retrieved action: `hold` says when the last command is repeated instead.

    Shadow checks are counted over all tasks and for each task. A task that is half of the way to
    its alarm is skipped one step at a time, and not at all after the alarm.

    With `feedback` a successful episode loosens the setting by one and a failed one tightens it,
    never beyond the setting that the calibration chose: stricter ones passed it as well.

    Args:
        settings: the mode's.
        calibration: of the database in use; without one ``calibrated`` never skips.
        seed: of random skips and of shadow verification.
        groups: `AnswerFormat.groups` of the answers that are executed; without any, entries that
            are not the same have no distance, and nothing is skipped by how near they are.

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
        # What binds this gate; a random one only takes its rate from the calibration.
        self._path = calibration if settings.policy == "calibrated" else None
        self._setting: int | None = None
        self._drift: DriftAlarm | None = None
        self._tasks: dict[str, DriftAlarm] = {}
        self._task = ""
        self._executed: set[tuple[int, int]] = set()
        self._agreed = False
        if self._path is not None:
            _check_covered(settings, self._path)
            self._setting = self._path.chosen
            self._drift = DriftAlarm(self._path.drift_limit)
        # Apart, so that shadow verification doesn't change which steps are skipped.
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
        raised = [(task, alarm) for task, alarm in self._tasks.items() if alarm.raised]
        if self._drift is not None and self._drift.raised:
            raised.insert(0, ("", self._drift))
        if not raised:
            return ""
        task, alarm = raised[0]
        return (
            f"drift: {alarm.losses} of {alarm.checks} shadow-verified skips left the tolerance, "
            f"calibrated were {alarm.limit:.1%}; skipping {f'in {task!r} ' if task else ''}is off "
            f"until the node is cleaned up and configured again ({FIX} if the alarm returns)"
        )

    @property
    def warning(self) -> str:
        """Why nothing is skipped although the mode is meant to; empty while all is well."""
        if self.settings.policy != "calibrated":
            return ""
        if self._path is None:
            return f"nothing is skipped: no calibration; {FIX}"
        if self._setting is None:
            return f"nothing is skipped: no setting keeps the risk of {self._path.risk:.1%}"
        return self.alarm

    def decide(self, matches: Matches, context: SkipContext) -> SkipDecision:
        """Decides one step.

        Args:
            matches: the retrieved entries, best first; `tokens` are those that would be executed.
            context: the rest.
        """
        self._task = context.task
        skip, reason = self._judge(matches, context)
        self._skips_in_a_row = self._skips_in_a_row + 1 if skip else 0
        if skip:
            self._executed.add(_entry(matches))
        shadow = skip and bool(self._shadows.random() < self.settings.shadow_share)
        return SkipDecision(skip, shadow, f"{'skip' if skip else 'no skip'}: {reason}")

    def hold(self) -> str:
        """Why the last command is repeated without looking; empty where it isn't (``hold``)."""
        if self.settings.policy != "hold":
            return ""
        skip, reason = self._by_chance(lambda measured: measured.skip_rate)
        return f"the last command once more: {reason}" if skip else ""

    def note_verified(self) -> None:
        """Takes note of a step that the model decided without `decide` being asked."""
        self._skips_in_a_row = 0

    def observe_verified(self, matches: Matches, tokens: tuple[int, ...]) -> None:
        """Takes what a verified step executed, beside what was retrieved for it.

        It is a check that costs nothing: would the entry have done what the model decided?
        """
        entry, own = matches.tokens[0], np.asarray(tokens)
        most = np.zeros(len(entry))
        most[self._motion] = self.settings.agree
        self._agreed = entry.shape == own.shape and bool((np.abs(entry - own) <= most).all())

    def observe_shadow(self, agreed: bool) -> None:
        """Takes the outcome of a skipped step that was verified all the same."""
        if self._drift is not None:
            self._drift.add(not agreed)
            self._of_task(self._drift.limit).add(not agreed)

    def reset(self, success: bool | None = None) -> None:
        """Ends an episode. An alarm stays.

        Args:
            success: how it ended, where that is known.
        """
        # A cadence begins with the model, since it asks for no other condition.
        begins_verified = self.settings.policy == "cadence"
        self._skips_in_a_row = self.settings.max_consecutive if begins_verified else 0
        self._executed.clear()
        self._agreed = False
        for alarm in self._alarms():
            alarm.end_episode()
        if self.settings.feedback and success is not None:
            self._feed_back(success)

    def _alarms(self) -> list[DriftAlarm]:
        return [] if self._drift is None else [self._drift, *self._tasks.values()]

    def _of_task(self, limit: float) -> DriftAlarm:
        """The watch over the task of the newest step."""
        return self._tasks.setdefault(self._task, DriftAlarm(limit))

    def _longest_run(self) -> int:
        """Skips in a row that the task at hand may have."""
        alarm, most = self._tasks.get(self._task), self.settings.max_consecutive
        if self._path is not None:
            most = self._path.longest_run(self._setting, most)
        return min(most, 1) if alarm is not None and alarm.doubtful else most

    def _feed_back(self, success: bool) -> None:
        if self._path is None or self._path.chosen is None or self._setting is None:
            return
        wanted = self._setting + (1 if success else -1)
        self._setting = min(max(wanted, 0), self._path.chosen)

    def _judge(self, matches: Matches, context: SkipContext) -> tuple[bool, str]:
        """Whether to skip, and why or why not."""
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
        if self._drift is not None and (
            self._drift.raised or self._of_task(self._drift.limit).raised
        ):
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
        """Whether the entries are near and alike enough; written so that NaN speaks against."""
        if not self._groups:
            return False, "tokens of this model have no distance"
        grippers = matches.tokens[:, self._motion.stop]
        if (grippers != grippers[0]).any():
            return False, "retrieved grippers differ"
        if context.gripper != int(grippers[0]):
            return False, "no gripper command yet" if context.gripper is None else "gripper changes"
        nearest = float(matches.similarity[0])
        if not nearest >= least:
            return False, f"similarity {nearest:.3f} < {least:.3f}"
        spread = dispersion(matches.tokens, self._groups)
        if not spread <= most:
            return False, f"dispersion {spread:.1f} > {most:.1f}"
        return True, (
            f"similarity {nearest:.3f} >= {least:.3f}, dispersion {spread:.1f} <= {most:.1f}"
        )


def _check_covered(settings: SkipSettings, calibration: Calibration) -> None:
    """Raises CalibrationError where a mode skips what the calibration did not."""
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
    """Episode and step of the entry that would be executed."""
    return int(matches.episodes[0]), int(matches.steps[0])
