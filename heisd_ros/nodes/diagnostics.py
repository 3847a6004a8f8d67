"""Builds the statuses of the VLA node on /diagnostics; `updater` publishes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from heisd_ros.control import growth
from heisd_ros.control.inputs import NANOSECONDS, InputHealth
from heisd_ros.control.session import Session
from heisd_ros.decoding.types import Source
from heisd_ros.nodes.control_loop import ControlLoop
from heisd_ros.nodes.updater import status
from heisd_ros.robot.robot_arm import unguarded

_SCARCE_SHARE = 0.05
"""Share of a GPU's memory that should be free; with less there is a warning."""
_GIB = 2**30
SLOW_SHARE = 0.9
"""Share of the control rate below which joint states count as slow."""


@dataclass(frozen=True)
class GpuMemory:
    """Memory of a GPU, bytes.

    Attributes:
        allocated: Allocated to tensors of this process.
        peak: The most that was allocated so far.
        reserved: Held by this process's allocator, the tensors included.
        free: Free on the device, over all processes.
        total: Total of the device.
    """

    allocated: int
    peak: int
    reserved: int
    free: int
    total: int

    @classmethod
    def of(cls, device: str) -> GpuMemory:
        """Reads it from PyTorch and the driver.

        Raises:
            RuntimeError: The device cannot be used, or has failed.
        """
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return cls(
            allocated=torch.cuda.memory_allocated(device),
            peak=torch.cuda.max_memory_allocated(device),
            reserved=torch.cuda.memory_reserved(device),
            free=free,
            total=total,
        )


def input_status(
    health: InputHealth,
    timeout_sec: float,
    now: int,
    *,
    stamp_age_sec: float | None = None,
    publishers: Sequence[str] = (),
    shared: bool = False,
) -> DiagnosticStatus:
    """Builds the status of one input: rate, age and publishers.

    Args:
        health: The input.
        timeout_sec: Age from which it is stale.
        now: Steady time, ns.
        stamp_age_sec: Age of the newest header stamp at its arrival; None: not known.
        publishers: Names of the nodes that publish the input.
        shared: Whether several publishers are allowed, as an arm and its gripper for joint states.
    """
    age = health.age_sec(now)
    if health.fault:
        level, message = DiagnosticStatus.ERROR, health.fault
    elif health.received is None:
        level, message = DiagnosticStatus.STALE, "nothing received yet"
    elif age > timeout_sec:
        level, message = DiagnosticStatus.STALE, f"newest is {age:.2f} s old"
    elif len(publishers) > 1 and not shared:
        level = DiagnosticStatus.WARN
        message = f"published by {', '.join(publishers)}; accepted: one of them"
    else:
        level, message = DiagnosticStatus.OK, "received"
    values: dict[str, object] = {
        "rate_hz": health.rate_hz(now),
        "age_sec": age,
        "timeout_sec": timeout_sec,
        "rejected": health.rejected,
        "publishers": ", ".join(publishers),
    }
    if stamp_age_sec is not None:
        values["stamp_age_sec"] = stamp_age_sec
    return status(f"input {health.name}", level, message, values)


def control_status(
    session: Session | None, control: ControlLoop | None, estop: bool, now: int
) -> DiagnosticStatus:
    """Builds the status of control: state, hold, latency, and counts of holds, limits and sets.

    Args:
        session: What was configured, if anything.
        control: The active loop, if any.
        estop: Whether the emergency stop is latched, in whatever state.
        now: Steady time, ns.
    """
    state = "active" if control else "inactive" if session else "unconfigured"
    values: dict[str, object] = {"state": state, "estop": estop}
    warnings: list[str] = []
    if session is not None:
        values |= {f"sets.{key}": count for key, count in session.buffer.counts.items()}
        sample = session.motion.latest
        if sample is not None:
            values["metric.source"] = sample.source
            if sample.source != "velocity":
                warnings += ["joint velocities missing or NaN: metric from position differences"]
        rate_hz, needed_hz = session.motion.stream_hz, session.mapper.rate_hz
        if 0.0 < rate_hz < SLOW_SHARE * needed_hz:
            warnings += [
                f"joint states at {rate_hz:.3g} Hz are slower than the control rate, "
                f"{needed_hz:g} Hz: the metric sees the same time in fewer samples"
            ]
        values["decoding.mode"] = session.parameters.decoding.mode
        values["dry_run"] = session.parameters.dry_run
        session.cores.note(now)
        values["cores.waited_share"] = session.cores.share
        warnings += [session.cores.warning(session.parameters.model.threads)]
        warnings += unguarded(session.parameters, session.kinematics)
        warnings += [session.policy.decoder.warning()]
        if session.refused_robot:
            warnings += [f"robot_description refused: {session.refused_robot}"]
    if control is not None:
        values["steps"] = control.step
        values |= {f"steps.{source}": count for source, count in control.arm.sources.items()}
        values["skip_rate"] = control.arm.sources[Source.SKIP] / max(control.step, 1)
        values |= {f"shadow.{what}": count for what, count in control.policy.shadow.items()}
        if control.policy.acted_at is not None:
            values["action_age_sec"] = (now - control.policy.acted_at) / NANOSECONDS
        if control.policy.latency is not None:
            values["latency.inference_ms"] = control.policy.latency.inference
            values["latency.total_ms"] = control.policy.latency.total
            values |= _chunk_values(control)
        values |= {f"holds.{reason.value}": n for reason, n in control.arm.holds.counts.items()}
        values |= {f"limits.{kind}": count for kind, count in control.limit_counts.items()}
        person = control.person
        values |= {"commander": person.commander, "takeovers": person.takeover.count}
        if person.taken:
            values["disagreement"] = person.disagreement
        values["ticks.late"] = control.ticks.late
        values["ticks.worst_ms"] = control.ticks.worst_sec * 1e3
        warnings += [control.ticks.warning()]
    warnings = list(filter(None, warnings))
    level, message = DiagnosticStatus.OK, state
    if control is not None and control.arm.holds.current:
        level, message = DiagnosticStatus.ERROR, f"arm held: {control.arm.holds.current}"
    elif control is None and estop:
        level, message = DiagnosticStatus.ERROR, f"{state}, emergency stop latched"
    elif warnings:
        level, message = DiagnosticStatus.WARN, "; ".join(warnings)
    return status("control", level, message, values)


def _chunk_values(control: ControlLoop) -> dict[str, object]:
    """Returns the place of the newest action in its chunk, and the chunks that came too late."""
    place = control.policy.place
    if place is None:
        return {}
    return {
        "chunk.number": place.number,
        "chunk.index": place.index,
        "chunk.length": place.length,
        "chunk.delay_ms": place.delay_sec * 1e3,
        "chunk.late": control.arm.chunks.late,
    }


def gripper_status(control: ControlLoop) -> DiagnosticStatus:
    """Builds the status of the gripper's goals."""
    fingers = control.arm.fingers
    level = DiagnosticStatus.WARN if fingers.failure else DiagnosticStatus.OK
    return status("gripper", level, fingers.failure or "well", {"failures": fingers.failures})


def gpu_status(device: str, read: Callable[[str], GpuMemory] = GpuMemory.of) -> DiagnosticStatus:
    """Builds the status of the memory of the GPU that runs the model.

    Args:
        device: PyTorch's name of the device, for instance `cuda:0`.
        read: Reads its memory.
    """
    name = "GPU memory"
    try:
        memory = read(device)
    except RuntimeError as error:
        # This thread also stops the arm, so it must not fail: the error is reported instead.
        return status(name, DiagnosticStatus.ERROR, f"{device}: {error}", {})
    level, message = DiagnosticStatus.OK, device
    if memory.free < _SCARCE_SHARE * memory.total:
        level, message = DiagnosticStatus.WARN, f"{device} has little memory left"
    values = {f"{key}_gib": count / _GIB for key, count in asdict(memory).items()}
    return status(name, level, message, values)


def report(
    session: Session | None, control: ControlLoop | None, estop: bool = False
) -> list[DiagnosticStatus]:
    """Builds all statuses: control, each input, and the memory of the model's GPU if any."""
    now = time.monotonic_ns()
    statuses = [control_status(session, control, estop, now)]
    if control is not None:
        statuses.append(gripper_status(control))
        person = control.person
        statuses += [
            input_status(
                device.health, person.timeout_sec, now, publishers=person.publishers(device)
            )
            for device in person.takeover.devices
        ]
    if session is not None:
        limits, buffer = session.buffer.limits, session.buffer
        timeouts = [limits.image_timeout_sec] * len(buffer.image_health)
        timeouts.append(limits.joint_state_timeout_sec)
        healths = [*buffer.image_health, buffer.joint_health]
        for health, timeout in zip(healths, timeouts, strict=True):
            age, names = buffer.stamps.newest(health.name), buffer.publishers(health.name)
            shared = health is buffer.joint_health
            each = input_status(
                health, timeout, now, stamp_age_sec=age, publishers=names, shared=shared
            )
            statuses.append(each)
        kept = session.policy.growth
        if kept is not None:
            well, text = growth.state(kept.status, now / NANOSECONDS)
            level = DiagnosticStatus.OK if well else DiagnosticStatus.WARN
            statuses.append(status("growth", level, text, growth.values(kept.status)))
        device = session.parameters.model.device
        if device.startswith("cuda"):
            statuses.append(gpu_status(device))
    return statuses
