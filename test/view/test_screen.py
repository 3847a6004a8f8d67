"""What Rerun is given, read back by its own reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support.evaluations import step
from support.views import read_rrd

from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.accounting import step_columns
from heisd_ros.view import sdk
from heisd_ros.view.episodes import show_episode
from heisd_ros.view.moment import Moment
from heisd_ros.view.screen import MOST_WIDE, Screen

pytest.importorskip("rerun", reason="extra view")
BASE = "panda_link0"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "view.rrd"


def screen_of(target, **options):
    return Screen(sdk.record("test", target), live=False, base_frame=BASE, **options)


def moment(source=Source.SKIP, **fields):
    return Moment(source=source, **fields)


def only(rows, component):
    return [row[component] for row in rows if component in row]


def test_the_path_has_the_colours_of_its_sources_and_a_gap_where_the_arm_was_reset(target):
    screen = screen_of(target)
    tips = ((0.40, Source.SKIP), (0.41, Source.DRAFTER), (0.42, Source.HOLD), (0.80, Source.SKIP))
    for number, (x, source) in enumerate(tips):
        screen.tip(np.array([x, 0.0, 0.3]))
        screen.moment(number, moment(source))
    screen.close()
    path = read_rrd(target)["/robot/path"]
    packed = [colours[0] for colours in only(path, "LineStrips3D:colors")]
    wanted = [int(s.colour[1:], 16) << 8 | 0xFF for s in (Source.DRAFTER, Source.HOLD)]
    assert packed == wanted
    ends = [strips[0][1][0] for strips in only(path, "LineStrips3D:strips")]
    assert ends == pytest.approx([0.41, 0.42])


def test_an_arm_that_nobody_commands_leaves_a_grey_path(target):
    screen = screen_of(target)
    for number in range(3):
        screen.arm(number, np.array([[0, 0, 0], [0.4 + 0.01 * number, 0, 0.3]]))
    screen.close()
    found = read_rrd(target)
    assert only(found["/robot/path"], "LineStrips3D:colors") == [[0xA0A0A0FF]] * 2


def test_metric_boundary_and_the_parts_of_the_time_that_there_were(target):
    screen = screen_of(target)
    times = ({"vision": 3.0, "draft": 0.0}, {"vision": 0.0, "draft": 0.0})
    for number, parts in enumerate(times):
        screen.moment(number, moment(metric=0.5 + number / 4, boundary=0.6, latency_ms=parts))
    screen.moment(2, moment())  # neither is known
    screen.close()
    found = read_rrd(target)
    assert only(found["/metric/F"], "Scalars:scalars") == [[0.5], [0.75]]
    assert only(found["/metric/boundary"], "Scalars:scalars") == [[0.6], [0.6]]
    assert only(found["/latency/vision"], "Scalars:scalars") == [[3.0], [0.0]]
    assert only(found["/latency/draft"], "Scalars:scalars") == []


def test_changes_are_logged_once(target):
    screen = screen_of(target)
    for number, reason in enumerate(("stale_image: 0.6 s", "stale_image: 0.7 s")):
        screen.moment(number, moment(Source.HOLD, reason=reason, instruction="pick"))
    screen.moment(2, moment(instruction="pick"))
    screen.moment(3, moment(instruction="place", commander="person"))
    screen.close()
    found = read_rrd(target)
    said = [text for (text,) in only(found["/log"], "TextLog:text")]
    assert said == [
        "hold: stale_image: 0.6 s", "instruction: pick", "the arm acts", "instruction: place",
    ]  # fmt: skip
    lanes = found["/lanes/decided_by"], found["/lanes/commanded_by"]
    states = [[state for (state,) in only(lane, "StateChange:state")] for lane in lanes]
    assert states == [["hold", "skip"], ["policy", "person"]]


def test_a_picture_is_small_and_says_what_decided(target):
    screen = screen_of(target)
    screen.moment(0, moment(step=7))
    screen.picture(1, "/camera/image_raw", np.full((480, 1280, 3), 90, np.uint8))
    screen.close()
    found = read_rrd(target)
    (data,) = only(found["/cameras/\\/camera\\/image_raw"], "EncodedImage:blob")[0]
    with Image.open(io.BytesIO(bytes(data))) as picture:
        assert picture.size == (MOST_WIDE, 240) and picture.getpixel((5, 5)) == (90, 90, 90)
    labels = only(found["/cameras/\\/camera\\/image_raw/step"], "Boxes2D:labels")
    assert labels == [["", "retrieval, skipped verification, step 7"]]


def test_only_a_command_in_the_frame_of_the_path_is_drawn(target):
    screen = screen_of(target)
    screen.tip(np.zeros(3))
    for frame in (BASE, "panda_hand_tcp"):
        screen.moment(0, moment(twist=np.array([1.0, 0, 0, 0, 0, 0]), frame=frame))
    screen.close()
    assert len(read_rrd(target)["/robot/command"]) == 1


def test_an_episode_is_shown_by_its_columns(target):
    records = [step("retrieval", metric=0.7, tip=(0.4 + 0.01 * i, 0, 0.3)) for i in range(4)]
    row = {"mode": "heisd", "success": True, **step_columns(records, [False, True, True, True])}
    show_episode(row, screen_of(target, since_start=True), boundary=0.4)
    found = read_rrd(target)
    assert len(only(found["/robot/path"], "LineStrips3D:strips")) == 3
    assert only(found["/metric/boundary"], "Scalars:scalars") == [[0.4]] * 4
    assert "step 1: the gripper's command changes" in [
        text for (text,) in only(found["/log"], "TextLog:text")
    ]


@pytest.mark.parametrize(
    "damage",
    [{"tip_mm": [[0, 0, 0]]}, {"source": "s"}, {"metric": None}, {"tip_mm": "x"}, {"passes": {}}],
)
def test_a_damaged_row_is_named(target, damage):
    row = {"mode": "heisd", "task_index": 3, **step_columns([step(), step()], [False, False])}
    with pytest.raises(ValueError, match="columns of heisd, task 3 are damaged"):
        show_episode({**row, **damage}, screen_of(target, since_start=True))


def test_a_file_that_exists_is_not_overwritten(target):
    target.write_text("mine")
    with pytest.raises(FileExistsError):
        screen_of(target)
    assert target.read_text() == "mine"
