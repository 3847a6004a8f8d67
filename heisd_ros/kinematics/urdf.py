"""Checks of robot descriptions before parsing: bounded size and depth, finite numbers.

The parsers of URDF in C++ follow a chain of links by recursion, and a chain that is deep enough
crashes the process: with the usual stack of 8 MiB, 3,000 links still work and 5,000 do not. So a
text is checked here first, without recursion, and the result is written from what was checked: no
second parser can read it differently.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

from heisd_ros.errors import UrdfError

MAX_CHARACTERS = 2_000_000
"""Greatest length of a description: a humanoid with hands has about 200,000."""
MAX_LINKS = 1000
MAX_ELEMENTS = 20_000
MAX_FREEDOM = 128
"""Greatest number of degrees of freedom: Pinocchio's memory grows with its cube, 70 MB here."""
MAX_DEPTH = 200
"""Greatest number of links from the root to a leaf, and of nested elements."""
MAX_LENGTH_M, MAX_NUMBER = 1000.0, 1e20
"""Largest coordinate of an origin or axis, and of any other number: finite in every product."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NUMBERS = {
    "origin": {"xyz": MAX_LENGTH_M, "rpy": MAX_LENGTH_M},
    "axis": {"xyz": MAX_LENGTH_M},
    "limit": dict.fromkeys(("lower", "upper", "effort", "velocity"), MAX_NUMBER),
    "mimic": dict.fromkeys(("multiplier", "offset"), MAX_NUMBER),
    "safety_controller": dict.fromkeys(
        ("soft_lower_limit", "soft_upper_limit", "k_position", "k_velocity"), MAX_NUMBER
    ),
    "dynamics": dict.fromkeys(("damping", "friction"), MAX_NUMBER),
    "mass": {"value": MAX_NUMBER},
    "inertia": dict.fromkeys(("ixx", "ixy", "ixz", "iyy", "iyz", "izz"), MAX_NUMBER),
    "box": {"size": MAX_LENGTH_M},
    "cylinder": dict.fromkeys(("radius", "length"), MAX_LENGTH_M),
    "sphere": {"radius": MAX_LENGTH_M},
    "mesh": {"scale": MAX_LENGTH_M},
}
"""Attributes that hold numbers, by element, with the largest that is accepted."""
_VECTORS = ("xyz", "rpy", "size", "scale")
_FREEDOM = {"fixed": 0, "planar": 3, "floating": 6}
"""Degrees of freedom of a joint, by type; of any other type one."""


class _Bounded(ElementTree.TreeBuilder):
    """Builds an element tree of bounded size and depth."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        """Opens an element, unless it is too deep or there are too many."""
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH:
            raise UrdfError(f"elements lie {self._depth} deep; accepted: up to {MAX_DEPTH}")
        if self._count > MAX_ELEMENTS:
            raise UrdfError(f"the robot description has more than {MAX_ELEMENTS} elements")
        return super().start(_local(tag), attrs)

    def end(self, tag: str) -> ElementTree.Element:
        """Closes an element."""
        self._depth -= 1
        return super().end(_local(tag))


def _local(tag: str) -> str:
    """Returns a tag without its namespace, since URDF has none."""
    return tag.rpartition("}")[2]


def check_text(text: str) -> None:
    """Checks a robot description before it is parsed at all.

    Args:
        text: Text of a URDF file.

    Raises:
        UrdfError: It is too long, or has a document type, whose entities could make it longer.
    """
    if len(text) > MAX_CHARACTERS:
        raise UrdfError(
            f"the robot description has {len(text)} characters; accepted: up to {MAX_CHARACTERS}"
        )
    if "<!DOCTYPE" in text:
        raise UrdfError("the robot description has a DOCTYPE; accepted: none")


def checked_urdf(text: str) -> str:
    """Checks a robot description before any other parser sees it.

    Args:
        text: Of a URDF file, as in the ROS topic `robot_description`.

    Returns:
        The same description, written from what was checked.

    Raises:
        UrdfError: It is no XML, too large or too deep, has a loop, a number that is not finite or
            too large, or a movable joint whose axis is zero.
    """
    check_text(text)
    parser = ElementTree.XMLParser(target=_Bounded())
    try:
        parser.feed(text)
        robot: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        start = " ".join(text[:80].split())
        words = f"not a valid URDF: {error}; it starts with {start!r}"
        raise UrdfError(words.encode("utf-8", "replace").decode()) from error
    links, joints = robot.findall("link"), robot.findall("joint")
    if max(len(links), len(joints)) > MAX_LINKS:
        raise UrdfError(
            f"the robot description has {len(links)} links and {len(joints)} joints; accepted: up "
            f"to {MAX_LINKS}"
        )
    freedom = sum(_FREEDOM.get(joint.get("type", ""), 1) for joint in joints)
    if freedom > MAX_FREEDOM:
        raise UrdfError(
            f"the robot description has {freedom} degrees of freedom; accepted: up to {MAX_FREEDOM}"
        )
    for part in (*links, *joints):
        for element in part.iter():
            _check_numbers(part, element)
    for joint in joints:
        _check_joint(joint)
    _check_tree(joints)
    return ElementTree.tostring(robot, encoding="unicode")


def _check_numbers(part: ElementTree.Element, element: ElementTree.Element) -> None:
    for attribute, most in _NUMBERS.get(element.tag, {}).items():
        value = element.get(attribute)
        if value is None:
            continue
        numbers, count = value.split(), 3 if attribute in _VECTORS else 1
        good = all(_NUMBER.fullmatch(each) and abs(float(each)) <= most for each in numbers)
        if not good or len(numbers) != count:
            raise UrdfError(
                f"{attribute!r} of <{element.tag}> in {part.tag} {part.get('name', '')[:80]!r} is "
                f"{value[:80]!r}; accepted: {count} numbers up to {most:g}"
            )


def _check_joint(joint: ElementTree.Element) -> None:
    """Checks the axis of a movable joint and the order of its limits."""
    if joint.get("type") in ("fixed", "floating"):
        return  # exporters write a zero axis there
    name = f"joint {joint.get('name', '')[:80]!r}"
    for axis in joint.findall("axis"):
        numbers = [float(number) for number in axis.get("xyz", "1 0 0").split()]
        if not any(abs(number) > 1e-6 for number in numbers):
            raise UrdfError(f"the axis of {name} is {axis.get('xyz')!r}; accepted: not zero")
    limits = joint.findall("limit")
    if not limits and joint.get("type") in ("revolute", "prismatic"):
        raise UrdfError(f"{name} has no <limit>; accepted: one with effort and velocity")
    for limit in limits:
        for attribute in ("effort", "velocity"):
            if limit.get(attribute) is None:
                raise UrdfError(f"the <limit> of {name} has no {attribute!r}, which URDF asks for")
        low, high = (float(limit.get(end, 0.0)) for end in ("lower", "upper"))
        if low > high:
            raise UrdfError(
                f"the limits of {name} are {low:g} and {high:g}; accepted: the lower one first"
            )


def _check_tree(joints: list[ElementTree.Element]) -> None:
    """Follows the joints from the root, level by level."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    parents: dict[str, str] = {}
    for parent, child in map(_ends, joints):
        if child in parents:
            raise UrdfError(f"link {child[:80]!r} is the child of two joints; accepted: of one")
        children[parent].append(child)
        parents[child] = parent
    level, depth, seen = [name for name in children if name not in parents], 0, 0
    while level:
        depth, seen = depth + 1, seen + len(level)
        if depth > MAX_DEPTH:
            raise UrdfError(f"links are chained {depth} deep; accepted: up to {MAX_DEPTH}")
        level = [child for name in level for child in children.get(name, ())]
    if seen < len(parents.keys() | children.keys()):
        raise UrdfError("joints of the robot description form a loop; accepted: a tree")


def _ends(joint: ElementTree.Element) -> Iterator[str]:
    """Yields the names of a joint's parent and child link."""
    for end in ("parent", "child"):
        element = joint.find(end)
        yield "" if element is None else element.get("link", "")
