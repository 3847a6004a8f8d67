"""Collision shapes of a robot description: boxes, cylinders, spheres, and hulls of STL meshes.

A description may come from the network, so nothing in it is trusted: sizes, counts and files are
bounded, and only regular STL files within a package, or named by an absolute path, are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import coal
import numpy as np
import pinocchio as pin
from scipy.spatial import ConvexHull, QhullError

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics.robots import share_folders

MOST_SHAPES = 128
_MOST_CORNERS = 900_000
"""Greatest number of corners in all meshes together, three per triangle."""
_BYTES_A_CORNER = 100
"""Greatest number of bytes of a corner in a text STL file."""
_MOST_HULL_VERTICES = 10_000
_LEAST_M, _MOST_M = 1e-4, 10.0
"""Sizes below the first are raised to it; sizes above the second are refused."""
_RIM = 16
"""Points around the rim of a cylinder; the prism through them is up to 2% wider than it."""
_SIZES = {"box": "size", "sphere": "radius", "cylinder": "radius length"}


@dataclass(frozen=True, eq=False)
class Shape:
    """A convex solid of a link.

    Attributes:
        link: Name of the link.
        placement: Pose of the solid in the link's frame.
        solid: Coal's geometry, for distances to other solids.
        points: (n, 3), m, in the solid's frame: the hull of balls around them contains it.
        radius: Of the balls, m.
    """

    link: str
    placement: pin.SE3
    solid: coal.CollisionGeometry
    points: np.ndarray
    radius: float


def collision_shapes(urdf: str) -> list[Shape]:
    """Reads the collision elements of every link, in the order of the description.

    Args:
        urdf: Text that is known to be a URDF.

    Raises:
        UrdfError: There is none, there are too many, or one of them cannot be used; the message
            names the link.
    """
    found = [
        (str(link.get("name")), element)
        for link in ElementTree.fromstring(urdf).findall("link")
        for element in link.findall("collision")
    ]
    if not 0 < len(found) <= MOST_SHAPES:
        raise UrdfError(
            f"the robot description has {len(found)} collision elements; accepted: 1 to "
            f"{MOST_SHAPES}"
        )
    shapes: list[Shape] = []
    meshes: dict[Path, np.ndarray] = {}
    for link, element in found:
        try:
            shapes.append(_shape(link, element, meshes))
        except (ValueError, OSError) as error:
            raise UrdfError(f"collision element of link {link!r}: {error}") from error
    return shapes


def _shape(link: str, element: ElementTree.Element, meshes: dict[Path, np.ndarray]) -> Shape:
    origin = element.find("origin")
    given = {} if origin is None else origin.attrib
    xyz = _numbers("xyz", given.get("xyz", "0 0 0"), 3)
    rpy = _numbers("rpy", given.get("rpy", "0 0 0"), 3)
    geometry = element.find("geometry")
    child = None if geometry is None else next(iter(geometry), None)
    kind = "none" if child is None else child.tag
    if child is None or kind not in (*_SIZES, "mesh"):
        raise ValueError(f"its geometry is {kind}; accepted: {', '.join(_SIZES)} or mesh")
    solid, points, radius = _mesh(child, meshes) if kind == "mesh" else _primitive(kind, child)
    return Shape(link, pin.SE3(pin.rpy.rpyToMatrix(rpy), xyz), solid, points, radius)


def _primitive(
    kind: str, element: ElementTree.Element
) -> tuple[coal.CollisionGeometry, np.ndarray, float]:
    text = " ".join(element.get(name, "") for name in _SIZES[kind].split())
    sizes = _numbers(f"{kind} of size", text, {"box": 3, "sphere": 1, "cylinder": 2}[kind])
    if (sizes < 0.0).any():
        raise ValueError(f"{kind} of size {text!r}; accepted: not negative")
    sizes = np.maximum(sizes, _LEAST_M)
    if kind == "sphere":
        return coal.Sphere(sizes[0]), np.zeros((1, 3)), float(sizes[0])
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    if kind == "box":
        return coal.Box(*sizes), signs * sizes / 2.0, 0.0
    angles = np.arange(_RIM) * 2.0 * math.pi / _RIM
    rim = np.stack([np.cos(angles), np.sin(angles)], axis=1) * sizes[0] / math.cos(math.pi / _RIM)
    ends = [np.column_stack([rim, np.full(_RIM, end * sizes[1] / 2.0)]) for end in (-1.0, 1.0)]
    return coal.Cylinder(*sizes), np.vstack(ends), 0.0


def _mesh(
    element: ElementTree.Element, meshes: dict[Path, np.ndarray]
) -> tuple[coal.CollisionGeometry, np.ndarray, float]:
    """Makes the convex hull of a mesh, which is larger than the mesh if that is not convex.

    Args:
        element: Says which file, and its scale.
        meshes: Corners of the files that were read before; this one's are added.
    """
    path = _resolve(element.get("filename", ""))
    if path not in meshes:
        meshes[path] = _stl(path, _MOST_CORNERS - sum(map(len, meshes.values())))
    corners = meshes[path]
    corners = corners * _numbers("scale", element.get("scale", "1 1 1"), 3)
    if not (np.abs(corners) <= _MOST_M).all():
        raise ValueError(f"a mesh that reaches beyond {_MOST_M:g} m, or to no number at all")
    hull = _hull(np.unique(corners, axis=0))
    points = hull.points[hull.vertices]
    if len(points) > _MOST_HULL_VERTICES:
        raise ValueError(
            f"a mesh whose hull has {len(points)} corners; accepted: {_MOST_HULL_VERTICES}"
        )
    index = {vertex: i for i, vertex in enumerate(hull.vertices.tolist())}
    vertices, triangles = coal.StdVec_Vec3s(), coal.StdVec_Triangle()
    for point in points:
        vertices.append(point)
    for triangle in hull.simplices.tolist():
        triangles.append(coal.Triangle(*(index[vertex] for vertex in triangle)))
    return coal.Convex(vertices, triangles), points, 0.0


def _hull(corners: np.ndarray) -> ConvexHull:
    try:
        return ConvexHull(corners)
    except (QhullError, ValueError):
        try:
            return ConvexHull(corners, qhull_options="QJ")  # joggled, a flat plate has one, too
        except (QhullError, ValueError) as error:
            raise ValueError(f"a mesh of {len(corners)} corners without a hull") from error


def _resolve(name: str) -> Path:
    """Finds the file of a mesh.

    Raises:
        ValueError: It does not exist, or must not be read.
    """
    package = re.fullmatch(r"package://([^/]+)/(.+)", name)
    if package:
        roots = [folder / package[1] for folder in share_folders()]
        places = [root / package[2] for root in roots]
        inside = [
            place
            for root, place in zip(roots, places, strict=True)
            if place.resolve().is_relative_to(root.resolve())
        ]
    else:
        inside = [Path(name.removeprefix("file://"))]
    path = next((path for path in inside if path.is_absolute() and path.is_file()), None)
    if path is None:
        raise ValueError(
            f"mesh {name!r} is not there; accepted: package://PACKAGE/FILE of a package that is "
            "installed here, or the absolute path of a file"
        )
    return path


def _stl(path: Path, most: int) -> np.ndarray:
    """(3 n, 3) float64, corners of the triangles of an STL file, binary or text.

    Args:
        path: The file.
        most: Corners that it may have.

    Raises:
        ValueError: It is none, or too large.
    """
    with path.open("rb") as file:
        content = file.read(most * _BYTES_A_CORNER + 1)
    corners = _corners(content) if len(content) <= most * _BYTES_A_CORNER else None
    if corners is None or len(corners) > most:
        raise ValueError(
            f"mesh {path} is too large; accepted: {_MOST_CORNERS // 3} triangles in all"
        )
    if not len(corners):
        raise ValueError(f"mesh {path} is no STL file; accepted: STL, binary or text")
    return corners


def _corners(content: bytes) -> np.ndarray:
    """(3 n, 3) float64, of an STL file; empty where it is none."""
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    count = int.from_bytes(content[80:84], "little")
    if len(content) == 84 + count * record.itemsize:
        return np.frombuffer(content, record, offset=84)["corners"].reshape(-1, 3).astype(float)
    rows = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", content)
    try:
        return np.array(rows).astype(np.float64).reshape(-1, 3)
    except ValueError:
        return np.zeros((0, 3))


def _numbers(name: str, text: str, count: int) -> np.ndarray:
    values = np.array([float(word) for word in _words(text)])
    if values.shape != (count,) or not (np.abs(values) <= _MOST_M).all():
        raise ValueError(f"{name} {text!r}; accepted: {count} numbers of at most {_MOST_M:g}")
    return values


def _words(text: str) -> Iterator[str]:
    """The numbers in a text as words, and 'nan' for what is none."""
    for word in text.split():
        try:
            float(word)
        except ValueError:
            yield "nan"
        else:
            yield word
