"""Conformal risk control over a path of settings, and monitoring of it in operation.

An episode's loss is a number in [0, 1]. Settings lie on a path from strict to loose. With the
losses of n episodes at a setting, (sum of losses + 1) / (n + 1) bounds the expected loss of the
next episode (conformal risk control, arXiv 2208.02814, losses of at most 1). The path is walked
from its strict end until a bound exceeds the risk (fixed-sequence testing, as in arXiv 2110.01052),
and the last setting before that is chosen.

What is guaranteed, and what is not:

- Episodes must be exchangeable: the next one is drawn as the calibrated ones were. Steps need not
  be; an episode is one unit, whatever its length.
- ``path_maximum`` replaces each loss by the greatest of its episode so far along the path. Then the
  expected loss of a fresh episode, at the chosen setting or at any stricter one, is at most the
  risk, whatever the losses do along the path. All settings must have seen the same episodes.
- ``each_setting`` takes the losses as they are. The guarantee then holds only if no episode's loss
  falls along the path, which a closed loop does not ensure: another setting takes the arm
  elsewhere. It accepts looser settings. ``test_conformal.py`` measures both rules where the truth
  is known.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Literal["each_setting", "path_maximum"]


def least_episodes(risk: float) -> int:
    """The fewest episodes with which any setting can pass: 19 at a risk of 5%.

    Raises:
        ValueError: the risk is not in (0, 1).
    """
    _check_risk(risk)
    # Rounded, since 1 / 0.05 may be slightly above 20 in floating point.
    return max(1, int(np.ceil(round(1.0 / risk, 9))) - 1)


def risk_bounds(losses: ArrayLike, rule: Rule = "each_setting") -> NDArray[np.float64]:
    """Bounds the expected loss of a fresh episode at each setting.

    Args:
        losses: [n, J] in [0, 1], the loss of each episode at each setting, strict to loose.
        rule: see the module's docstring.

    Returns:
        [J], the bounds.

    Raises:
        ValueError: there is no episode, or a loss is not in [0, 1].
    """
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or len(table) == 0:
        raise ValueError(f"losses must be [episodes, settings], got shape {table.shape}")
    if not ((table >= 0.0) & (table <= 1.0)).all():
        raise ValueError("every loss must be in [0, 1]")
    if rule == "path_maximum":
        table = np.maximum.accumulate(table, axis=1)
    bounds: NDArray[np.float64] = (table.sum(axis=0) + 1.0) / (len(table) + 1.0)
    return bounds


def choose(bounds: ArrayLike, risk: float) -> int | None:
    """Returns the loosest setting up to which all bounds are within the risk; None if none is.

    Raises:
        ValueError: the risk is not in (0, 1).
    """
    _check_risk(risk)
    holds = np.asarray(bounds, dtype=np.float64) <= risk
    passed = len(holds) if holds.all() else int(np.argmin(holds))
    return passed - 1 if passed else None


def least_bound(losses: ArrayLike, episodes: int) -> float:
    """Returns the least value that a setting's bound can still take, whatever episodes follow.

    Args:
        losses: the losses known so far; with `episodes` of them the result is the bound itself.
        episodes: how many there will be.
    """
    known = np.asarray(losses, dtype=np.float64)
    at_best = np.zeros((episodes, 1))
    at_best[: len(known), 0] = known
    return float(risk_bounds(at_best)[0])


class DriftAlarm:
    """Detects, from checks of single steps, that episodes lose more than was guaranteed.

    It bets against the hypothesis that an episode's mean loss is at most `limit`: after each
    episode the wealth is multiplied by 1 + stake * (mean of its checks - limit), whose expectation
    is at most 1 while the hypothesis holds; it never falls below 1 (an e-detector of CUSUM form,
    arXiv 2203.03532). So false alarms are on average at least `patience` episodes apart. The
    episode is the unit because its steps are not independent: one odd episode must not count as
    many odd steps.

    Args:
        limit: greatest mean loss guaranteed, in (0, 1).
        patience: least mean number of episodes until a false alarm. At 100, twice the limit is
            noticed within 10 episodes in the median: a limit of 45% to 60% with two checks an
            episode, 30% with three, 20% with five, 10% with ten.

    Raises:
        ValueError: the limit is not in (0, 1), or the patience not above 1.
    """

    BATCH = 50
    """Checks after which an episode counts as ended, so that an endless run can raise the alarm."""

    def __init__(self, limit: float, patience: float = 100.0) -> None:
        _check_risk(limit)
        if not patience > 1.0:
            raise ValueError(f"patience must be above 1, got {patience}")
        self.limit = limit
        self.patience = patience
        # Of the greatest stake that keeps the factor positive: twice the limit multiplies the
        # wealth by 1.9 an episode, and half of that stake needs twice as many episodes.
        self._stake = 0.9 / limit
        self._wealth = 1.0
        self._episode: list[float] = []
        self._checks = self._losses = 0
        self._raised = False

    @property
    def raised(self) -> bool:
        """Whether the alarm was raised; it stays raised."""
        return self._raised

    @property
    def doubtful(self) -> bool:
        """Whether the evidence is half of what raises the alarm, on a logarithmic scale."""
        return self._wealth >= math.sqrt(self.patience)

    @property
    def checks(self) -> int:
        """Number of checks so far."""
        return self._checks

    @property
    def losses(self) -> int:
        """Number of checks so far that failed."""
        return self._losses

    def add(self, lost: bool) -> None:
        """Adds the check of one step; `lost`: it failed."""
        self._episode.append(float(lost))
        self._checks += 1
        self._losses += int(lost)
        if len(self._episode) >= self.BATCH:
            self.end_episode()

    def end_episode(self) -> None:
        """Updates the wealth with the episode's checks; without any, nothing changes."""
        if not self._episode:
            return
        factor = 1.0 + self._stake * (float(np.mean(self._episode)) - self.limit)
        self._wealth = max(1.0, self._wealth) * factor
        self._raised = self._raised or self._wealth >= self.patience
        self._episode.clear()


class TaskAlarms:
    """A drift alarm over all tasks and one for each, as a bad task may hide among good ones.

    Args:
        limit: as in `DriftAlarm`, for all of them.

    Raises:
        ValueError: the limit is not in (0, 1).
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._all = DriftAlarm(limit)
        self._tasks: dict[str, DriftAlarm] = {}

    def add(self, task: str, lost: bool) -> None:
        """Adds the check of one step of a task; `lost`: it failed."""
        self._all.add(lost)
        self._tasks.setdefault(task, DriftAlarm(self.limit)).add(lost)

    def end_episode(self) -> None:
        """Ends the episode of all alarms."""
        for alarm in (self._all, *self._tasks.values()):
            alarm.end_episode()

    def raised(self, task: str) -> bool:
        """Whether the alarm of all tasks or that of this one was raised."""
        return self._all.raised or (task in self._tasks and self._tasks[task].raised)

    def doubtful(self, task: str) -> bool:
        """Whether the alarm of this task is doubtful, see `DriftAlarm.doubtful`."""
        return task in self._tasks and self._tasks[task].doubtful

    def describe(self, checks: str, were: str, off: str) -> str:
        """Returns in words the alarm that counts most; empty if none was raised.

        Args:
            checks: what was checked, in the plural.
            were: how the limit was found.
            off: what is off because of it; it says ``{task}`` where the task belongs, if it is of
                one.
        """
        for task, alarm in [("", self._all), *self._tasks.items()]:
            if alarm.raised:
                within = off.format(task=f"in {task!r} " if task else "")
                return (
                    f"drift: {alarm.losses} of {alarm.checks} {checks} left the tolerance, {were} "
                    f"were {alarm.limit:.1%}; {within} until the node is cleaned up and configured "
                    "again"
                )
        return ""


def _check_risk(risk: float) -> None:
    if not 0.0 < risk < 1.0:
        raise ValueError(f"a risk must be in (0, 1), got {risk}")
