"""Builds StepTelemetry messages."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Time

from heisd_ros.control.holds import Hold
from heisd_ros.control.inference import Inference
from heisd_ros.control.ingest import ObservationBuffer
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.decoding.types import TIMING_KEYS, ChunkPlace, Source, StepResult
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.msg import InputAges, KinematicMetric, StepChunk, StepLatency, StepTelemetry


def time_message(nanoseconds: int) -> Time:
    """Converts nanoseconds to a Time message."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def metric_message(
    kind: str, sample: MetricSample | None, boundary: float = math.nan
) -> KinematicMetric:
    """Builds the message of the newest metric; NaN without a sample or a full window.

    Args:
        kind: Kind of the metric.
        sample: The newest sample; None before the first.
        boundary: Value at or above which the database drafts; NaN where the mode has none.
    """
    message = KinematicMetric(kind=kind, source="none", boundary=boundary)
    message.value = message.path_length = message.curvature_radius = message.speed = math.nan
    if sample is None:
        return message
    message.ready, message.source = sample.ready, sample.source
    if sample.ready:
        message.value = float(sample.value)
        message.path_length = float(sample.path_length)
        message.curvature_radius = float(sample.curvature_radius)
        message.speed = float(sample.speed)
    return message


def chunk_message(place: ChunkPlace | None) -> StepChunk:
    """Builds the message of an action's place in its chunk; zeros without one."""
    if place is None:
        return StepChunk()
    delay = place.delay_sec * 1e3
    return StepChunk(number=place.number, index=place.index, length=place.length, delay=delay)


def latency_message(inference: Inference, result: StepResult, now: int) -> StepLatency:
    """Builds the breakdown of a step's latency.

    Args:
        inference: The step's inference.
        result: Its result.
        now: Steady time of publishing, ns.
    """
    message = StepLatency(wait=inference.wait_ms, convert=inference.convert_ms)
    message.total = (now - inference.observation.complete) * 1e3 / NANOSECONDS
    for part in TIMING_KEYS[:-1]:
        setattr(message, part, float(result.timings_ms.get(part, 0.0)))
    message.inference = float(result.timings_ms["total"])
    if inference.settled is not None:
        message.settle = inference.settled.ms
    return message


def ages_message(buffer: ObservationBuffer, instruction_age_sec: float, now: int) -> InputAges:
    """Builds the ages of the newest inputs.

    Args:
        buffer: The inputs.
        instruction_age_sec: Seconds since the instruction was set.
        now: Steady time, ns.
    """
    return InputAges(
        images=[health.age_sec(now) for health in buffer.image_health],
        joint_states=buffer.joint_health.age_sec(now),
        instruction=instruction_age_sec,
        stamp_spread=math.nan,
    )


def step_message(
    inference: Inference, result: StepResult, instruction_age_sec: float, now: int
) -> StepTelemetry:
    """Builds the telemetry of a step that moved the arm, without step, command and metric.

    Args:
        inference: The step's inference.
        result: Its result.
        instruction_age_sec: Seconds since the instruction was set.
        now: Steady time of publishing, ns.
    """
    observation = inference.observation
    message = StepTelemetry(
        instruction=inference.instruction,
        source=result.source,
        reason=result.reason,
        tokens=[int(token) for token in result.tokens],
        reasoning=result.reasoning,
        passes=int(result.passes),
        accepted=-1 if result.accepted is None else int(result.accepted),
        similarity=math.nan if result.similarity is None else float(result.similarity),
        corrected=inference.settled is not None and not inference.settled.agrees,
        action=[float(value) for value in result.action],
        chunk=chunk_message(result.place),
        latency=latency_message(inference, result, now),
        ages=InputAges(
            images=[(now - image.received) / NANOSECONDS for image in observation.images],
            joint_states=(now - observation.arm.received) / NANOSECONDS,
            instruction=instruction_age_sec,
            stamp_spread=observation.spread / NANOSECONDS,
        ),
    )
    message.header.stamp = time_message(observation.stamp)
    return message


def hold_message(instruction: str, hold: Hold) -> StepTelemetry:
    """Builds the telemetry of a hold, without stamp, step, ages and metric."""
    return StepTelemetry(
        instruction=instruction,
        hold=True,
        source=Source.HOLD,
        reason=str(hold),
        accepted=-1,
        similarity=math.nan,
    )


def person_message(instruction: str, action: np.ndarray, reason: str) -> StepTelemetry:
    """Builds the telemetry of a person's step, without stamp, step, ages and metric.

    Args:
        instruction: What the policy is told to do.
        action: (7,), what the person did, in the model's units.
        reason: The device, and what the policy would have done.
    """
    return StepTelemetry(
        instruction=instruction,
        source=Source.PERSON,
        reason=reason,
        accepted=-1,
        similarity=math.nan,
        action=[float(value) for value in action],
    )
