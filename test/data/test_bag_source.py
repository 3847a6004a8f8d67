"""Episodes of bags: synchronised, cut, with actions by rule, and with what was left out counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.bags import SECOND, START, image, joint_state, text, write_bag
from support.cell_bags import (
    ARM,
    CAMERAS,
    COMMAND,
    GRIPPER,
    JOINTS,
    MARKER,
    OUTCOME,
    RATE_HZ,
    TELEMETRY,
    WORDS,
    delta,
    ended,
    held_by,
    layout,
    marked,
    opened,
    picture,
    posed,
    positions,
    pursued,
    recording,
    told,
    twisted,
)
from support.replay_bags import telemetry

from heisd_ros.control.commands import CommandMapper
from heisd_ros.data.alignment import DISCARDED, begun_by
from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.export_survey import survey
from heisd_ros.data.recorded_actions import displacement, motion_action
from heisd_ros.data.recording_layout import ActionRule
from heisd_ros.data.tracks import Track
from heisd_ros.errors import BagError, DemonstrationError, UrdfError
from heisd_ros.kinematics.pose import Pose
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_TIP
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

VIEWS = ("agentview", "wrist")
BASE_RULE = ActionRule(frame=PANDA_BASE)


def source(tmp_path, messages, custom=None, **changes):
    fields = {"action": BASE_RULE} | changes
    return BagSource(write_bag(tmp_path / "bag", messages, custom=custom), layout(**fields))


def rule(kind, **changes):
    return dataclasses.replace(BASE_RULE, kind=kind, topic=COMMAND, **changes)


def test_steps_are_synchronised_at_the_control_rate(tmp_path):
    found = source(tmp_path, recording(seconds=2.0, camera_hz=29.7))
    (outline,) = found.outline()
    episode = found.episode(0, VIEWS)
    assert outline.steps == len(episode) == 40
    assert (episode.instruction, episode.stride) == ("pick up the bowl", 1)
    times = np.round(np.arange(40) / RATE_HZ * 29.7) / 29.7  # of the nearest picture
    for camera, view in enumerate(VIEWS):
        shown = [picture(at, camera) for at in times]
        np.testing.assert_allclose(episode.images[view], shown, atol=1)
    for step, at in enumerate(times):
        np.testing.assert_allclose(episode.joint_positions[step], positions(at), atol=2e-3)
    assert episode.joint_velocities.shape == (40, 7)
    np.testing.assert_allclose(episode.gripper_opening[[0, -1]], [0.08, 0.02])
    assert (found.robot, found.rate_hz, found.label) == ("panda", 20.0, f"{tmp_path.name}/bag")


def test_pictures_of_other_encodings_are_read_as_a_node_reads_them(tmp_path):
    def changed(message):
        if not message.__msgtype__.endswith("/Image"):
            return message
        rgb = message.data.reshape(message.height, message.width, 3)
        rows = (rgb[:, :, ::-1].astype(">u2") * 257).reshape(len(rgb), -1).view(np.uint8)
        rows = np.pad(rows, ((0, 0), (0, 5)), constant_values=255)
        return dataclasses.replace(
            message, encoding="bgr16", is_bigendian=1, step=rows.shape[1], data=rows.reshape(-1)
        )

    messages = [*recording(seconds=1.0)]
    others = [(topic, stamp, changed(message)) for topic, stamp, message in messages]
    plain, other = (
        BagSource(write_bag(tmp_path / name, given), layout(action=BASE_RULE)).episode(0, VIEWS)
        for name, given in (("rgb8", messages), ("bgr16", others))
    )
    for view in VIEWS:
        np.testing.assert_array_equal(plain.images[view], other.images[view])
    untyped = [
        (topic, stamp, dataclasses.replace(message, encoding="8UC3", data=message.data))
        if message.__msgtype__.endswith("/Image")
        else (topic, stamp, message)
        for topic, stamp, message in messages
    ]
    with pytest.raises(BagError, match=r"image encoding is '8UC3'.*accepted: rgb8"):
        BagSource(write_bag(tmp_path / "8UC3", untyped), layout(action=BASE_RULE)).outline()


def test_measured_actions_are_exact_where_cameras_are_on_the_grid(tmp_path):
    found = source(tmp_path, recording(seconds=1.0, camera_hz=20.0, joints_hz=200.0))
    found.outline()
    episode = found.episode(0, ())
    for step in range(len(episode) - 1):
        before, after = (ARM.forward(episode.joint_positions[s]) for s in (step, step + 1))
        wanted = motion_action(displacement(before, after, False), BASE_RULE)
        np.testing.assert_allclose(episode.actions[step, :6], wanted, atol=1e-6)
    assert set(episode.actions[:9, 6]) == {-1.0} and set(episode.actions[-9:, 6]) == {1.0}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6),
    st.sampled_from(["rotation_vector", "roll_pitch_yaw"]),
    st.floats(0.01, 0.2),
)
def test_motion_becomes_the_action_that_commands_it(numbers, convention, scale):
    action = np.array([*numbers, 1.0])
    given_ = {"command.rotation_convention": convention, "command.translation_scale": scale}
    settings_ = from_values(VlaNodeParameters, given_)
    twist = CommandMapper(settings_, RATE_HZ).twist(action)
    same = ActionRule(rotation_convention=convention, translation_scale=scale)
    np.testing.assert_allclose(motion_action(twist / RATE_HZ, same), numbers, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=12, max_size=12), st.booleans())
def test_a_displacement_leads_from_one_pose_to_the_other(numbers, in_tip):
    before = Pose(numbers[:3], Rotation.from_rotvec(numbers[3:6]).as_matrix())
    after = Pose(numbers[6:9], Rotation.from_rotvec(numbers[9:]).as_matrix())
    motion = displacement(before, after, in_tip)
    axes = before.rotation if in_tip else np.eye(3)
    turned = Rotation.from_rotvec(axes @ motion[3:]).as_matrix() @ before.rotation
    np.testing.assert_allclose(before.position + axes @ motion[:3], after.position, atol=1e-9)
    np.testing.assert_allclose(turned, after.rotation, atol=1e-7)


@pytest.mark.parametrize("frame", [PANDA_BASE, PANDA_TIP])
def test_twists_are_averaged_over_a_control_step(tmp_path, frame):
    extra = [twisted(n / 40, [0.1 + 0.1 * (n % 2), 0, 0, 0, 0, 0.2], frame) for n in range(80)]
    found = source(tmp_path, recording(extra=extra, camera_hz=20.0), action=rule("twist"))
    found.outline()
    episode = found.episode(0, ())
    wanted = np.array([0.15, 0.0, 0.0, 0.0, 0.0, 0.2])
    for joints, action in zip(episode.joint_positions, episode.actions, strict=True):
        turn = ARM.forward(joints).rotation if frame == PANDA_TIP else np.eye(3)
        in_base = np.concatenate([turn @ wanted[:3], turn @ wanted[3:]])
        np.testing.assert_allclose(action[:6], motion_action(in_base / RATE_HZ, BASE_RULE))


def test_poses_become_their_motion(tmp_path):
    extra = [posed(n / 100, [0.4 + 0.001 * n, 0.0, 0.3], [1.0, 0, 0, 0]) for n in range(220)]
    found = source(tmp_path, recording(extra=extra), action=rule("pose"))
    found.outline()
    actions = found.episode(0, ()).actions
    np.testing.assert_allclose(actions[:, :6], [[0.1, 0, 0, 0, 0, 0]] * len(actions), atol=1e-9)


def test_published_actions_are_taken_as_they_are_and_stops_are_not(tmp_path):
    wanted = [[0.1 * n, 0, 0, 0, 0, 0, -1.0] for n in range(20)]
    extra = [delta(n / 20 + 0.01, action) for n, action in enumerate(wanted)]
    extra += [delta(n / 20 + 0.005, [], stop=True) for n in range(20)]
    found = source(
        tmp_path, recording(seconds=1.0, camera_hz=20.0, extra=extra), action=rule("action")
    )
    found.outline()
    np.testing.assert_allclose(found.episode(0, ()).actions, wanted)


def test_the_gripper_is_what_was_commanded_where_a_topic_says_it(tmp_path):
    extra = [opened(0.0, 0.0), opened(1.5, 0.08)]
    commanded = dataclasses.replace(BASE_RULE, gripper_topic=GRIPPER)
    found = source(tmp_path, recording(extra=extra), action=commanded)
    found.outline()
    gripper = found.episode(0, ()).actions[:, 6]
    assert set(gripper[:29]) == {1.0} and set(gripper[31:]) == {-1.0}


def test_a_slow_camera_gives_every_other_control_step(tmp_path):
    found = source(tmp_path, recording(camera_hz=10.0))
    found.outline()
    assert (found.episode(0, ()).stride, len(found.episode(0, ()))) == (2, 20)


def test_a_gap_in_a_camera_ends_the_episode(tmp_path):
    messages = [
        message for message in recording(seconds=3.0)
        if message[0] != CAMERAS[0] or not 1.0 < (message[1] - START) / SECOND < 1.4
    ]  # fmt: skip
    found = source(tmp_path, messages)
    first, second = found.outline()
    assert first.ended_by == "gap in the first camera's pictures"
    assert second.ended_by == "end of the recording"
    assert 18 <= first.steps <= 21 and 29 <= second.steps <= 32
    assert found.report.topics[CAMERAS[0]].longest_gap_sec > 0.4
    assert len(found.episode(1, VIEWS)) == second.steps


def test_what_has_no_partner_is_left_out_and_counted(tmp_path):
    messages = [
        message for message in recording(seconds=3.0)
        if message[0] != JOINTS or not 1.0 < (message[1] - START) / SECOND < 1.5
    ]  # fmt: skip
    found = source(tmp_path, messages)
    first, second = found.outline()
    assert first.ended_by in found.report.dropped
    assert found.report.dropped["no joint state within 0.03 s"] >= 7
    assert sum(found.report.dropped.values()) == 60 - first.steps - second.steps


def test_pauses_are_left_out(tmp_path):
    def joints_of(at):  # still from 1 to 4 s
        return positions(min(at, 1.0) + max(at - 4.0, 0.0))

    messages = recording(seconds=5.0, joints_of=joints_of, camera_hz=20.0)
    found = source(tmp_path, messages, pause_sec=1.0)
    first, gripper, second = found.outline()
    assert (first.ended_by, gripper.ended_by) == ("pause", "pause")
    assert (first.steps, gripper.steps, second.steps) == (21, 2, 20)  # at 2.5 s the fingers move
    assert found.report.dropped["pause"] == 100 - 43
    assert len(source_again(tmp_path, pause_sec=0.0).outline()) == 1


def source_again(tmp_path, **changes):
    return BagSource(tmp_path / "bag", layout(action=BASE_RULE, **changes))


def test_another_instruction_is_another_episode(tmp_path):
    extra = [told(-0.5, "first"), told(1.0, "second")]
    found = source(tmp_path, recording(extra=extra), instruction_topic=WORDS, instruction="")
    first, second = found.outline()
    assert (first.instruction, second.instruction) == ("first", "second")
    assert first.ended_by == "another instruction"
    assert abs(first.steps - second.steps) <= 2


def test_another_goal_is_another_episode(tmp_path):
    extra = [pursued(n / 10, int(n >= 10), "same words") for n in range(20)]
    found = source(tmp_path, recording(extra=extra), instruction_topic=WORDS)
    first, second = found.outline()
    assert (first.instruction, second.instruction) == ("same words", "same words")
    assert first.ended_by == "another goal" and abs(first.steps - 20) <= 1


def test_a_marker_says_where_episodes_are(tmp_path):
    extra = [marked(0.5, True), marked(1.0, False), marked(1.25, True)]
    found = source(tmp_path, recording(extra=extra), marker_topic=MARKER)
    first, second = found.outline()
    assert abs(first.steps - 10) <= 1 and abs(second.steps - 14) <= 1
    assert first.ended_by == f"outside of what {MARKER} marks"


MARKS = {"telemetry_topic": TELEMETRY, "outcome_topic": OUTCOME}


def test_reports_end_episodes_and_telemetry_says_whose_steps_they_are(tmp_path):
    who = [held_by(n / 20, "person" if 8 <= n < 16 else "policy") for n in range(40)]
    reports = [ended(0.6, "success"), ended(1.2, "discard"), ended(1.8, "nonsense")]
    found = source(tmp_path, recording(extra=[*who, *reports]), **MARKS)
    first, last = found.outline()
    assert (first.outcome, last.outcome) == ("success", "")  # the one between is left out
    assert first.ended_by == "outcome reported" and abs(first.steps - 12) <= 1
    assert abs(first.person_steps - 4) <= 1 and last.person_steps == 0
    left_out = "step of an episode that was reported as to be discarded"
    assert abs(found.report.dropped[left_out] - 12) <= 1
    episode = found.episode(0, ())
    assert episode.outcome == "success" and episode.person.sum() == first.person_steps
    assert not episode.person[:7].any() and episode.person[-2:].all()


def test_a_report_is_about_the_last_attempt_before_it(tmp_path):
    words = [told(0.0, "one"), told(0.7, "two")]
    reports = [ended(1.3, "failure"), ended(1.4, "success")]
    found = source(tmp_path, recording(extra=[*words, *reports]), instruction_topic=WORDS, **MARKS)
    told_of = [(episode.instruction, episode.outcome) for episode in found.outline()]
    assert told_of[:2] == [("one", ""), ("two", "failure")]
    assert {outcome for _, outcome in told_of[2:-1]} <= {"success"} and told_of[-1][1] == ""


def test_a_report_after_a_clock_was_set_back_is_about_the_episode_before(tmp_path):
    first = recording(seconds=1.0, lag_ns=0)
    begin = first[-1][1] + SECOND
    again = [(topic, stamp - START + begin, message) for topic, stamp, message in first]
    # The clock is set back, a joint state shows it, then comes the report, then pictures.
    again = [each for each in again if each[0] == JOINTS or each[1] > begin + SECOND // 20]
    messages = [*first, *again, (OUTCOME, begin + SECOND // 40, text("discard"))]
    found = source(tmp_path, messages, **MARKS)
    assert [episode.outcome for episode in found.outline()] == [""]
    assert found.report.dropped[DISCARDED] == 20


def test_a_recording_of_discarded_episodes_alone_has_none_and_stops_no_others(tmp_path):
    discarded = source(tmp_path, recording(extra=[ended(1.99, "discard")]), **MARKS)
    assert discarded.outline() == [] and discarded.report.dropped[DISCARDED] > 30
    (tmp_path / "other").mkdir()
    other = source(tmp_path / "other", recording(), **MARKS)
    assert len(survey([discarded, other]).items) == 1
    with pytest.raises(DemonstrationError, match="hold no episode to export"):
        survey([discarded])


@given(st.permutations(range(12)))
def test_a_track_is_in_order_of_time_however_messages_come(order):
    track = Track()
    for received, stamp in enumerate(order):
        track.add(stamp // 2, received, (stamp // 2, received))
    assert track.values == sorted(track.values) and track.stamps == [v[0] for v in track.values]
    assert track.received == [v[1] for v in track.values]
    assert [track.last(n)[0] for n in range(6)] == list(range(6))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_commands_that_are_no_numbers_become_no_action(tmp_path, bad):
    fingers = [opened(0.0, 0.08), opened(0.5, bad)]
    found = source(
        tmp_path,
        recording(extra=fingers),
        action=dataclasses.replace(BASE_RULE, gripper_topic=GRIPPER),
    )
    found.outline()
    assert (found.episode(0, ()).actions[:, 6] == BASE_RULE.open_action).all()
    assert found.report.dropped[f"{GRIPPER}: opening is {bad:g}; accepted: a finite number"] == 1


@pytest.mark.parametrize(
    ("place", "turn"), [((np.nan, 0, 0), (0, 0, 0, 1)), ((0, 0, 0), (0, 0, 0, np.inf))]
)
def test_poses_that_are_no_numbers_become_no_action(tmp_path, place, turn):
    poses = [posed(n / 20, (0.4 + n / 1000, 0.0, 0.5), (0, 0, 0, 1)) for n in range(44)]
    poses[20] = posed(1.0, place, turn)
    found = source(tmp_path, recording(extra=poses), action=rule("pose"))
    episodes = [found.episode(n, ()) for n in range(len(found.outline()))]
    assert episodes and all(np.isfinite(episode.actions).all() for episode in episodes)
    assert any("pose is of no use (it is not finite)" in why for why in found.report.dropped)


def test_a_recording_without_marks_is_read_as_before(tmp_path):
    (only,) = source(tmp_path, recording(), **MARKS).outline()
    assert (only.outcome, only.person_steps) == ("", 0)


def test_any_other_marker_begins_an_episode(tmp_path):
    extra = [(MARKER, START + n * SECOND // 2 + 1, text("")) for n in range(4)]
    found = source(tmp_path, recording(extra=extra), marker_topic=MARKER)
    assert [episode.ended_by for episode in found.outline()[:3]] == ["marker"] * 3


def test_a_clock_that_is_set_back_begins_a_new_episode(tmp_path):
    first = recording(seconds=1.0, lag_ns=0)
    again = [(topic, stamp + 3 * SECOND, message) for topic, stamp, message in first]
    found = source(tmp_path, first + again)
    outline = found.outline()
    assert [episode.steps for episode in outline] == [20, 20]
    assert found.report.dropped["clock set back"] >= 1
    np.testing.assert_array_equal(
        found.episode(0, VIEWS).images["wrist"], found.episode(1, VIEWS).images["wrist"]
    )


def test_pictures_of_two_sizes_are_left_out_and_named(tmp_path):
    stamp = START + 1_007_000_000
    odd = (CAMERAS[0], stamp + 2_000_001, image(stamp, picture(1.0, 0, size=24)))
    found = source(tmp_path, recording(extra=[odd]))
    assert len(found.outline()) == 1
    reason = f"{CAMERAS[0]}: picture of 24 x 24; accepted: 16 x 16, as the first"
    assert found.report.dropped[reason] == 1


def test_one_step_is_no_episode(tmp_path):
    extra = [marked(0.5, True), marked(0.53, False), marked(1.0, True)]
    found = source(tmp_path, recording(extra=extra), marker_topic=MARKER)
    assert len(found.outline()) == 1
    assert found.report.dropped["episode of fewer than 2 steps"] == 1


def test_a_long_episode_is_cut(tmp_path):
    found = source(tmp_path, recording(), longest_sec=0.5)
    assert [episode.steps for episode in found.outline()] == [10, 10, 10, 10]
    assert found.report.cuts["longest episode"] == 3


def test_a_truncated_bag_gives_what_was_before(tmp_path):
    folder = write_bag(tmp_path / "bag", recording(seconds=8.0, size=64))
    file = folder / "bag.mcap"
    file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
    found = source_again(tmp_path)
    (outline,) = found.outline()
    assert 20 < outline.steps < 140
    assert "bag.mcap is cut off" in found.report.damage
    assert len(found.episode(0, VIEWS)) == outline.steps


def test_what_the_layout_does_not_fit_is_named(tmp_path):
    messages = recording(seconds=0.5)
    found = source(tmp_path, messages)
    found.outline()
    with pytest.raises(BagError, match=r"2 topics of pictures .* recording\.images"):
        found.episode(0, ("a", "b", "c"))
    for changes, message in (
        ({"joint_states": "/joint"}, r"no topic /joint; .*'/joints'"),
        ({"joint_states": CAMERAS[0]}, r"has type sensor_msgs/msg/Image; accepted: .*JointState"),
        ({"instruction": ""}, "holds no episode: 10 x no instruction"),
        ({"action": rule("twist")}, f"no topic {COMMAND}"),
    ):
        other = BagSource(tmp_path / "bag", layout(**({"action": BASE_RULE} | changes)))
        with pytest.raises(BagError, match=message):
            other.outline()
    with pytest.raises(BagError, match="no topic /robot_description"):
        source_again(tmp_path, urdf=None)
    with pytest.raises(UrdfError, match="no link 'hand'"):
        source_again(tmp_path, tip_frame="hand")


def test_the_description_may_be_in_the_bag_and_the_instruction_a_note(tmp_path):
    described = ("/robot_description", START - 1, text(layout().urdf))
    found = source(
        tmp_path, recording(extra=[described]), {"instruction": "noted"}, urdf=None, instruction=""
    )
    assert found.outline()[0].instruction == "noted"


def test_a_twist_in_a_foreign_frame_is_refused(tmp_path):
    found = source(
        tmp_path, recording(extra=[twisted(0.1, [0.0] * 6, "map")]), action=rule("twist")
    )
    with pytest.raises(BagError, match="/command is in frame 'map'; accepted: 'panda_link0' or"):
        found.outline()


def test_joint_states_that_cannot_be_read_are_counted(tmp_path):
    bad = (JOINTS, START + 1_003_000_000, joint_state(START + 1_001_000_000, ["panda_joint1"], [1]))
    found = source(tmp_path, recording(extra=[bad]))
    assert len(found.outline()) == 1
    assert any("are missing from the joint state" in reason for reason in found.report.dropped)


def test_telemetry_may_hold_both_instruction_and_action(tmp_path):
    sent = []
    for number in range(40):
        stamp = START + number * SECOND // 20
        message = telemetry(stamp, np.full(7, number / 100), commander="policy")
        message.instruction = "first" if number < 20 else "second"
        sent.append((TELEMETRY, stamp + 1, message))
    rule = ActionRule(kind="action", topic=TELEMETRY)
    found = source(
        tmp_path, recording(extra=sent), action=rule, instruction="", instruction_topic=TELEMETRY
    )
    first, second = found.outline()
    assert (first.instruction, second.instruction) == ("first", "second")
    np.testing.assert_allclose(found.episode(1, ()).actions[0], 0.2, atol=0.011)
    assert found.report.topics[TELEMETRY].messages == 40 and "" not in found.report.topics


def test_a_picture_of_a_slower_camera_belongs_to_several_steps(tmp_path):
    """Cameras at 20 and 10 Hz: each of the slower one's pictures is the nearest of two steps."""
    messages = [
        message
        for message in recording(camera_hz=20.0)
        if message[0] != CAMERAS[1] or (message[1] - START) // (SECOND // 20) % 2 == 0
    ]
    found = source(tmp_path, messages, tolerance_sec=0.06)
    episode = found.episode(0, VIEWS)
    shades = episode.images["wrist"][:, 0, 0, 0].astype(int)
    assert len(shades) == 40 and len(set(shades)) == 20


def test_pictures_received_at_one_time_are_told_apart(tmp_path):
    """As in simulated time, whose clock may be coarse."""
    coarse = [
        (topic, START + (at - START) // (SECOND // 10) * (SECOND // 10), message)
        for topic, at, message in recording()
    ]
    fine, found = source(tmp_path / "fine", recording()), source(tmp_path / "coarse", coarse)
    np.testing.assert_array_equal(
        found.episode(0, VIEWS).images["wrist"], fine.episode(0, VIEWS).images["wrist"]
    )


@given(st.lists(st.sampled_from(["begin", True, False]), max_size=12))
def test_markers_are_counted_as_they_begin(markers):
    for passed in range(1, len(markers) + 1):
        seen = markers[:passed]
        counted = sum(
            value == "begin" or (value is True and (i == 0 or seen[i - 1] is False))
            for i, value in enumerate(seen)
        )
        assert begun_by(markers)[passed - 1] == (None if seen[-1] is False else counted)
