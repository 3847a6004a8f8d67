"""Whatever is at a file's path, every reader ends soon with one line that names it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from support.bags import write_bag
from support.cell_bags import ARM, layout, recording
from support.episodes import episode
from support.lerobots import MAP, second, third
from support.tree import ROOT

from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.lerobot import LeRobotSource
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.recording_layout import ActionRule
from heisd_ros.errors import HeisdError
from heisd_ros.kinematics.robots import PANDA_BASE

KINDS = ("mcap", "mcap-file", "sqlite3", "sqlite3-file", "lerobot-2", "lerobot-3", "hdf5")
SECONDS = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One good source of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in KINDS[:4]:
        storage, _, compression = kind.partition("-")
        write_bag(folder / kind, recording(seconds=0.5), storage, compression or None)
    second(folder / "lerobot-2")
    third(folder / "lerobot-3")
    writer = LiberoWriter(folder / "hdf5" / "x_demo.hdf5", "pick up the bowl", "x.bddl", {})
    writer.add(episode(steps=9), 0, [[0.0]] * 9, "")
    return folder


def read(path):
    """Everything of a source, with pictures."""
    if (path / "x_demo.hdf5").parent.name == "hdf5":
        source, views = LiberoSource(path / "x_demo.hdf5"), ("agentview", "wrist")
    elif path.name.startswith("lerobot"):
        source, views = LeRobotSource(path, MAP, ARM), ("a", "b")
    else:
        source, views = BagSource(path, layout(action=ActionRule(frame=PANDA_BASE))), ("a", "b")
    lengths = [outline.steps for outline in source.outline()]
    assert [len(source.episode(n, views)) for n in range(len(lengths))] == lengths
    return source.report


def nothing(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def zeros(file):
    file.write_bytes(bytes(10_000))


def folder(file):
    file.unlink()
    file.mkdir()


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def endless(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def loop(file):
    file.unlink()
    file.symlink_to(file.name)


def huge(file):
    os.truncate(file, 1 << 38)


def huge_and_empty(file):
    empty(file)
    huge(file)


def cut(tenths):
    def harm(file):
        file.write_bytes(file.read_bytes()[: file.stat().st_size * tenths // 10])

    harm.__name__ = f"cut at {tenths} tenths"
    return harm


HARMS = (
    nothing, empty, zeros, folder, pipe, endless, loop, huge, huge_and_empty,
    *map(cut, range(1, 10)),
)  # fmt: skip


def give_up(*_):
    raise TimeoutError("the reader did not end")


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_reports_or_refuses_by_name(whole, tmp_path, kind, harm):
    good = whole / kind
    signal.signal(signal.SIGALRM, give_up)
    files = {f.suffix: f for f in sorted(good.rglob("*")) if f.is_file()}  # one of each sort
    for number, file in enumerate(files.values()):
        bad = tmp_path / str(number) / kind
        shutil.copytree(good, bad)
        harm(bad / file.relative_to(good))
        signal.alarm(SECONDS)
        try:
            read(bad)
        except HeisdError as error:
            assert str(bad) in str(error) and "\n" not in str(error), error
            assert len(str(error)) < 1500
        finally:
            signal.alarm(0)
        shutil.rmtree(bad)


IN_LITTLE_MEMORY = """
import resource, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from test_hostile_files import HARMS, read
from heisd_ros.errors import HeisdError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[3]).iterdir()):
    try:
        read(path)
    except HeisdError:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_sparse_files_are_not_read_into_memory(whole, tmp_path):
    for kind in KINDS:
        shutil.copytree(whole / kind, tmp_path / "bad" / kind)
    for file in [f for f in (tmp_path / "bad").rglob("*") if f.is_file()]:
        huge(file)
    folders = [str(ROOT / "test"), str(ROOT / "test/data"), str(tmp_path / "bad")]
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, *folders]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300  # MiB
