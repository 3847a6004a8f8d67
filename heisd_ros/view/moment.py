"""What a view shows of one control step, whether from telemetry or from a row of results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heisd_ros.decoding.types import TIMING_KEYS, Source

PARTS = ("wait", "convert", *TIMING_KEYS[:-1], "settle", "total")
"""Parts of a step's time that are shown, in this order, where they are there."""
LONGEST = 2000
"""Longer texts are cut to this many characters."""
POLICY = "policy"


@dataclass(frozen=True)
class Moment:
    """One control step, or one tick of a hold.

    Attributes:
        source: What decided it; usually a `Source`.
        step: Number of the step since activation.
        instruction: What the arm was told; empty: nothing, or it is not known.
        reason: Why that source, or why the arm is held.
        commander: Who commands the arm.
        reasoning: What the model said before its action; empty where it says nothing.
        metric: The fused metric F; NaN while it is not known.
        boundary: The boundary of F; NaN where the mode has none.
        latency_ms: Milliseconds by `PARTS`; empty for a hold.
        twist: (6,) command as sent, m/s and rad/s; None where it is not known.
        frame: Frame of the twist.
        gripper: Commanded opening, m; NaN where it is not known.
        similarity: Cosine of the best retrieved entry; NaN without retrieval.
        accepted: Drafted tokens that were accepted; -1 where nothing was verified.
        passes: Passes of the language model.
        corrected: Whether the model disagreed with the step before, which was not verified.
        dry_run: Whether nothing is sent to the arm.
        disagreement: How far the policy's motion is from the person's who commands, 0 to 1; else
            NaN.
    """

    source: str
    step: int = 0
    instruction: str = ""
    reason: str = ""
    commander: str = POLICY
    reasoning: str = ""
    metric: float = math.nan
    boundary: float = math.nan
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    twist: np.ndarray | None = None
    frame: str = ""
    gripper: float = math.nan
    similarity: float = math.nan
    accepted: int = -1
    passes: int = 0
    corrected: bool = False
    dry_run: bool = False
    disagreement: float = math.nan

    @property
    def held(self) -> bool:
        """Whether the arm is held."""
        return self.source == Source.HOLD

    @property
    def label(self) -> str:
        """What decided it, in words."""
        known = Source.named(self.source)
        return known.label if known else self.source

    @property
    def colour(self) -> tuple[int, int, int]:
        """Red, green and blue of its source, 0 to 255; white for an unknown one."""
        return colour_of(self.source)

    def headline(self) -> str:
        """Returns one line for the foot of a picture."""
        if self.held:
            return f"HOLD {self.reason}"[:80]
        parts = [self.label, f"step {self.step}"]
        if math.isfinite(self.metric):
            parts.append(f"F {self.metric:.2f}")
        if "total" in self.latency_ms:
            parts.append(f"{self.latency_ms['total']:.0f} ms")
        return ", ".join(parts)

    def lines(self) -> list[str]:
        """Returns all of it in words, a fact a line."""
        commands = self.commander
        if math.isfinite(self.disagreement):
            commands += f", the policy disagrees by {self.disagreement:.2f}"
        if self.dry_run:
            commands += " (dry run: nothing is sent)"
        facts = {
            "instruction": self.instruction or "none",
            "commands": commands,
            "arm": f"held: {self.reason}" if self.held else "acts",
        }
        if not self.held:
            why = f": {self.reason}" if self.reason else ""
            facts["step"] = f"{self.step}, {self.label}{why}"
            facts["decoding"] = self._decoding()
            if "total" in self.latency_ms:
                facts["time"] = f"{self.latency_ms['total']:.1f} ms from images to command"
        if math.isfinite(self.metric):
            bound = f", boundary {self.boundary:.2f}" if math.isfinite(self.boundary) else ""
            facts["metric"] = f"F {self.metric:.2f}{bound}"
        if self.twist is not None:
            linear, angular = (np.linalg.norm(part) for part in np.split(self.twist, 2))
            facts["command"] = f"{linear:.3f} m/s, {angular:.2f} rad/s" + (
                f", gripper {self.gripper:.3f} m" if math.isfinite(self.gripper) else ""
            )
        if self.reasoning:
            facts["reasoning"] = self.reasoning
        return [f"{name}: {text}"[:LONGEST] for name, text in facts.items()]

    def _decoding(self) -> str:
        parts = [f"{self.passes} passes"]
        if self.accepted >= 0:
            parts.append(f"{self.accepted} drafted tokens accepted")
        if math.isfinite(self.similarity):
            parts.append(f"similarity {self.similarity:.3f}")
        if self.corrected:
            parts.append("the model disagreed with the step before")
        return ", ".join(parts)


def colour_of(source: str) -> tuple[int, int, int]:
    """Returns red, green and blue of a source, 0 to 255; white for an unknown one."""
    known = Source.named(source)
    rgb = known.rgb if known else (1.0, 1.0, 1.0)
    red, green, blue = (round(255 * part) for part in rgb)
    return red, green, blue


def of_telemetry(message: Any) -> Moment:
    """Reads a StepTelemetry, live or recorded, by its fields.

    A message that another version recorded may lack fields; they count as unknown.
    """
    metric, latency = getattr(message, "metric", None), getattr(message, "latency", None)
    times = {part: _number(latency, part) for part in PARTS}
    twist = np.array(getattr(message, "twist", ()), np.float64)
    held = bool(message.hold)
    return Moment(
        source=Source.HOLD if held else str(message.source)[:LONGEST],
        step=int(message.step),
        instruction=_text(message, "instruction"),
        reason=_text(message, "reason"),
        commander=_text(message, "commander") or POLICY,
        reasoning=_text(message, "reasoning"),
        metric=_number(metric, "value"),
        boundary=_number(metric, "boundary"),
        latency_ms={} if held else {k: ms for k, ms in times.items() if math.isfinite(ms)},
        twist=twist if twist.shape == (6,) and np.isfinite(twist).all() else None,
        frame=message.header.frame_id,
        gripper=_number(message, "gripper"),
        similarity=_number(message, "similarity"),
        accepted=int(getattr(message, "accepted", -1)),
        passes=int(getattr(message, "passes", 0)),
        corrected=bool(getattr(message, "corrected", False)),
        dry_run=bool(getattr(message, "dry_run", False)),
        disagreement=_number(message, "disagreement"),
    )


def of_row(row: Mapping[str, Any], index: int, boundary: float = math.nan) -> Moment:
    """Reads one step of a row of results, see `evaluation.accounting.episode_row`.

    Args:
        row: Columns of an episode's steps.
        index: Number of the step, from 0.
        boundary: The mode's boundary of the metric.
    """
    letter = row["source"][index]
    source = Source.named(letter)
    times = {"total": row["ms"][index]} if row.get("ms") else {}
    similarity, metric = row["similarity"][index], row["metric"][index]
    accepted = row["accepted"][index]
    return Moment(
        source=letter if source is None else source,
        step=index,
        instruction=f"task {row['task_index']} of {row['suite']}" if "suite" in row else "",
        metric=math.nan if metric is None else metric,
        boundary=boundary,
        latency_ms=times,
        similarity=math.nan if similarity is None else similarity,
        accepted=-1 if accepted is None else accepted,
        passes=row["passes"][index],
    )


def _number(message: Any, name: str) -> float:
    return float(getattr(message, name, math.nan))


def _text(message: Any, name: str) -> str:
    return str(getattr(message, name, ""))[:LONGEST]
