"""What the numbers of a calibration promise, in words, and what they don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heisd_ros.decoding.calibration import Calibration, TriedSetting


def promise_of(calibration: Calibration) -> str:
    """One text for wherever the numbers are shown."""
    measured = calibration.measured
    if calibration.criterion == "excess":
        return _of_pairs(calibration, measured)
    if measured is None:
        return (
            f"No setting kept the risk of {calibration.risk:.1%} over {calibration.episodes} "
            "episodes: nothing is skipped."
        )
    what, other = (
        ("fail the task", "not about disagreement with the VLA")
        if calibration.criterion == "failure"
        else (
            "leave the tolerance around the VLA's own action, of its skipped steps",
            "not about failing the task",
        )
    )
    condition = (
        ""
        if calibration.rule == "path_maximum" or len(calibration.similarity) == 1
        else ", if no episode's loss falls from a setting to a looser one"
    )
    return (
        f"Proved (conformal risk control, rule {calibration.rule}): the mean of what fresh "
        f"episodes lose ({what}), over calibrations like this one and over all tasks together, is "
        f"at most {calibration.risk:.1%}{condition}. Measured: {measured.loss:.1%} in "
        f"{measured.episodes} episodes, in which {measured.skip_rate:.0%} of the steps were "
        f"skipped, {measured.disagreement:.0%} of them outside the tolerance; "
        f"{measured.bound:.1%} with one lost episode added, which is compared to the risk and "
        "bounds nothing. Not proved: the loss at this one calibration, of one task, or beside "
        f"the plain loop. {_gates(calibration)} It is {other}, and {_scope(calibration)}"
    )


def _of_pairs(calibration: Calibration, measured: TriedSetting | None) -> str:
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


def _gates(calibration: Calibration) -> str:
    refused = sum(not calibration.allows(task) for task in calibration.tasks)
    return (
        f"{refused} of {len(calibration.tasks)} tasks lost more than the risk and are not skipped "
        "in, a gate that the calibration ran without."
    )


def _scope(calibration: Calibration) -> str:
    return (
        "holds for episodes that come about as these did: same tasks, scenes, cameras, model, "
        f"database and settings of the mode ({calibration.mode}, {calibration.mode_hash[:12]})."
    )
