"""Reduces a URDF to one in which only the joints of an arm move.

A description may hold a whole robot. What is off the arm's chain does not decide whether the arm
can be read: a finger that mimics a later joint, or one that itself mimics a third, is valid in ROS
but not in Pinocchio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from heisd_ros.errors import UrdfError
from heisd_ros.files.bounded import shown
from heisd_ros.kinematics.urdf import check_text

_PARTS = ("parent", "child", "origin", "axis", "limit", "mimic")
_MOST_LISTED = 200


@dataclass
class _Joint:
    name: str
    kind: str
    parts: dict[str, dict[str, str]] = field(default_factory=dict)

    def link(self, end: str) -> str:
        return self.parts.get(end, {}).get("link", "")


class Description:
    """Links and joints of a URDF text; everything else in it is ignored.

    Attributes:
        name: of the robot.
        links: names of all links, in the text's order.
        joints: all joints by their names.

    Args:
        urdf: the text.

    Raises:
        UrdfError: the text is not XML, or describes no robot.
    """

    def __init__(self, urdf: str) -> None:
        self.name = ""
        self.links: list[str] = []
        self.joints: dict[str, _Joint] = {}
        self._joints: list[_Joint] = []
        self._path: list[str] = []
        parser = expat.ParserCreate()  # knows no namespaces: prefixes need no declaration
        parser.StartElementHandler = self._enter
        parser.EndElementHandler = lambda _: self._path.pop()
        check_text(urdf)
        try:
            parser.Parse(urdf, True)
        except (expat.ExpatError, ValueError) as error:
            raise not_valid(f"{error}.", urdf) from error
        if not self.links:
            raise not_valid("it has no links.", urdf)
        self.joints = {joint.name: joint for joint in self._joints}
        self._above = {joint.link("child"): joint for joint in self._joints}

    def _enter(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if self._path == ["robot"]:
            self.name = attributes.get("name", "")
        elif self._path == ["robot", "link"]:
            self.links.append(attributes.get("name", ""))
        elif self._path == ["robot", "joint"]:
            self._joints.append(_Joint(attributes.get("name", ""), attributes.get("type", "")))
        elif self._path == ["robot", "joint", tag] and tag in _PARTS:
            self._joints[-1].parts.setdefault(tag, attributes)

    def fixed_but(self, frames: Iterable[str]) -> str:
        """Returns the URDF with all joints fixed except those above some links, and their leaders.

        A fixed one has its child where the joint at 0 has it. Links have neither masses nor shapes.
        A mimic of a mimic is written as one of the joint that both follow. Links that cannot be
        told, because their names are doubled or they hang on nothing, are left out.

        Raises:
            UrdfError: a link is not in the description, or its place in the tree is not clear.
        """
        kept: dict[str, _Joint] = {}
        known = set(self.links)
        links: dict[str, None] = {}
        waiting = list(frames)[::-1]
        while waiting:
            link = waiting.pop()
            if link not in known:
                raise UrdfError(
                    f"the robot description has no link {shown(link)}; it has "
                    f"{self.links[:_MOST_LISTED]}"
                )
            links[link] = None
            joint = self._above.get(link)
            if joint is None or joint.name in kept:
                continue
            kept[joint.name] = joint
            waiting.append(joint.link("parent"))
            if "mimic" in joint.parts:
                waiting.append(self._leader(joint).link("child"))
        self._check_once(kept, links)
        texts = [self._text(joint) for joint in kept.values()]
        texts += [_fixed(joint) for joint in self._rest(kept, links)]
        bodies = (f"<link name={quoteattr(name)}/>" for name in self.links if name in links)
        return f'<robot name="arm">{"".join((*bodies, *texts))}</robot>'

    def _rest(self, kept: dict[str, _Joint], links: dict[str, None]) -> list[_Joint]:
        """The joints below the links, which come to be what the joints lead to as well."""
        below: dict[str, list[_Joint]] = {}
        for joint in self._joints:
            below.setdefault(joint.link("parent"), []).append(joint)
        known, names, rest = Counter(self.links), set(kept), []
        waiting = list(links)
        while waiting:
            for joint in below.get(waiting.pop(), ()):
                child = joint.link("child")
                if known[child] == 1 and child not in links and joint.name not in names:
                    names.add(joint.name)
                    links[child] = None
                    waiting.append(child)
                    rest.append(joint)
        return rest

    def _check_once(self, kept: dict[str, _Joint], links: dict[str, None]) -> None:
        children = [joint.link("child") for joint in self._joints]
        for what, names, wanted in (
            ("links", self.links, links),
            ("joints", [joint.name for joint in self._joints], kept),
            ("joints above the link", children, links),
        ):
            doubled = [name for name, n in Counter(names).items() if n > 1 and name in wanted]
            if doubled:
                raise UrdfError(f"the robot description has several {what} {shown(doubled[0])}")

    def _leader(self, joint: _Joint) -> _Joint:
        """Returns the joint that a joint mimics."""
        name = joint.parts["mimic"].get("joint", "")
        if name not in self.joints:
            raise UrdfError(f"the joint {shown(joint.name)} mimics {shown(name)}, which is none")
        return self.joints[name]

    def _text(self, joint: _Joint) -> str:
        parts = dict(joint.parts)
        if "mimic" in parts:
            parts["mimic"] = self.followed(joint)
        inside = "".join(_element(tag, given) for tag, given in parts.items())
        return _element("joint", {"name": joint.name, "type": joint.kind}, inside)

    def followed(self, joint: _Joint) -> dict[str, str]:
        """Returns a mimic joint's attributes with respect to a joint that mimics none itself."""
        multiplier, offset, seen = 1.0, 0.0, {joint.name}
        try:
            while "mimic" in joint.parts:
                about = joint.parts["mimic"]
                offset += multiplier * float(about.get("offset", "0"))
                multiplier *= float(about.get("multiplier", "1"))
                joint = self._leader(joint)
                if joint.name in seen:
                    raise UrdfError(f"the joint {shown(joint.name)} mimics itself, through others")
                seen.add(joint.name)
        except ValueError as error:
            raise UrdfError(f"the mimic of {shown(joint.name)} is no number: {error}") from error
        return {"joint": joint.name, "multiplier": repr(multiplier), "offset": repr(offset)}


def _element(tag: str, attributes: dict[str, str], inside: str = "") -> str:
    given = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<{tag}{given}>{inside}</{tag}>"


def _fixed(joint: _Joint) -> str:
    parts = (_element(tag, joint.parts[tag]) for tag in _PARTS[:3] if tag in joint.parts)
    return _element("joint", {"name": joint.name, "type": "fixed"}, "".join(parts))


def not_valid(problem: str, urdf: str) -> UrdfError:
    """Makes the error for a text that is no URDF, with its beginning."""
    return UrdfError(f"not a valid URDF: {problem} It starts with {' '.join(urdf[:80].split())!r}")
