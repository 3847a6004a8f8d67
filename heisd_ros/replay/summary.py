"""Summarises a replay: reproducible numbers, and separately the times.

`summarise` uses no clock: the same bag, model and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.decoding.acceptance import within_tolerance
from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.accounting import Row, decoding_summary, step_columns, time_summary
from heisd_ros.replay.mode_replay import ModeReplay, ReplayedStep
from heisd_ros.replay.recorded import RecordedActions, deviation
from heisd_ros.replay.run import REFERENCE, Replayed
from heisd_ros.vla.action_codec import AnswerFormat

FORMAT, KIND = 1, "replay"
RESULTS, LATENCIES = "replay.json", "latency.json"
_TIMED = ("ms", "parts_ms")


def summarise(replayed: Replayed, described: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the contents of the results file.

    Args:
        replayed: Result of the replay.
        described: What is run, from `describe`.

    Returns:
        format; what was run; recording (topics, messages, seconds, problem); modes, for each its
        settings and its summary (`mode_summary`); steps, for each mode its columns.
    """
    reference = {step.at: step for step in replayed.modes[REFERENCE].steps}
    modes, steps = {}, {}
    for name, replay in replayed.modes.items():
        modes[name] = {
            **described["modes"][name],
            **mode_summary(replay, reference, replayed.recorded, replayed.answer),
        }
        steps[name] = _columns(replay, reference, replayed.answer)
    recording = {
        "topics": replayed.topics.named(),
        "messages": dict(sorted(replayed.messages.items())),
        "seconds": round(replayed.seconds, 3),
        "problem": replayed.problem,
    }
    header = {name: value for name, value in described.items() if name != "modes"}
    about = {"format": FORMAT, "kind": KIND, **header, "recording": recording}
    # As it is read back: tuples become lists.
    return json.loads(json.dumps({**about, "modes": modes, "steps": steps}))


def mode_summary(
    replay: ModeReplay,
    reference: Mapping[int, ReplayedStep],
    recorded: RecordedActions | None,
    answer: AnswerFormat,
) -> dict[str, Any]:
    """Summarises one mode.

    Args:
        replay: The mode.
        reference: Steps of the reference mode by their time.
        recorded: Commands of the bag.
        answer: Format of the model's answers.

    Returns:
        steps and the rate of the control grid; inputs, what became of them; holds, by reason;
        deviation from `ar` and from the `recorded` command; skips, how many were executed, how many
        of these were judged by the reference, not judged, judged wrong, and how many move the
        gripper otherwise; where there are steps, what `decoding_summary` says.
    """
    pairs = [(step, reference[step.at]) for step in replay.steps if step.at in reference]
    skips = [(ours, theirs) for ours, theirs in pairs if ours.record.result.source == Source.SKIP]
    executed = sum(step.record.result.source == Source.SKIP for step in replay.steps)
    judged = sum(is_judged(ours, theirs) for ours, theirs in skips)
    summary = {
        "steps": len(replay.steps),
        "rate_hz": replay.rate_hz,
        "inputs": {
            "sets": {name: replay.counts[name] for name in sorted(replay.counts)},
            "rejected": {name: _sorted(counts) for name, counts in sorted(replay.rejected.items())},
            "instructions refused": len(replay.refused),
        },
        "holds": _sorted(Counter({str(k): n for k, n in replay.holds.counts.items()})),
        "deviation": {
            "ar": deviation(
                [ours.record.result.action for ours, _ in pairs],
                [theirs.record.result.action for _, theirs in pairs],
                "units of the action",
            ),
            "recorded": None if recorded is None else _from_recorded(replay.steps, recorded),
        },
        "skips": {
            "executed": executed,
            "judged": judged,
            "not judged": executed - judged,
            "wrong": sum(is_wrong(ours, theirs, answer) for ours, theirs in skips),
            "gripper": sum(ours.closing != theirs.closing for ours, theirs in skips),
        },
    }
    rows = [_row(replay)]
    return {**summary, **decoding_summary(rows)} if replay.steps else summary


def is_judged(skipped: ReplayedStep, reference: ReplayedStep) -> bool:
    """Whether a step executed unverified can be compared with that of the reference.

    A later action of a chunk has no tokens: its first one is judged for all, where the reference
    begins a chunk at the same time.

    Args:
        skipped: The step.
        reference: The step of the reference mode at the same time.
    """
    return bool(skipped.record.result.tokens and reference.record.result.tokens)


def is_wrong(skipped: ReplayedStep, reference: ReplayedStep, answer: AnswerFormat) -> bool:
    """Whether a step executed unverified is judged, and is outside the tolerance of verification.

    Args:
        skipped: The step.
        reference: The step of the reference mode at the same time.
        answer: Format of the answers of both.
    """
    tokens, own = skipped.record.result.tokens, reference.record.result.tokens
    return is_judged(skipped, reference) and not within_tolerance(tokens, own, answer)


def summarise_latency(
    replayed: Replayed, described: Mapping[str, Any], machine: str
) -> dict[str, Any]:
    """Returns the contents of the file of times, which differ from run to run.

    Args:
        replayed: Result of the replay.
        described: What is run, from `describe`.
        machine: Description of the machine.
    """
    modes = {}
    for name, replay in replayed.modes.items():
        if replay.steps:
            row = _row(replay)
            converted = np.mean([step.convert_ms for step in replay.steps])
            modes[name] = {
                **time_summary([row]),
                "convert_ms": round(float(converted), 3),
                "ms": row["ms"],
                "settled": row["settled"],
            }
    return {
        "format": FORMAT,
        "kind": f"{KIND} latency",
        "machine": machine,
        "bag": described["bag"],
        "modes": modes,
    }


def rows_of(replayed: Replayed) -> list[Row]:
    """Returns a row for each mode with steps, as for the plots of an evaluation."""
    return [
        {**_row(replay), "mode": name, "title": name, "rate_hz": replay.rate_hz}
        for name, replay in replayed.modes.items()
        if replay.steps
    ]


def write(path: Path, contents: Mapping[str, Any]) -> None:
    """Writes a file, with one line per column of steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = contents.get("steps", {})
    head = json.dumps({name: x for name, x in contents.items() if name != "steps"}, indent=1)
    lines = [
        f"{json.dumps(mode)}: {{\n"
        + ",\n".join(f"{json.dumps(name)}: {_line(column)}" for name, column in columns.items())
        + "\n}"
        for mode, columns in steps.items()
    ]
    tail = ',\n "steps": {\n' + ",\n".join(lines) + "\n}\n}\n" if lines else "\n}\n"
    path.write_text(head.removesuffix("\n}") + tail, encoding="utf-8")


def _line(column: Any) -> str:
    return json.dumps(column, separators=(",", ":"))


def _row(replay: ModeReplay) -> Row:
    records = [step.record for step in replay.steps]
    return step_columns(records, [step.closing for step in replay.steps])


def _columns(
    replay: ModeReplay, reference: Mapping[int, ReplayedStep], answer: AnswerFormat
) -> dict[str, Any]:
    """Returns the columns of the steps, without times."""
    columns = {name: x for name, x in _row(replay).items() if name not in _TIMED}
    columns["settled"] = [[step, agrees] for step, _, agrees in columns["settled"]]
    steps = replay.steps
    wrong = [
        index
        for index, step in enumerate(steps)
        if step.record.result.source == Source.SKIP
        and step.at in reference
        and is_wrong(step, reference[step.at], answer)
    ]
    return {
        **columns,
        "ms_since_start": [round(step.at / 1e6, 3) for step in steps],
        "observation": [step.digest for step in steps],
        "tokens": [list(map(int, step.record.result.tokens)) for step in steps],
        "action": [[round(float(x), 6) for x in step.record.result.action] for step in steps],
        "wrong_skips": wrong,
    }


def _from_recorded(steps: list[ReplayedStep], recorded: RecordedActions) -> dict[str, Any] | None:
    pairs = [
        (step.twist if recorded.is_twist else step.record.result.action, found)
        for step in steps
        if (found := recorded.of(step)) is not None
    ]
    # Actions of the joints and of the end effector are not compared.
    pairs = [(ours, theirs) for ours, theirs in pairs if ours.shape == theirs.shape]
    unit = "m/s and rad/s" if recorded.is_twist else "units of the action"
    return deviation([ours for ours, _ in pairs], [theirs for _, theirs in pairs], unit)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
