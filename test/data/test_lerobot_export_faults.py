"""Exports that cannot be: named in one line; and those that are interrupted: resumed."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bags import write_bag
from support.cell_bags import ARM, CAMERAS, layout, positions, recording
from support.sources import MemorySource, smooth

from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.export_notes import Notes
from heisd_ros.data.export_run import Choices
from heisd_ros.data.lerobot import LeRobotSource
from heisd_ros.data.lerobot_export import export_lerobot
from heisd_ros.errors import BagError, DemonstrationError, MissingPackageError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, panda_urdf

H264 = Choices("h264")


def contents(folder):
    """The tables' and videos' bytes by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def shorter_arm():
    return ArmKinematics(panda_urdf(), "panda_link6", PANDA_JOINTS[:6], PANDA_BASE)


def other(**changes):
    """A second source that differs in something."""
    source = MemorySource([smooth(3, 1)], label="second")
    for name, value in changes.items():
        setattr(source, name, value)
    return source


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (other(robot="ur5e"), "second, episode 0 has other robot than first, episode 0: ur5e, not"),
        (other(rate_hz=10.0), "steps a second .*: 10.0, not 20.0; accepted: the same in all"),
        (other(cameras=("agentview", "top")), r"has other cameras .*images\.top"),
        (other(arm=shorter_arm()), "has other joints"),
        (other(episodes=[smooth(3, stride=1)]), "from a frame to the next .*: 1, not 2"),
        (
            other(episodes=[smooth(3, joint_velocities=None)]),
            "has other optional numbers .* not .*joint_velocities.*leave out what not all have",
        ),
        (
            other(episodes=[smooth(3, person=np.zeros(3, bool))]),
            "has other optional numbers .*person",
        ),
        (
            other(episodes=[smooth(3, size=32)]),
            "second, episode 0: pictures .* are 32 x 32; .*, as in the first episode",
        ),
        (
            other(episodes=[smooth(3, actions=np.full((3, 7), 1e39))]),
            "second, episode 0: action is not finite in 32 bits",
        ),
        (
            other(episodes=[smooth(3, instruction="a \ud800 lone surrogate")]),
            "second, episode 0: .*surrogates not allowed",
        ),
    ],
)
def test_episodes_that_do_not_fit_together_are_named(tmp_path, second, message):
    first = MemorySource([smooth(3)], label="first")
    with pytest.raises(DemonstrationError, match=message):
        export_lerobot([first, second], tmp_path / "set", H264)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("source", "choices", "message"),
    [
        (MemorySource([]), H264, r"\['memory'\] hold no episode to export"),
        (MemorySource([smooth(2)], rate_hz=0.0), H264, "no control rate; name one with --rate-hz"),
        (MemorySource([smooth(2)], cameras=("/a/b", "/a-b")), H264, r"\['/a/b', '/a-b'\] would"),
        (
            MemorySource([smooth(2, size=63)]),
            H264,
            "63 x 63 pixels do not fit a video; accepted: even numbers",
        ),
        (MemorySource([smooth(2)]), Choices("gif"), "'gif' are not written; accepted: av1, h264"),
        (MemorySource([smooth(2)]), Choices(left_out=("x",)), r"\['x'\] cannot be left out; acc"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, source, choices, message):
    with pytest.raises(DemonstrationError, match=message):
        export_lerobot([source], tmp_path / "set", choices)
    assert not (tmp_path / "set").exists()


def test_joints_in_degrees_are_not_exported(tmp_path):
    messages = recording(seconds=0.5, joints_of=lambda at: np.degrees(positions(at)))
    bag = BagSource(write_bag(tmp_path / "bag", messages), layout())
    with pytest.raises(DemonstrationError, match="look like degrees"):
        export_lerobot([bag], tmp_path / "set", H264)


def test_a_bag_without_one_of_the_cameras_is_named(tmp_path):
    messages = [m for m in recording(seconds=0.5) if m[0] != CAMERAS[1]]
    bag = BagSource(write_bag(tmp_path / "bag", messages), layout())
    with pytest.raises(BagError, match=f"has no topic {CAMERAS[1]}"):
        export_lerobot([bag], tmp_path / "set", H264)
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_what_not_all_have_may_be_left_out(tmp_path):
    first, second = smooth(3), smooth(3, 1, joint_velocities=None)
    choices = Choices("h264", ("joint_velocities", "landmarks"))
    export_lerobot([MemorySource([first, second])], tmp_path / "set", choices)
    source = LeRobotSource(tmp_path / "set", Notes.read(tmp_path / "set").features, ARM)
    assert source.episode(0, ()).joint_velocities is source.episode(1, ()).landmarks is None


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_not_touched(tmp_path, kind):
    place = tmp_path / "set"
    {
        "folder": place.mkdir,
        "file": place.touch,
        "link": lambda: place.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    with pytest.raises(DemonstrationError, match="set exists; accepted: a new folder"):
        export_lerobot([MemorySource([smooth(3)])], place, H264)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_killed_export_leaves_no_data_set_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 1.0)
    wanted = [smooth(5, n) for n in range(5)]
    export_lerobot([MemorySource(wanted)], tmp_path / "whole", H264)

    def killed(done, total):
        assert total == 25
        if done == 15:  # in the second file, which holds two episodes
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_lerobot([MemorySource(wanted)], tmp_path / "set", H264, killed)
    assert not (tmp_path / "set").exists() and (tmp_path / ".set.exporting").is_dir()
    with pytest.raises(
        DemonstrationError, match=r"half of an export with other pictures; .*remove"
    ):
        export_lerobot([MemorySource(wanted)], tmp_path / "set", Choices("png"))
    with pytest.raises(DemonstrationError, match="with other episodes"):
        export_lerobot([MemorySource(wanted[:4])], tmp_path / "set", H264)
    seen = []
    done = export_lerobot(
        [MemorySource(wanted)], tmp_path / "set", H264, lambda n, total: seen.append(n)
    )
    assert (done.episodes, done.resumed, seen) == (5, 2, [15, 20, 25])
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert not (tmp_path / ".set.exporting").exists()


def test_an_export_that_was_killed_when_complete_is_whole_when_made_again(tmp_path, monkeypatch):
    """Its records may be left, and its files have gone with the data set."""
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 0.1)
    wanted = [smooth(3, n) for n in range(3)]

    def killed(self):
        (self.folder / "plan.json").unlink()  # in the middle of it
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("heisd_ros.files.work_folder.WorkFolder.remove", killed)
        export_lerobot([MemorySource(wanted)], tmp_path / "set", H264)
    os.rename(tmp_path / "set", tmp_path / "whole")
    assert export_lerobot([MemorySource(wanted)], tmp_path / "set", H264).resumed == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_no_data_set_and_resumes(tmp_path, monkeypatch):
    """A limit on the size of files stands for it: writing fails in the same place."""
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 1.0)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 128, 128, 3), dtype=np.uint8)
    wanted = [smooth(4, size=128), smooth(12, images={"agentview": noise, "wrist": noise})]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for choices in (H264, Choices("png")):
        place = tmp_path / choices.pictures
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, most))
        try:
            with pytest.raises(
                DemonstrationError, match=r"cannot be written: .*too large.*resumes"
            ):
                export_lerobot([MemorySource(wanted)], place, choices)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert not place.exists()
        assert export_lerobot([MemorySource(wanted)], place, choices).resumed == 1


def test_a_damaged_record_of_an_interrupted_export_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 0.1)

    def killed(done, total):
        if done > 3:
            raise KeyboardInterrupt

    wanted = [smooth(3, n) for n in range(2)]
    with pytest.raises(KeyboardInterrupt):
        export_lerobot([MemorySource(wanted)], tmp_path / "set", H264, killed)
    (tmp_path / ".set.exporting/group-000000.json").write_text("{")
    with pytest.raises(DemonstrationError, match=r"group-000000\.json is damaged.*remove "):
        export_lerobot([MemorySource(wanted)], tmp_path / "set", H264)


def test_one_process_exports_at_a_time(tmp_path):
    def again(done, total):
        export_lerobot([MemorySource([smooth(3)])], tmp_path / "set", H264)

    with pytest.raises(DemonstrationError, match="is in use: another process exports"):
        export_lerobot([MemorySource([smooth(3)])], tmp_path / "set", H264, again)


def test_an_episode_that_cannot_be_read_again_is_named(tmp_path):
    source = MemorySource([smooth(3), smooth(3, 1)])
    whole = source.episode

    def episode(number, views, prepare=None):
        if views and number == 1:
            raise OSError(5, "Input/output error")
        return whole(number, views)

    source.episode = episode
    with pytest.raises(DemonstrationError, match=r"memory, episode 1: .*Input/output error"):
        export_lerobot([source], tmp_path / "set", H264)


def test_a_place_where_nothing_can_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DemonstrationError, match=r"set cannot be written: Not a directory$"):
        export_lerobot([MemorySource([smooth(3)])], tmp_path / "file/set", H264)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"need av: pip install 'heisd_ros\[lerobot\]'"):
        export_lerobot([MemorySource([smooth(3)])], tmp_path / "set")
    export_lerobot([MemorySource([smooth(3)])], tmp_path / "set", Choices("png"))
    assert (tmp_path / "set/meta/info.json").is_file()


def test_different_robot_files_in_the_sources_are_said(tmp_path):
    sources = [MemorySource([smooth(3, n)], label=f"bag{n}") for n in range(2)]
    for source, text in zip(sources, ("a: 1\n", "a: 2\n"), strict=True):
        source.report.notes["parameters"] = text
    export_lerobot(sources, tmp_path / "set", H264)
    assert not (tmp_path / "set/meta/robot.yaml").exists()
    assert "2 different robot files" in sources[0].report.lines()[0]
    export_lerobot(sources, tmp_path / "one", replace(H264, robot_file="a: 1\n"))
    assert (tmp_path / "one/meta/robot.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds .*accepted: a JSON object"),
        ('{"features": {"joint_positions": "a"}, "control_steps_per_frame": 0}', "is 0; accepted"),
        ('{"features": {"actions": "a"}}', "accepted: a mapping of"),
    ],
)
def test_damaged_notes_are_named(tmp_path, text, message):
    export_lerobot([MemorySource([smooth(3)])], tmp_path / "set", H264)
    path = Path(tmp_path / "set/meta/heisd.json")
    features = Notes.read(tmp_path / "set").features
    path.write_text(text)
    with pytest.raises(DemonstrationError, match=rf"heisd\.json.*{message}"):
        LeRobotSource(tmp_path / "set", features, ARM)


def test_episodes_of_one_recording_keep_their_own_numbers(tmp_path):
    wanted = [smooth(3), replace(smooth(4, 1), instruction="open the drawer")]
    export_lerobot([MemorySource(wanted)], tmp_path / "set", H264)
    source = LeRobotSource(tmp_path / "set", Notes.read(tmp_path / "set").features, ARM)
    again = export_lerobot([source], tmp_path / "again", H264)
    assert (again.episodes, again.stride) == (2, 2)
    twice = LeRobotSource(tmp_path / "again", Notes.read(tmp_path / "again").features, ARM)
    for number, episode in enumerate(wanted):
        found = twice.episode(number, ())
        assert found.instruction == episode.instruction
        np.testing.assert_array_equal(found.actions, np.float32(episode.actions))
