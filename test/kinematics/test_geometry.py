"""Distances between the links of an arm, against an independent computation."""

from __future__ import annotations

import numpy as np
import pytest
from support.collisions import BASE, Capsules, capsule_arm, capsule_urdf
from support.robots import urdf_of

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.geometry import ArmGeometry

ARM = capsule_arm()
CAPSULES = Capsules()
BALL = '<collision><geometry><sphere radius="0.1"/></geometry></collision>'
LIMIT = '<limit lower="-1" upper="0.5" velocity="1" effort="1"/>'


def random_postures(arm, count, seed=0):
    low, high = (np.clip(ends, -np.pi, np.pi) for ends in arm.position_limits)
    return np.random.default_rng(seed).uniform(low, high, size=(count, len(low)))


def pairs_of(geometry):
    """Names of two links, and for each distance between links which they are."""
    names = [tuple(geometry.words(i).split(" and ")) for i in range(geometry.pairs)]
    return names


def link(name, solids=BALL):
    return f'<link name="{name}">{solids}</link>'


def joint(name, parent, child, kind="revolute", extra=LIMIT, at="0 0 1"):
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{at}"/><axis xyz="0 1 0"/>{extra}</joint>'
    )


def robot(*parts):
    return f'<robot name="r">{"".join(parts)}</robot>'


def made(urdf, tip, srdf=""):
    arm = ArmKinematics(urdf, tip)
    return ArmGeometry(urdf, arm, srdf)


def test_distances_are_those_of_the_capsules():
    names = pairs_of(ARM.geometry)
    plain = sorted({pair for pair in names if not any("finger" in name for name in pair)})
    chosen = [i for i, pair in enumerate(names) if pair in plain]
    moving = [ARM.geometry.words(i).split()[0] for i in range(len(names), len(ARM.geometry.first))]
    for q in random_postures(ARM, 40):
        distances = ARM.geometry.distances(q)
        least, heights = CAPSULES.measure(q, plain)
        # An overlap may be measured along another axis than the capsules', but never as room.
        measured = distances[chosen].min()
        assert measured == pytest.approx(least, abs=1e-5) or max(measured, least) < 0.0
        for name, height in heights.items():
            points = [distances[len(names) + i] for i, each in enumerate(moving) if each == name]
            assert -0.003 <= min(points) - height <= 1e-4  # the rim of a cylinder is enclosed


@pytest.mark.parametrize(
    ("name", "tip"), [("franka", "panda_hand_tcp"), ("ur5e", "tool0"), ("xarm7", "link7")]
)
def test_slopes_say_how_distances_change(name, tip):
    urdf = urdf_of(name)
    arm = ArmKinematics(urdf, tip, None, BASE if name == "franka" else None)
    geometry = ArmGeometry(urdf, arm)
    wrong = 0
    for q in random_postures(arm, 10):
        distances = geometry.distances(q)
        which = np.flatnonzero((distances < 0.2) & (distances > 0.0))
        which = np.concatenate(
            [which[which < geometry.pairs], which[which >= geometry.pairs][::40]]
        )
        slopes = geometry.slopes(q, which)
        step = np.random.default_rng(1).normal(size=len(q)) * 1e-4
        change = (geometry.distances(q + step) - geometry.distances(q - step))[which] / 2
        wrong += np.count_nonzero(np.abs(change - slopes @ step) > 2e-2 * np.linalg.norm(step))
        asked = geometry.distances(q, which)
        np.testing.assert_allclose(asked[which], distances[which], atol=1e-5)
        assert np.isinf(np.delete(asked, which)).all()
        far = np.full(len(q), 0.1)
        moved = np.abs(geometry.distances(q + far) - distances).max()
        assert moved <= geometry.most_change(far)
    assert wrong <= 2  # where the nearest point jumps there is no slope


def test_a_finger_is_there_open_and_closed():
    urdf = robot(
        link("base"),
        link("arm"),
        link("far"),
        link("finger"),
        joint("a", "base", "arm"),
        joint("b", "arm", "far"),
        joint("grip", "far", "finger", kind="prismatic", at="0 0 0.2"),
    )
    geometry = made(urdf, "far")
    q = np.zeros(2)
    named = pairs_of(geometry)
    distances = geometry.distances(q)[: geometry.pairs]
    found = sorted(distances[i] for i, pair in enumerate(named) if pair == ("base", "finger"))
    # Its joint moves along y from -1 to 0.5.
    expected = [np.hypot(2.2, y) - 0.2 for y in (0.5, 1.0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert ("far", "finger") not in named and ("base", "arm") not in named


def test_a_second_arm_is_left_out_and_a_wall_beside_the_arm_is_not():
    urdf = robot(
        *(link(name) for name in ("base", "arm", "far", "other", "post")),
        joint("a", "base", "arm"),
        joint("b", "arm", "far"),
        joint("c", "base", "other"),
        joint("d", "base", "post", kind="fixed", extra="", at="2 0 0"),
    )
    geometry = made(urdf, "far")
    assert geometry.left_out == ["other"]
    assert set(pairs_of(geometry)) == {("base", "far"), ("far", "post")}


def test_continuous_and_prismatic_and_mimic_joints_are_followed():
    continuous = LIMIT.replace('lower="-1" upper="0.5"', "")
    urdf = robot(
        *(link(name) for name in ("base", "slide", "turn", "follow")),
        joint("s", "base", "slide", kind="prismatic"),
        joint("t", "slide", "turn", kind="continuous", extra=continuous),
        joint("m", "turn", "follow", extra=f'{LIMIT}<mimic joint="s" multiplier="-2"/>'),
    )
    arm = ArmKinematics(urdf, "follow")
    geometry = ArmGeometry(urdf, arm)
    assert arm.joint_names == ("s", "t")
    named = pairs_of(geometry).index(("base", "follow"))
    for q in np.random.default_rng(0).uniform(-1, 1, size=(5, 2)):
        # Out by s along y, up 2, and on by 1 in the direction that t turns to.
        x, z = np.sin(q[1]), 2.0 + np.cos(q[1])
        expected = np.sqrt(x * x + q[0] ** 2 + z * z) - 0.2
        assert geometry.distances(q)[named] == pytest.approx(expected, abs=1e-6)
        step = np.array([1e-5, -2e-5])
        change = (geometry.distances(q + step) - geometry.distances(q - step))[named] / 2
        assert geometry.slopes(q, np.array([named])) @ step == pytest.approx(change, abs=1e-9)


def test_an_srdf_takes_pairs_out():
    srdf = (
        '<robot name="panda"><disable_collisions link1="panda_link5" link2="panda_hand"/></robot>'
    )
    arm = ArmKinematics(capsule_urdf(), "panda_hand", None, BASE)
    disabled = set(pairs_of(ARM.geometry)) - set(pairs_of(ArmGeometry(capsule_urdf(), arm, srdf)))
    assert disabled == {("panda_link5", "panda_hand")}
    with pytest.raises(UrdfError, match="not a valid SRDF"):
        ArmGeometry(capsule_urdf(), arm, "<robot")


def test_what_is_too_much_and_what_is_nothing_is_said():
    still = robot(link("base"), link("arm", ""), joint("a", "base", "arm"))
    with pytest.raises(UrdfError, match="no collision element is on a link that the arm's joints"):
        made(still, "arm")
    links = [link(f"l{i}", BALL * 40) for i in range(3)]
    chain = robot(*links, *(joint(f"j{i}", f"l{i}", f"l{i + 1}") for i in range(2)))
    assert made(chain, "l2").pairs == 1600
    links = [link(f"l{i}", BALL * 25) for i in range(5)]
    chain = robot(*links, *(joint(f"j{i}", f"l{i}", f"l{i + 1}") for i in range(4)))
    with pytest.raises(UrdfError, match="has 3750 pairs of solids that might touch; accepted"):
        made(chain, "l4")


def test_limits_of_speed_are_read_and_none_is_none():
    none, zero = LIMIT.replace('velocity="1"', 'velocity="0"'), LIMIT
    urdf = robot(
        *(link(name) for name in ("base", "b", "c", "d")),
        joint("one", "base", "b", extra=zero),
        joint("two", "b", "c", extra=none),
        joint("three", "c", "d", kind="continuous", extra=""),
    )
    assert ArmKinematics(urdf, "d").velocity_limits.tolist() == [1.0, np.inf, np.inf]
