"""What the numbers of a calibration guarantee and what they don't, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from heisd_ros.decoding.calibrated_path import CalibratedPath
    from heisd_ros.decoding.calibration import Calibration


class Words(NamedTuple):
    """What the text calls a part of a mode.

    Attributes:
        nothing: what holds where no setting is within the risk.
        loses: what an episode loses by ``disagreement``.
        were: what the steps did that were not decoded in full.
        gate: what holds for tasks that lost more than the risk.
        parts: what an episode must share with those of the calibration.
    """

    nothing: str
    loses: str
    were: str
    gate: str
    parts: str


def guarantee_of(calibration: CalibratedPath) -> str:
    """Returns the text to show beside a calibration's numbers."""
    measured, words = calibration.measured, calibration.WORDS
    if measured is None:
        return (
            f"No setting kept the risk of {calibration.risk:.1%} over {calibration.episodes} "
            f"episodes: {words.nothing}."
        )
    what, other = (
        ("fail the task", "not about disagreement with the VLA")
        if calibration.criterion == "failure"
        else (words.loses, "not about failing the task")
    )
    condition = (
        ""
        if calibration.rule == "path_maximum" or calibration.length == 1
        else ", if no episode's loss falls from a setting to a looser one"
    )
    return (
        f"Proved (conformal risk control, rule {calibration.rule}): the mean of what fresh "
        f"episodes lose ({what}), over calibrations like this one and over all tasks together, is "
        f"at most {calibration.risk:.1%}{condition}. Measured: {measured.loss:.1%} in "
        f"{measured.episodes} episodes, in which {measured.skip_rate:.0%} of the steps "
        f"{words.were}, {measured.disagreement:.0%} of them outside the tolerance; "
        f"{measured.bound:.1%} with one lost episode added, which is compared to the risk and "
        "bounds nothing. Not proved: the loss at this one calibration, of one task, or beside "
        f"the plain loop. {_gates(calibration)} It is {other}, and {_scope(calibration)}"
    )


def guarantee_of_pairs(calibration: Calibration) -> str:
    """Returns the text of a calibration by ``excess``."""
    measured = calibration.measured
    runs, margin = ", ".join(map(str, calibration.runs)), f"{100 * calibration.risk:g} points"
    test = (
        f"betting test of the mean excess against {margin} at level {calibration.delta:.0%}, in "
        f"fixed sequence over {runs} skips in a row"
    )
    if measured is None or calibration.chosen is None:
        ran = calibration.tried[0].episodes if calibration.tried else 0
        return (
            f"Not shown for {runs.split(',')[0]} skips in a row, with {ran} pairs ({test}): "
            "nothing is skipped."
        )
    return (
        f"Proved ({test}): with at most {calibration.runs[calibration.chosen]} skips in a row the "
        f"mode fails less than {margin} more often than the plain loop, from fresh starts and over "
        f"all tasks together; the chance that this was concluded of any setting for which it is "
        f"wrong is at most {calibration.delta:.0%}. Measured: {measured.episodes} pairs from the "
        f"same starts, {measured.won} solved by the mode alone and {measured.lost} by the plain "
        f"loop alone, an excess of {100 * measured.loss:+.1f} points, below "
        f"{100 * measured.bound:.1f} with {1 - calibration.delta:.0%} confidence; "
        f"{measured.skip_rate:.0%} of the steps were skipped, {measured.disagreement:.0%} of them "
        f"outside the tolerance. Not proved: anything of one task. {_gates(calibration)} It "
        f"{_scope(calibration)}"
    )


def _gates(calibration: CalibratedPath) -> str:
    refused = sum(not calibration.allows(task) for task in calibration.tasks)
    return (
        f"{refused} of {len(calibration.tasks)} tasks lost more than the risk and "
        f"{calibration.WORDS.gate}, a gate that the calibration ran without."
    )


def _scope(calibration: CalibratedPath) -> str:
    return (
        "holds for episodes that come about as these did: same tasks, scenes, cameras, "
        f"{calibration.WORDS.parts} of the mode ({calibration.mode}, {calibration.mode_hash[:12]})."
    )
