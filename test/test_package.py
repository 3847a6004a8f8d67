"""What is written twice because two tools read it must agree."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from catkin_pkg.changelog import Changelog, populate_changelog_from_rst
from support.tree import PACKAGE, ROOT, imports_of, python_files

import heisd_ros

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; elsewhere pip stays out: it takes setuptools' distutils
    from pip._vendor import tomli as tomllib

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
CMAKE = (ROOT / "CMakeLists.txt").read_text()
EXTRAS = PYPROJECT["project"]["optional-dependencies"]

# Modules whose files are not where importlib.metadata looks.
DISTRIBUTIONS = {
    "pinocchio": "pin",
    "hppfcl": "pin",
    "coal": "pin",
    "example_robot_data": "example-robot-data",
}


def requirement_names(lists):
    return {re.split(r"[^\w.-]", item)[0].lower().replace("_", "-") for item in lists}


def manifest_dependencies():
    return {e.text for e in MANIFEST if e.tag in {"depend", "exec_depend", "buildtool_depend"}}


def test_version_stands_in_one_place():
    version = re.escape(MANIFEST.findtext("version"))
    for path in (ROOT / "pyproject.toml", ROOT / "setup.py", PACKAGE / "__init__.py"):
        assert not re.search(rf'"{version}"', path.read_text()), path


def test_the_changelog_is_read_by_the_release_tools():
    version = MANIFEST.findtext("version")
    # catkin_prepare_release puts version and date where Forthcoming stands.
    text, titles = re.subn(
        r"^Forthcoming\n-+$",
        f"{version} (2026-01-01)\n" + "-" * 18,
        (ROOT / "CHANGELOG.rst").read_text(),
        flags=re.MULTILINE,
    )
    changelog = Changelog("heisd_ros")
    populate_changelog_from_rst(changelog, text)
    assert titles <= 1
    assert version in [number for number, _, _ in changelog.foreach_version()]


def test_version_is_the_same_for_pip_and_ros():
    assert MANIFEST.findtext("version") == heisd_ros.__version__
    assert importlib.metadata.version("heisd_ros") == heisd_ros.__version__


def test_license_is_the_same_for_pip_and_ros():
    assert MANIFEST.findtext("license") == PYPROJECT["project"]["license"] == "Apache-2.0"


def test_executables_are_the_same_for_pip_and_ros():
    cmake = re.findall(r"^heisd_executable\((\w+) ([\w.]+) (\w+)\)", CMAKE, re.MULTILINE)
    scripts = PYPROJECT["project"]["scripts"]
    assert {name: f"{module}:{function}" for name, module, function in cmake} == scripts


@pytest.mark.parametrize("name, target", PYPROJECT["project"]["scripts"].items())
def test_executable_exists(name, target):
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_cmake_packages_are_in_the_manifest():
    found = set(re.findall(r"find_package\((\w+)", CMAKE))
    assert found <= manifest_dependencies()


def test_ros_distributions_have_the_same_wheels():
    wheels = {
        distro: {item.removeprefix(f"ros-{distro}-") for item in requirement_names(EXTRAS[distro])}
        for distro in ("jazzy", "kilted")
    }
    # Kilted's message generators find Python by themselves, and split a package.
    assert wheels["jazzy"] - wheels["kilted"] == {"python-cmake-module"}
    assert wheels["kilted"] - wheels["jazzy"] == {"ament-cmake-ros-core"}


def test_every_ros_package_imported_is_declared():
    declared = manifest_dependencies()
    wheels = {item.removeprefix("ros-jazzy-").replace("-", "_") for item in EXTRAS["jazzy"]}
    for path in python_files():
        for name in {name.split(".")[0] for name in imports_of(path)}:
            if name == "rclpy" or re.fullmatch(r"\w+_msgs|\w+_interfaces|std_srvs", name):
                unwheeled = name in {"control_msgs", "moveit_msgs"}  # used where a ROS has them
                assert name in declared, f"package.xml lacks {name} ({path.name})"
                assert unwheeled or name in wheels | {"builtin_interfaces"}, f"no wheel of {name}"


def test_every_python_distribution_imported_is_declared():
    extras = ("sim", "reference", "lerobot", "fleet", "ray", "view")
    optional = [requirement for extra in extras for requirement in EXTRAS[extra]]
    declared = requirement_names(PYPROJECT["project"]["dependencies"] + optional)
    owners = importlib.metadata.packages_distributions()
    for path in python_files():
        if path.is_relative_to(PACKAGE / "nodes"):
            continue  # ROS packages: the test above
        for name in {name.split(".")[0] for name in imports_of(path)}:
            if name in sys.stdlib_module_names or name == "heisd_ros":
                continue
            candidates = requirement_names([DISTRIBUTIONS.get(name, name), *owners.get(name, [])])
            assert candidates & declared, f"pyproject.toml lacks {name}, imported by {path}"


INTERFACES = [*(ROOT / "msg").glob("*.msg"), *(ROOT / "action").glob("*.action")]


@pytest.mark.parametrize("path", sorted(INTERFACES), ids=lambda path: path.stem)
def test_interface_has_type_support(path):
    kind = getattr(importlib.import_module(f"heisd_ros.{path.parent.name}"), path.stem)
    kind.__import_type_support__()
    assert type(kind)._TYPE_SUPPORT is not None


def test_every_room_is_a_package():
    folders = {path.parent for path in python_files()}
    assert not [f"{folder}" for folder in folders if not (folder / "__init__.py").is_file()]


def test_requirements_script_prints_the_list_of_pyproject():
    script = ROOT / "scripts/requirements.py"
    run = [sys.executable, str(script)]
    printed = subprocess.run([*run, "sim", "jazzy"], capture_output=True, text=True, check=True)
    expected = PYPROJECT["project"]["dependencies"] + EXTRAS["sim"] + EXTRAS["jazzy"]
    assert printed.stdout.splitlines() == list(dict.fromkeys(expected))
    wrong = subprocess.run([*run, "iron"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "iron" in wrong.stderr
