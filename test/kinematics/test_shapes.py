"""Collision elements of a description: what is taken, and that nothing hostile is."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics import shapes
from heisd_ros.kinematics.shapes import collision_shapes

TETRAHEDRON = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]])
FACES = TETRAHEDRON[[[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]]


def urdf(*geometries, origin=""):
    elements = "".join(
        f"<collision>{origin}<geometry>{geometry}</geometry></collision>" for geometry in geometries
    )
    return f'<robot name="r"><link name="arm">{elements}</link></robot>'


def binary(faces):
    records = [struct.pack("<12fH", 0, 0, 0, *face.ravel(), 0) for face in faces]
    return bytes(80) + struct.pack("<I", len(faces)) + b"".join(records)


def text(faces):
    corners = "".join(f"vertex {x} {y} {z}\n" for x, y, z in faces.reshape(-1, 3))
    return f"solid part\nfacet outer loop\n{corners}endsolid\n".encode()


def mesh(path, scale="1 1 1"):
    return f'<mesh filename="file://{path}" scale="{scale}"/>'


def test_points_and_radius_enclose_a_solid_and_little_more():
    sizes = '<box size="0.2 0.4 0.6"/>', '<sphere radius="0.3"/>'
    box, ball, rod = collision_shapes(urdf(*sizes, '<cylinder radius="0.1" length="0.4"/>'))
    np.testing.assert_allclose(np.abs(box.points).max(axis=0), [0.1, 0.2, 0.3])
    assert (ball.points == 0.0).all() and ball.radius == 0.3 and box.radius == rod.radius == 0.0
    rng = np.random.default_rng(0)
    for direction in rng.normal(size=(50, 3)):
        across = np.linalg.norm(direction[:2]) * 0.1
        reach = across + abs(direction[2]) * 0.2
        assert -1e-12 <= (rod.points @ direction).max() - reach <= 0.03 * across


@pytest.mark.parametrize("form", [binary, text])
def test_a_mesh_is_its_hull_in_its_scale(tmp_path, form):
    path = tmp_path / "part.stl"
    path.write_bytes(form(FACES))
    (part,) = collision_shapes(urdf(mesh(path, "1 1 -2")))
    expected = TETRAHEDRON * [1, 1, -2]
    assert sorted(part.points.round(6).tolist()) == sorted(expected.round(6).tolist())


def test_a_flat_mesh_has_a_hull_too(tmp_path):
    path = tmp_path / "plate.stl"
    square = np.array([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]])
    path.write_bytes(binary(square[[[0, 1, 2], [0, 2, 3]]]))
    (plate,) = collision_shapes(urdf(mesh(path)))
    np.testing.assert_allclose(np.ptp(plate.points, axis=0), [0.1, 0.1, 0.0], atol=1e-6)


def test_solids_of_no_size_are_points():
    for each in collision_shapes(urdf('<box size="0 0 0"/>', '<cylinder radius="0" length="0"/>')):
        assert np.abs(each.points).max() < 1e-3


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ('<box size="1 1"/>', "box of size '1 1'; accepted: 3 numbers"),
        ('<box size="1 1 nan"/>', "accepted: 3 numbers of at most 10"),
        ('<sphere radius="-1"/>', "accepted: not negative"),
        ('<sphere radius="1e300"/>', "at most 10"),
        ('<sphere radius="wide"/>', "sphere of size 'wide'"),
        ("<sphere/>", "sphere of size ''"),
        ("<cone/>", "its geometry is cone; accepted: box"),
        ("", "its geometry is none"),
        ('<mesh filename="package://nowhere/arm.stl"/>', "arm.stl' is not there"),
        ('<mesh filename="package://example-robot-data/../../../etc/passwd"/>', "is not there"),
        ('<mesh filename="arm.stl"/>', "'arm.stl' is not there"),
        ('<mesh filename="file:///dev/zero"/>', "'file:///dev/zero' is not there"),
        ('<mesh filename="file:///etc"/>', "is not there"),
        ("<mesh/>", "'' is not there"),
        (f'<mesh filename="{__file__}"/>', "is no STL file"),
    ],
)
def test_a_bad_element_is_named_with_its_link(geometry, message):
    with pytest.raises(UrdfError, match=message) as caught:
        collision_shapes(urdf(geometry))
    assert "'arm'" in str(caught.value) and "\n" not in str(caught.value)


def test_an_origin_that_is_no_place_is_named():
    with pytest.raises(UrdfError, match="xyz '0 0'"):
        collision_shapes(urdf('<sphere radius="1"/>', origin='<origin xyz="0 0"/>'))


@pytest.mark.parametrize("corner", [np.nan, np.inf, 1e30])
def test_a_mesh_without_bounds_is_refused(tmp_path, corner):
    faces = FACES.copy()
    faces[0, 0, 0] = corner
    path = tmp_path / "part.stl"
    path.write_bytes(binary(faces))
    with pytest.raises(UrdfError, match="reaches beyond 10 m"):
        collision_shapes(urdf(mesh(path)))


def test_files_are_not_read_beyond_a_bound(tmp_path, monkeypatch):
    huge, pipe = tmp_path / "huge.stl", tmp_path / "pipe.stl"
    with huge.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(UrdfError, match=r"huge\.stl is too large"):
        collision_shapes(urdf(mesh(huge)))
    os.mkfifo(pipe)
    with pytest.raises(UrdfError, match=r"pipe\.stl' is not there"):
        collision_shapes(urdf(mesh(pipe)))
    parts = [tmp_path / f"{i}.stl" for i in range(3)]
    for part in parts:
        part.write_bytes(binary(FACES))
    monkeypatch.setattr(shapes, "_MOST_CORNERS", 27)
    collision_shapes(urdf(*[mesh(parts[0])] * 5))
    with pytest.raises(UrdfError, match=r"2\.stl is too large; accepted: 9 triangles in all"):
        collision_shapes(urdf(*map(mesh, parts)))


@pytest.mark.parametrize("count", [0, 500])
def test_no_solids_and_too_many_are_told_by_their_number(count):
    with pytest.raises(UrdfError, match=f"has {count} collision elements; accepted: 1 to 128"):
        collision_shapes(urdf(*['<sphere radius="1"/>'] * count))
