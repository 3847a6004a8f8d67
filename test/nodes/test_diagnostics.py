"""What /diagnostics says; that it is sent is tested with the node."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from heisd_ros.control.core_wait import CoreWait
from heisd_ros.control.holds import Hold, HoldReason, HoldTracker
from heisd_ros.control.inputs import NANOSECONDS, IngestLimits, InputHealth
from heisd_ros.control.stamps import StampAges
from heisd_ros.control.tick_watch import TickWatch
from heisd_ros.decoding.types import ChunkPlace, Source
from heisd_ros.nodes import diagnostics
from heisd_ros.nodes.diagnostics import GpuMemory, gpu_status, input_status, report, status
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

GIB = 2**30
ROOMY = GpuMemory(allocated=3 * GIB, peak=4 * GIB, reserved=5 * GIB, free=60 * GIB, total=80 * GIB)


def values(message):
    return {each.key: each.value for each in message.values}


def test_numbers_have_four_digits_and_the_rest_is_text():
    message = status("n", DiagnosticStatus.OK, "m", {"a": 1 / 3, "b": 12, "c": "x", "d": math.nan})
    assert values(message) == {"a": "0.3333", "b": "12", "c": "x", "d": "nan"}


def test_memory_of_the_gpu_is_reported():
    asked = []
    message = gpu_status("cuda:1", lambda device: asked.append(device) or ROOMY)
    assert asked == ["cuda:1"]
    assert (message.name, message.level) == ("GPU memory", DiagnosticStatus.OK)
    assert message.message == "cuda:1"
    assert values(message) == {
        "allocated_gib": "3",
        "peak_gib": "4",
        "reserved_gib": "5",
        "free_gib": "60",
        "total_gib": "80",
    }


@pytest.mark.parametrize(
    ("free", "level"), [(4, DiagnosticStatus.OK), (3.9, DiagnosticStatus.WARN)]
)
def test_little_memory_left_is_a_warning(free, level):
    memory = GpuMemory(allocated=0, peak=0, reserved=0, free=int(free * GIB), total=80 * GIB)
    assert gpu_status("cuda", lambda device: memory).level == level


def test_a_gpu_that_has_failed_is_an_error_and_no_exception():
    def fail(device):
        raise RuntimeError("device-side assert triggered")

    message = gpu_status("cuda", fail)
    assert message.level == DiagnosticStatus.ERROR
    assert message.message == "cuda: device-side assert triggered"


def session_on(device, warning=""):
    """What a report reads of a session that has received nothing."""
    buffer = SimpleNamespace(
        counts={"taken": 3},
        limits=IngestLimits(0.5, 0.5, 0.2, 0.03),
        image_health=[InputHealth("agentview")],
        joint_health=InputHealth("joint states"),
        stamps=StampAges(["agentview", "joint states"]),
        publishers=lambda name: (),
    )
    asked = {"model.device": device, "model.threads": 2, "decoding.mode": "heisd", "dry_run": True}
    return SimpleNamespace(
        buffer=buffer,
        motion=SimpleNamespace(latest=None, stream_hz=0.0),
        mapper=SimpleNamespace(rate_hz=20.0),
        refused_robot="",
        kinematics=None,
        parameters=from_values(VlaNodeParameters, asked),
        cores=CoreWait(lambda: {}),
        policy=SimpleNamespace(decoder=SimpleNamespace(warning=lambda: warning), growth=None),
    )


@pytest.mark.parametrize(("device", "extra"), [("cpu", []), ("cuda:0", ["GPU memory"])])
def test_only_a_model_on_a_gpu_reports_its_memory(monkeypatch, device, extra):
    monkeypatch.setattr(
        diagnostics, "gpu_status", lambda device: gpu_status(device, lambda _: ROOMY)
    )
    message = report(session_on(device), None)
    inputs = ["input agentview", "input joint states"]
    assert [each.name for each in message] == ["control", *inputs, *extra]


def test_a_decoder_that_warns_is_heard():
    control, *_ = report(session_on("cpu", "drift: no skips"), None)
    assert (control.level, control.message) == (DiagnosticStatus.WARN, "drift: no skips")
    assert values(control)["decoding.mode"] == "heisd"


def test_threads_that_wait_for_a_core_are_a_warning():
    session, waited = session_on("cpu"), iter([{"1": 0}, {"1": 10**12}])
    session.cores = CoreWait(lambda: next(waited))
    control, *_ = report(session, None)
    assert control.level == DiagnosticStatus.WARN
    assert "waited for a core" in control.message and "model.threads" in control.message
    assert float(values(control)["cores.waited_share"]) > 0.25


def test_a_robot_description_that_was_not_taken_is_heard():
    session = session_on("cpu")
    session.refused_robot = "it is another one"
    control, *_ = report(session, None)
    assert control.level == DiagnosticStatus.WARN
    assert control.message == "robot_description refused: it is another one"


def test_before_configure_there_is_a_state_alone():
    (control,) = report(None, None)
    assert (control.level, control.message) == (DiagnosticStatus.OK, "unconfigured")


def test_an_emergency_stop_is_heard_in_every_state():
    for session in (None, session_on("cpu")):
        control, *_ = report(session, None, estop=True)
        assert control.level == DiagnosticStatus.ERROR and "emergency stop" in control.message
        assert values(control)["estop"] == "True"


def test_holds_and_limited_commands_are_counted():
    holds = HoldTracker()
    holds.update(Hold(HoldReason.NO_IMAGE, "none"))
    loop = SimpleNamespace(
        arm=SimpleNamespace(
            fingers=SimpleNamespace(failure="goal 0.04 aborted", failures=2),
            sources=Counter({Source.SKIP: 1, Source.DRAFTER: 3}),
            holds=holds,
            chunks=SimpleNamespace(late=1),
        ),
        policy=SimpleNamespace(
            shadow=Counter(checked=2, disagreed=1), acted_at=None, latency=None, place=None
        ),
        step=4,
        limit_counts={"speed": 2},
        ticks=TickWatch(0.02, 0.5, 0.0),
        person=SimpleNamespace(
            commander="person",
            taken=True,
            disagreement=0.25,
            timeout_sec=0.2,
            takeover=SimpleNamespace(count=3, devices=[]),
        ),
    )
    control, fingers, *_ = report(session_on("cpu"), loop)
    assert (fingers.level, fingers.message) == (DiagnosticStatus.WARN, "goal 0.04 aborted")
    assert values(fingers)["failures"] == "2"
    assert (control.level, control.message) == (DiagnosticStatus.ERROR, "arm held: no_image: none")
    counts = values(control)
    assert (counts["holds.no_image"], counts["limits.speed"]) == ("1", "2")
    assert (counts["steps.drafter"], counts["skip_rate"]) == ("3", "0.25")
    assert (counts["shadow.checked"], counts["shadow.disagreed"]) == ("2", "1")
    assert (counts["commander"], counts["takeovers"]) == ("person", "3")
    assert counts["disagreement"] == "0.25"
    assert (counts["ticks.late"], counts["ticks.worst_ms"]) == ("0", "0")

    loop.policy.latency = SimpleNamespace(inference=80.0, total=90.0)
    loop.policy.place = ChunkPlace(7, 2, 10, 0.085)
    counts = values(report(session_on("cpu"), loop)[0])
    names = ("number", "index", "length", "delay_ms", "late")
    assert [counts[f"chunk.{name}"] for name in names] == ["7", "2", "10", "85", "1"]

    holds.update(None)
    for now in (0, 50_000_000):
        loop.ticks.note(now)
    control, *_ = report(session_on("cpu"), loop)
    assert control.level == DiagnosticStatus.WARN and "too busy" in control.message
    assert values(control)["ticks.worst_ms"] == "30"


def test_an_input_is_missing_good_faulty_or_stale():
    health = InputHealth("wrist")

    def said(now_sec):
        message = input_status(health, 0.5, int(now_sec * NANOSECONDS))
        return message.level, message.message

    assert said(1.0) == (DiagnosticStatus.STALE, "nothing received yet")
    health.accept(NANOSECONDS)
    assert said(1.4) == (DiagnosticStatus.OK, "received")
    assert said(1.75) == (DiagnosticStatus.STALE, "newest is 0.75 s old")
    health.reject("zero size")
    assert said(1.4) == (DiagnosticStatus.ERROR, "zero size")


def test_two_publishers_of_a_camera_are_named_and_those_of_joint_states_may_be_several():
    health, names = InputHealth("wrist"), ["/camera", "/other"]
    health.accept(0)
    camera = input_status(health, 0.5, 0, publishers=names, stamp_age_sec=0.02)
    assert camera.level == DiagnosticStatus.WARN and "/camera, /other" in camera.message
    assert (values(camera)["stamp_age_sec"], values(camera)["publishers"]) == (
        "0.02",
        "/camera, /other",
    )
    joints = input_status(health, 0.5, 0, publishers=names, shared=True)
    assert joints.level == DiagnosticStatus.OK and values(joints)["publishers"] == "/camera, /other"


@pytest.mark.parametrize(
    ("rate_hz", "level"), [(10.0, DiagnosticStatus.WARN), (19.0, DiagnosticStatus.OK)]
)
def test_joint_states_slower_than_the_control_rate_are_told(rate_hz, level):
    session = session_on("cpu")
    session.motion.stream_hz = rate_hz
    control, *_ = report(session, None)
    assert control.level == level and ("slower" in control.message) == (rate_hz < 18.0)
