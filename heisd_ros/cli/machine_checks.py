"""Checks of `heisd doctor` without ROS: packages, GPU, renderer, memory, threads, clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heisd_ros.sim.renderer import default_renderer, renderers

OLDEST_PYTHON = (3, 10)
COMPILED = ("numpy", "scipy", "h5py", "pinocchio", "faiss", "torch", "cv2", "mujoco")
"""Packages with compiled parts that are built against NumPy."""
OPTIONAL = frozenset({"cv2", "mujoco"})
OF_MODELS = frozenset({"torch", "faiss"})
"""What a node does without whose model runs behind a server."""
OLD_ABI = ("compiled using NumPy 1.x", "dtype size changed", "_ARRAY_API not found")
QUICK_CLOCKS = frozenset({"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"})
"""Clock sources of the kernel that a program reads without a system call."""
SCARCE_MIB = 64
IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    print("begin", name, flush=True)
    try:
        importlib.import_module(name)
        print("good", name, flush=True)
    except ModuleNotFoundError as error:
        print("lacking" if error.name == name else f"bad {error}", name, flush=True)
    except BaseException as error:
        print("bad", type(error).__name__, str(error).splitlines()[:1], flush=True)
"""


@dataclass(frozen=True)
class Finding:
    """What was seen of one thing.

    Attributes:
        level: "good", "warning" (works, with a limit) or "bad" (does not work).
        name: The thing.
        text: What was seen and, unless it is good, what to do.
    """

    level: str
    name: str
    text: str


def look() -> Iterator[Finding]:
    """Looks at this machine and this environment. Takes seconds: every package is imported."""
    yield python(sys.version_info[:2])
    yield from packages()
    yield cv_bridge()
    yield graphics()
    yield renderer()
    yield shared_memory()
    yield threads()
    yield clock(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"))


def python(version: tuple[int, ...]) -> Finding:
    """The interpreter's version."""
    words = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("bad", "Python", f"{words}; accepted: {oldest} or newer")
    return Finding("good", "Python", words)


def packages(names: tuple[str, ...] = COMPILED) -> Iterator[Finding]:
    """Whether compiled packages can be imported beside the NumPy that is installed.

    Args:
        names: Modules; they are imported in a process of their own, as a wrong one may crash it.
    """
    for name in names:
        run = [sys.executable, "-c", IMPORT, name]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        said = done.stdout.splitlines()
        if any(sign in done.stdout + done.stderr for sign in OLD_ABI):
            remedy = "install one for this NumPy, or an older NumPy"
            yield Finding("bad", name, f"was compiled against another NumPy: {remedy}")
        elif done.returncode != 0:
            yield Finding("bad", name, f"ends the process when it is imported ({done.returncode})")
        elif said[-1] == f"good {name}":
            yield Finding("good", name, "can be imported")
        elif said[-1] == f"lacking {name}" and name in OF_MODELS:
            yield Finding("warning", name, "is not installed: a model runs elsewhere or not at all")
        elif said[-1] == f"lacking {name}":
            level = "warning" if name in OPTIONAL else "bad"
            yield Finding(level, name, "is not installed")
        else:
            yield Finding("bad", name, f"cannot be imported: {said[-1].removeprefix('bad ')}")


def cv_bridge() -> Finding:
    """Whether cv_bridge converts test pictures as we do: the trial that a node makes."""
    from heisd_ros.data import bridge
    from heisd_ros.data.encodings import accepted

    problem, encodings = bridge.problem(), accepted("cv_bridge")
    if not problem:
        return Finding("good", "cv_bridge", f"reads test pictures right: used for {encodings}")
    level = "warning" if bridge.installed() else "good"
    return Finding(level, "cv_bridge", f"not used: {problem}; {encodings} are refused")


def graphics() -> Finding:
    """The GPU, its driver, and whether this PyTorch is built for it."""
    try:
        import torch
    except ImportError:
        return Finding("warning", "GPU", "is not looked at without PyTorch")
    build = f"PyTorch {torch.__version__}"
    if torch.cuda.is_available():
        return Finding("good", "GPU", f"{torch.cuda.get_device_name(0)}, {build}")
    if shutil.which("nvidia-smi") is None:
        return Finding("good", "GPU", f"none; {build} runs on the CPU")
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    seen = subprocess.run(query, capture_output=True, text=True, check=False)
    if seen.returncode != 0:
        return Finding("bad", "GPU", f"the driver does not answer: {seen.stdout.strip()}")
    why = "is built for the CPU" if torch.version.cuda is None else "cannot use it: newer driver?"
    return Finding("warning", "GPU", f"{seen.stdout.strip()} is there, but {build} {why}")


def renderer() -> Finding:
    """Whether the renderer of the simulated arm, MUJOCO_GL, is there."""
    there = renderers()
    asked = os.environ.get("MUJOCO_GL") or default_renderer()
    if asked in there:
        return Finding("good", "renderer", f"{asked} of {there}")
    remedy = f"set MUJOCO_GL={there[0]}" if there else "install libosmesa6 or libegl1"
    return Finding("warning", "renderer", f"{asked} is not there: {remedy}")


def shared_memory(folder: str = "/dev/shm") -> Finding:
    """Whether large pictures fit through Fast DDS's shared memory."""
    free = shutil.disk_usage(folder).free // 2**20
    if free < SCARCE_MIB:
        return Finding(
            "bad", "shared memory", f"{free} MiB free in {folder}: give a container --shm-size=1g"
        )
    given = {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"} & set(os.environ)
    rmw = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if rmw == "rmw_fastrtps_cpp" and not given:
        return Finding(
            "warning",
            "shared memory",
            f"{free} MiB free, but Fast DDS uses 512 KiB of it where no profile says more, and "
            "loses larger pictures: config/fastdds.xml, docs/real_arm.md",
        )
    return Finding("good", "shared memory", f"{free} MiB free")


def threads() -> Finding:
    """Cores that this process may use, against what it was told of threads."""
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > cores:
        return Finding(
            "warning", "threads", f"OMP_NUM_THREADS={asked}, but there are {cores} cores"
        )
    level = "warning" if cores < 2 else "good"
    return Finding(level, "threads", f"{cores} cores; the model leaves one to drivers if it can")


def clock(source: Path) -> Finding:
    """The kernel's clock source.

    Args:
        source: File that names it.
    """
    if not source.is_file():
        return Finding("warning", "clock", f"{source} is not there: its source is not known")
    name = source.read_text(encoding="utf-8").strip()
    if name in QUICK_CLOCKS:
        return Finding("good", "clock", name)
    return Finding(
        "warning", "clock", f"{name}: each look at the time is a system call; tsc is quicker"
    )
