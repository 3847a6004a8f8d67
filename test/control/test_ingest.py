"""The observation buffer: matching, freshness, faults. No ROS here: plain objects as messages."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_scene import REST

from heisd_ros.control.holds import HoldReason
from heisd_ros.control.ingest import ObservationBuffer
from heisd_ros.control.inputs import NANOSECONDS, IngestLimits
from heisd_ros.errors import ImageError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import JointStateReader
from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS, PANDA_TIP, panda_urdf

MS = NANOSECONDS // 1000
LIMITS = IngestLimits(
    image_timeout_sec=0.5,
    joint_state_timeout_sec=0.5,
    frozen_motion_rad=0.2,
    sync_tolerance_sec=0.03,
)
ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)

WHEEL = ArmKinematics(
    '<robot name="w"><link name="a"/><link name="b"/><joint name="j" type="continuous">'
    '<parent link="a"/><child link="b"/><axis xyz="0 0 1"/></joint></robot>',
    "b",
)


def header(stamp):
    sec, nanosec = divmod(stamp, NANOSECONDS)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


def image(stamp, content=None):
    return SimpleNamespace(header=header(stamp), data=str(content or stamp).encode())


def joints(stamp, positions=REST, names=PANDA_JOINTS):
    zeros = [0.0] * len(names)
    return SimpleNamespace(
        header=header(stamp), name=list(names), position=list(positions), velocity=zeros
    )


def check(message):
    if message.data == b"bad":
        raise ImageError("not an image")


def buffer_of(views=("a", "b"), limits=LIMITS):
    buffer = ObservationBuffer(views, limits, check)
    buffer.set_robot(JointStateReader(ARM, PANDA_FINGER_JOINTS))
    return buffer


def reason(buffer, now):
    hold = buffer.problem(now)
    return hold.reason if hold else None


def test_a_set_is_complete_when_every_input_came_and_is_handed_out_once():
    buffer = buffer_of()
    buffer.add_image(0, image(100 * MS), 1)
    buffer.add_joint_state(joints(110 * MS), 2)
    assert buffer.take(0.0) is None
    buffer.add_image(1, image(95 * MS), 3)
    taken = buffer.take(0.0)
    assert (taken.stamp, taken.spread, taken.complete) == (100 * MS, 15 * MS, 3)
    assert buffer.take(0.0) is None
    buffer.add_joint_state(joints(115 * MS), 4)
    buffer.add_image(1, image(105 * MS), 5)
    assert buffer.take(0.0) is None  # the first view's picture was used already


def test_the_nearest_partner_and_the_newest_set_are_taken():
    buffer = buffer_of(views=("a",))
    for stamp in (60, 78, 99, 120):
        buffer.add_joint_state(joints(stamp * MS), stamp)
    buffer.add_image(0, image(100 * MS), 200)
    buffer.add_image(0, image(118 * MS), 201)
    taken = buffer.take(0.0)
    assert (taken.stamp, taken.arm.stamp) == (118 * MS, 120 * MS)
    assert buffer.counts["superseded"] == 1 and buffer.take(0.0) is None


def test_a_late_camera_is_matched_with_an_older_picture():
    buffer = buffer_of()
    for stamp in (0, 33, 66, 99):
        buffer.add_image(0, image(stamp * MS + 1), stamp)
        buffer.add_joint_state(joints(stamp * MS + 1), stamp)
    buffer.add_image(1, image(34 * MS), 100)
    assert buffer.take(0.0).stamp in (33 * MS + 1, 66 * MS + 1)


events = st.lists(st.tuples(st.sampled_from("abj"), st.integers(0, 2000)), min_size=1, max_size=60)


@given(events)
def test_sets_are_synchronous_and_never_repeat_whatever_comes(sequence):
    buffer, seen = buffer_of(), []
    for now, (which, stamp) in enumerate(sequence):
        if which == "j":
            buffer.add_joint_state(joints(stamp * MS), now)
        else:
            buffer.add_image("ab".index(which), image(stamp * MS), now)
        taken = buffer.take(0.0)
        if taken is None:
            continue
        stamps = [*(i.stamp for i in taken.images), taken.arm.stamp]
        assert max(stamps) - min(stamps) == taken.spread <= 30 * MS
        seen.append((taken.stamp, buffer.counts["clock_jumps"]))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("prepare", "now", "expected"),
    [
        (lambda b: None, 0, HoldReason.NO_IMAGE),
        (lambda b: b.add_image(0, image(1, "bad"), 0), 0, HoldReason.BAD_IMAGE),
        (lambda b: b.add_image(0, image(1), 0), 0, HoldReason.NO_JOINT_STATES),
        (lambda b: b.add_image(0, image(1), 0), 600 * MS, HoldReason.STALE_IMAGE),
    ],
)
def test_problems_with_one_view(prepare, now, expected):
    buffer = buffer_of(views=("a",))
    prepare(buffer)
    assert reason(buffer, now) == expected


def test_a_stale_joint_state_and_recovery():
    buffer = buffer_of(views=("a",))
    buffer.add_image(0, image(MS), 0)
    buffer.add_joint_state(joints(MS), 0)
    assert reason(buffer, 0) is None
    buffer.add_image(0, image(600 * MS), 600 * MS)
    assert reason(buffer, 600 * MS) == HoldReason.STALE_JOINT_STATES
    buffer.add_joint_state(joints(600 * MS), 600 * MS)
    assert reason(buffer, 600 * MS) is None


def test_stamps_that_never_meet_are_told():
    buffer = buffer_of()
    for step in range(30):
        now = step * 30 * MS
        buffer.add_image(0, image(now + NANOSECONDS), now)
        buffer.add_image(1, image(now + 3 * NANOSECONDS), now)
        buffer.add_joint_state(joints(now + NANOSECONDS), now)
    hold = buffer.problem(now)
    assert hold.reason == HoldReason.UNSYNCHRONISED and "differ by 2.000 s" in hold.detail
    assert buffer.counts["unsynchronised"] > 0 and buffer.counts["complete"] == 0


def test_a_driver_that_repeats_its_stamp_is_told():
    buffer = buffer_of(views=("a",))
    for step in range(30):
        now = step * 30 * MS
        buffer.add_image(0, image(MS), now)
        buffer.add_joint_state(joints(now + MS), now)
    assert reason(buffer, now) == HoldReason.UNSYNCHRONISED


def test_a_clock_that_goes_back_starts_afresh():
    buffer = buffer_of(views=("a",))
    for stamp in (10_000, 10_050, 20, 60):
        buffer.add_joint_state(joints(stamp * MS), stamp)
        buffer.add_image(0, image(stamp * MS), stamp)
        assert buffer.take(0.0).stamp == stamp * MS
    assert buffer.counts["clock_jumps"] == 1 and buffer.counts["out_of_order"] == 0


def test_a_frozen_picture_counts_only_when_the_arm_moved():
    buffer = buffer_of(views=("a",))
    for step in range(20):
        now = step * 50 * MS
        buffer.add_joint_state(joints(now, REST + 0.06 * max(0, step - 10)), now)
        buffer.add_image(0, image(now, "still"), now)
        frozen = step >= 14
        assert reason(buffer, now) == (HoldReason.FROZEN_IMAGE if frozen else None)
    buffer.add_image(0, image(now + MS, "alive"), now)
    assert reason(buffer, now) is None


def test_a_picture_is_not_frozen_because_the_joints_came_first():
    buffer = buffer_of(views=("a",))
    buffer.add_joint_state(joints(MS), 0)
    buffer.add_image(0, image(MS, "first"), 0)
    buffer.add_joint_state(joints(500 * MS, REST + 0.3), MS)
    assert reason(buffer, MS) is None


def test_a_picture_is_not_frozen_because_it_came_before_its_joints():
    """A reset moves the arm at once; in lock-step the still picture is then sent again."""
    buffer = buffer_of(views=("a",))
    buffer.add_joint_state(joints(MS, REST + 1.4), 0)
    buffer.add_image(0, image(MS, "end of an episode"), 0)
    for step, now in enumerate((1000 * MS, 1200 * MS, 1400 * MS)):
        buffer.add_image(0, image(now, "start of the next"), now)
        buffer.add_joint_state(joints(now, REST), now)
        assert reason(buffer, now) is None, step
    moved = 1600 * MS
    buffer.add_joint_state(joints(moved, REST + 0.3), moved)
    buffer.add_image(0, image(moved, "start of the next"), moved)
    assert reason(buffer, moved) is HoldReason.FROZEN_IMAGE


def test_a_gripper_may_report_in_messages_of_its_own():
    buffer = buffer_of(views=("a",))
    buffer.add_joint_state(joints(MS), 0)
    fingers = joints(2 * MS, [0.03, -0.03], PANDA_FINGER_JOINTS)
    assert buffer.add_joint_state(fingers, 1) is None
    arm = buffer.add_joint_state(joints(3 * MS), 2)
    assert arm.gripper_opening == pytest.approx(0.06)
    buffer.add_image(0, image(3 * MS), 3)
    assert reason(buffer, 3) is None


def test_a_gripper_is_not_guessed_from_one_finger_or_from_long_ago():
    first, second = PANDA_FINGER_JOINTS
    buffer = buffer_of(views=("a",))
    buffer.set_robot(JointStateReader(ARM, PANDA_FINGER_JOINTS, finger_timeout_sec=0.1))
    buffer.add_joint_state(joints(MS, [0.03], [first]), 0)
    arm = buffer.add_joint_state(joints(2 * MS), 1)
    assert (arm.gripper_opening, arm.unseen_fingers) == (None, (second,))
    buffer.add_joint_state(joints(3 * MS, [0.03, 0.03], PANDA_FINGER_JOINTS), 2)
    assert buffer.add_joint_state(joints(4 * MS), 100 * MS).gripper_opening is not None
    arm = buffer.add_joint_state(joints(5 * MS), 101 * MS)
    assert (arm.gripper_opening, arm.unseen_fingers) == (None, (first, second))


def test_a_good_message_between_bad_ones_ends_no_fault():
    buffer = buffer_of(views=("a",), limits=replace(LIMITS, recovery_sec=0.3))
    buffer.add_image(0, image(MS), 0)
    for step in range(10):  # two arms on one topic
        now = step * 10 * MS
        buffer.add_joint_state(joints(now, REST + 0.5 * (step % 2)), now)
        assert reason(buffer, now) == (HoldReason.BAD_JOINT_STATES if step else None)
    buffer.publishers = lambda name: ["/arm", "/other"]
    assert "jumped" in buffer.problem(now).detail and "/arm, /other" in buffer.problem(now).detail
    last = now
    while now < last + 400 * MS:
        now += 10 * MS
        buffer.add_joint_state(joints(now, REST + 0.5), now)
        held = now < last + 300 * MS
        assert reason(buffer, now) == (HoldReason.BAD_JOINT_STATES if held else None)


@pytest.mark.parametrize(
    ("limit", "clock", "held"),
    [(0.5, 10 * NANOSECONDS, True), (0.0, 10 * NANOSECONDS, False), (0.5, None, False)],
)
def test_stamps_are_compared_with_a_clock_where_there_is_one(limit, clock, held):
    buffer = buffer_of(views=("a",), limits=replace(LIMITS, max_stamp_age_sec=limit))
    buffer.add_image(0, image(8 * NANOSECONDS), 0, clock)
    buffer.add_joint_state(joints(8 * NANOSECONDS), 0, clock)
    assert reason(buffer, 0) == (HoldReason.BAD_STAMPS if held else None)
    assert (buffer.take(0.0) is None) == held


def test_velocities_that_cannot_be_are_left_out():
    message = joints(MS)
    message.velocity = [1e300] * 7
    assert buffer_of().add_joint_state(message, 0).velocities is None


def test_names_of_another_robot_are_told_with_what_is_wanted():
    buffer = buffer_of(views=("a",))
    buffer.add_image(0, image(MS), 0)
    buffer.add_joint_state(joints(MS, [0.0], ["shoulder"]), 0)
    hold = buffer.problem(0)
    assert hold.reason == HoldReason.BAD_JOINT_STATES
    assert "['shoulder']" in hold.detail and "panda_joint1" in hold.detail


def test_a_robot_description_is_needed_for_joint_states():
    buffer = ObservationBuffer(("a",), LIMITS, check)
    buffer.add_image(0, image(MS), 0)
    assert buffer.add_joint_state(joints(MS), 0) is None
    assert reason(buffer, 0) == HoldReason.NO_ROBOT_DESCRIPTION


def test_discarded_messages_are_not_used():
    buffer = buffer_of(views=("a",))
    buffer.add_joint_state(joints(MS), 0)
    buffer.add_image(0, image(MS), 0)
    buffer.discard()
    assert buffer.take(0.0) is None
    buffer.add_image(0, image(5 * MS), 1)
    assert buffer.take(0.0) is None
    buffer.add_joint_state(joints(5 * MS), 2)
    assert buffer.take(0.0).stamp == 5 * MS


def test_taking_waits_for_another_thread():
    buffer, taken = buffer_of(views=("a",)), []
    thread = threading.Thread(target=lambda: taken.append(buffer.take(60.0)))
    thread.start()
    buffer.add_joint_state(joints(MS), 0)
    buffer.add_image(0, image(MS), 0)
    thread.join(60.0)
    assert taken[0].stamp == MS


def test_rates_and_ages():
    buffer = buffer_of(views=("a",))
    health = buffer.image_health[0]
    assert health.age_sec(5) == np.inf and health.rate_hz(5) == 0.0
    for step in range(21):
        buffer.add_image(0, image(step * 50 * MS), step * 50 * MS)
    assert health.rate_hz(1000 * MS) == pytest.approx(20.0)
    assert health.age_sec(1100 * MS) == pytest.approx(0.1)


def test_an_arm_that_falls_silent_is_stale_whatever_its_gripper_still_says():
    buffer = buffer_of(views=("a",))
    buffer.add_joint_state(joints(MS), 0)
    for now in range(0, 2000 * MS, 20 * MS):
        buffer.add_image(0, image(now), now)
        buffer.add_joint_state(joints(now + MS, [0.03, 0.03], PANDA_FINGER_JOINTS), now)
    assert reason(buffer, now) is HoldReason.STALE_JOINT_STATES


def test_a_gripper_on_the_same_topic_ends_no_fault_of_the_arm():
    buffer = buffer_of(views=("a",), limits=replace(LIMITS, recovery_sec=0.3))
    now = 0
    for now in range(0, 1000 * MS, 10 * MS):
        buffer.add_image(0, image(now), now)
        buffer.add_joint_state(joints(now, [float("nan")] * 7), now)
        buffer.add_joint_state(joints(now + MS, [0.03, 0.03], PANDA_FINGER_JOINTS), now + MS)
    assert "finite" in buffer.problem(now).detail
    for later in (10, 200, 350):
        buffer.add_joint_state(joints(now + later * MS), now + later * MS)
        held = later < 300
        assert (reason(buffer, now + later * MS) is HoldReason.BAD_JOINT_STATES) == held


def test_a_wheel_that_passes_half_a_turn_neither_jumps_nor_freezes_a_picture():
    buffer = ObservationBuffer(("a",), LIMITS, check)
    buffer.set_robot(JointStateReader(WHEEL, []))
    for step in range(80):
        now, angle = step * 10 * MS, np.pi - 0.05 + 0.001 * step
        buffer.add_joint_state(joints(now, [(angle + np.pi) % (2 * np.pi) - np.pi], ["j"]), now)
        buffer.add_image(0, image(now, "still"), now)
        assert reason(buffer, now) is None
