"""Imports point one way, and only nodes/ knows ROS."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest
from support.tree import PACKAGE, imports_of, python_files

from heisd_ros._moved import MOVED

ROS = re.compile(
    r"(rclpy|launch|launch_ros|ament_index_python|cv_bridge|tf2_ros|builtin_interfaces|std_srvs"
    r"|rosidl_\w+|\w+_msgs|\w+_interfaces|heisd_ros\.(msg|action))(\.|$)"
)

# Room -> the rooms it may import besides itself. docs/architecture.md draws this.
CORE = {"errors", "files", "instructions", "vla", "retrieval", "kinematics"}
MODELS = CORE | {"families"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "instructions": set(),
    "models": {"errors"},
    "_moved": set(),
    "kinematics": {"errors", "files"},
    "vla": {"errors", "files"},
    "families": {"errors", "files", "instructions", "vla"},
    "retrieval": {"errors", "files", "instructions", "kinematics"},
    "safety": {"errors", "kinematics"},
    "decoding": CORE,
    "serving": {"errors", "files", "kinematics", "decoding"},
    "fleet": {"errors", "files", "instructions", "retrieval"},
    "data": {"errors", "files", "kinematics"},
    "sim": MODELS | {"decoding", "data"},
    "training": MODELS | {"decoding", "data", "sim"},
    "evaluation": MODELS | {"decoding", "data", "sim", "training"},
    "benchmark": MODELS | {"decoding", "training", "models", "serving"},
    "robot": {"errors", "files", "kinematics", "safety", "data"},
    "control": MODELS
    | {"safety", "decoding", "fleet", "data", "sim", "models", "robot", "serving"},
    "guard": {"errors", "kinematics", "safety", "robot", "control"},
    "view": {"errors", "files", "kinematics", "decoding", "data", "robot"},
    "nodes": MODELS
    | {"safety", "decoding", "fleet", "data", "sim", "models", "robot", "control", "guard", "view"},
    "replay": MODELS | {"decoding", "data", "evaluation", "robot", "control"},
    "cli": MODELS
    | {"safety", "decoding", "fleet", "data", "sim", "training", "evaluation", "models"}
    | {"robot", "control", "nodes", "benchmark", "replay", "serving", "view"},
}

HEAVY = ["torch", "mujoco", "libero", "robosuite", "pinocchio", "rclpy", "cv2", "matplotlib"]
HEAVY += ["rerun"]


def room_of(path):
    """First folder or module name below heisd_ros/; empty for heisd_ros/__init__.py."""
    name = path.relative_to(PACKAGE).parts[0]
    return "" if name == "__init__.py" else name.removesuffix(".py")


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path):
    room = room_of(path)
    names = list(imports_of(path))
    if room != "nodes":
        ros = [name for name in names if ROS.match(name)]
        assert not ros, f"only nodes/ may import ROS, but {path.name} imports {ros}"
    if room == "":
        return
    assert room in ALLOWED, f"new room {room!r}: say in this test what it may import"
    own = [name.split(".")[1] for name in names if re.match(r"heisd_ros\.\w+", name)]
    rooms = {
        name for name in own if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    }
    assert rooms - {room} <= ALLOWED[room]


FAMILIES = {path.name for path in (PACKAGE / "families").iterdir() if path.is_dir()}


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_room_but_families_names_a_family(path):
    place = path.relative_to(PACKAGE)
    if place.parts[0] == "families":
        return
    found = [re.match(r"heisd_ros\.families\.(\w+)", name) for name in imports_of(path)]
    assert not {match[1] for match in found if match} & FAMILIES


def test_allowed_imports_have_no_cycle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {room for room, below in ALLOWED.items() if room not in done and below <= done}
        assert ready, f"cycle among {set(ALLOWED) - done}"
        done |= ready


@pytest.mark.parametrize("module", ["heisd_ros", "heisd_ros.errors", "heisd_ros.cli.main"])
def test_import_is_light(module):
    """`heisd --help` and `import heisd_ros` answer at once."""
    code = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_training_needs_no_simulator():
    """It runs on a machine that has a GPU, and neither LIBERO nor ROS."""
    modules = ["heisd_ros.training.train_vla", "heisd_ros.data.open_sources"]
    modules += [f"heisd_ros.families.{name}.training" for name in ("ecot", "openvla", "pi0fast")]
    strange = ["mujoco", "libero", "robosuite", "rclpy", "transformers"]
    code = f"import sys, {', '.join(modules)}; print([n for n in {strange} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_import_path_is_the_moved_module(old):
    with pytest.warns(DeprecationWarning, match=f"heisd_ros.{old} has moved to"):
        sys.modules.pop(f"heisd_ros.{old}", None)
        module = importlib.import_module(f"heisd_ros.{old}")
    assert module is importlib.import_module(f"heisd_ros.{MOVED[old]}")
