"""Distances between the links of an arm and to its base plane, and their derivatives.

The shapes come from the collision elements of the URDF (`shapes`); Pinocchio places them and Coal
measures the distances between them.
"""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.shapes import Shape, collision_shapes
from heisd_ros.kinematics.urdf import checked_urdf

_MOST_PAIRS = 2000
_MOST_POINTS = 20_000
_SAMPLES = 64
"""Number of postures in which the greatest distance of links is sought."""


class ArmGeometry:
    """The solids of an arm, and all distances between links that its joints move.

    Links with at most one joint of the arm between them are not paired: they touch where they are
    joined. A link that is moved by a joint off the chain, such as a finger, is included twice, at
    both ends of that joint's range. Links of a second arm are left out, as their position is
    unknown.

    Distances are in one array: those of all pairs of solids first, then the heights of all points
    of moving solids above the plane z = 0 of the base frame. It is not thread-safe.

    Attributes:
        left_out: Links whose solids are not checked.
        pairs: Number of distances that are between two links.
        first: (n,), m, distance of the two links in the middle of the joints' ranges; infinite for
            points.
        furthest: (n,), m, greatest distance of the two links, or of the point, over those ranges.

    Args:
        urdf: Text of the URDF that the arm was made from.
        arm: The arm.
        srdf: Text of an SRDF, whose disabled pairs of links are no pairs here; empty: none.

    Raises:
        UrdfError: The description has no solids, too many, or some that cannot be used, or the SRDF
            is none.
    """

    def __init__(self, urdf: str, arm: ArmKinematics, srdf: str = "") -> None:
        disabled = _disabled(srdf)
        # Joints off the chain count as well: fingers are looked at where they are open, too.
        arm = ArmKinematics(urdf, arm.tip_frame, arm.joint_names, arm.base_frame, whole=True)
        self._arm, self._model = arm, arm.model
        model = self._model
        self._data, self._ends = model.createData(), _ends(model, arm.movers)
        self._base = model.frames[model.getFrameId(arm.base_frame, pin.FrameType.BODY)]
        self._solids = pin.GeometryModel()
        self.left_out: list[str] = []
        self._links: list[str] = []
        self._anchors: list[int] = []
        bodies: list[np.ndarray] = []  # points in the frames of their joints, and their radius
        for shape in collision_shapes(checked_urdf(urdf)):
            copies = self._attached(shape)
            if not copies:
                self.left_out.append(shape.link)
            for anchor, placement in copies:
                name = f"{shape.link} {len(self._links)}"
                solid = pin.GeometryObject(name, anchor, placement, shape.solid)
                self._solids.addGeometryObject(solid)
                self._links.append(shape.link)
                self._anchors.append(anchor)
                points = shape.points @ placement.rotation.T + placement.translation
                bodies.append(np.column_stack([points, np.full(len(points), shape.radius)]))
        pairs = [pair for pair in combinations(range(len(bodies)), 2) if self._apart(*pair)]
        pairs = [pair for pair in pairs if frozenset(self._links[i] for i in pair) not in disabled]
        if len(pairs) > _MOST_PAIRS:
            raise UrdfError(
                f"the robot description has {len(pairs)} pairs of solids that might touch; "
                f"accepted: at most {_MOST_PAIRS}"
            )
        for pair in pairs:
            self._solids.addCollisionPair(pin.CollisionPair(*pair))
        self.pairs, self._pairs = len(pairs), np.array(pairs, int).reshape(-1, 2)
        self._placed = pin.GeometryData(self._solids)
        moving = [i for i, anchor in enumerate(self._anchors) if self._moves(anchor)]
        if not moving:
            raise UrdfError("no collision element is on a link that the arm's joints move")
        self._points = np.vstack([bodies[i] for i in moving])
        sizes = [len(bodies[i]) for i in moving]
        if sum(sizes) > _MOST_POINTS:
            raise UrdfError(
                f"the hulls of the links have {sum(sizes)} corners; accepted: {_MOST_POINTS}"
            )
        self._bodies = np.repeat(moving, sizes)
        self._starts = np.concatenate(
            [np.arange(self.pairs), self.pairs + np.cumsum([0, *sizes])[:-1]]
        )
        self._sizes = np.concatenate([np.ones(self.pairs, int), sizes])
        joints, self._joint_of = np.unique(self._anchors, return_inverse=True)
        self._joints = joints.tolist()
        self._levers = self._reach(bodies)
        self.first, self.furthest = self._survey()

    def distances(self, q: np.ndarray, only: np.ndarray | None = None) -> np.ndarray:
        """Computes the distances in a posture, m; negative if solids overlap or points are below.

        Args:
            q: (n,), joint positions in the arm's order.
            only: Indices of the requested distances; the others are infinite. None: all.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        base = self._place(q)
        results, count = self._placed.distanceResults, self.pairs
        distances = np.full(count + len(self._points), np.inf)
        if only is None:
            pin.computeDistances(self._solids, self._placed)
            distances[:count] = [result.min_distance for result in results]
            distances[count:] = self._heights(base, np.arange(len(self._points)))
        else:
            for pair in only[only < count].tolist():
                distances[pair] = pin.computeDistance(self._solids, self._placed, pair).min_distance
            points = only[only >= count]
            distances[points] = self._heights(base, points - count)
        return distances

    def slopes(self, q: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Computes the derivatives of distances, (k, n), m/rad (m/m for a prismatic joint).

        Args:
            q: (n,), joint positions in the arm's order.
            which: (k,), indices of distances.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        up = self._place(q).rotation[:, 2]
        pairs, points = which[which < self.pairs], which[which >= self.pairs] - self.pairs
        results = [pin.computeDistance(self._solids, self._placed, pair) for pair in pairs.tolist()]
        normals = np.array([result.normal for result in results]).reshape(-1, 3)
        here = np.array([result.getNearestPoint1() for result in results]).reshape(-1, 3)
        there = np.array([result.getNearestPoint2() for result in results]).reshape(-1, 3)
        bodies = self._bodies[points]
        turns = np.array([self._data.oMi[joint].rotation for joint in self._joints])
        origins = np.array([self._data.oMi[joint].translation for joint in self._joints])
        joints = self._joint_of[bodies]
        spots = np.einsum("kij,kj->ki", turns[joints], self._points[points, :3]) + origins[joints]
        slopes = np.zeros((len(which), len(self._arm.joint_names)))
        slopes[which < self.pairs] = self._speeds(self._pairs[pairs, 1], there, normals)
        slopes[which < self.pairs] -= self._speeds(self._pairs[pairs, 0], here, normals)
        ups = np.tile(up, (len(points), 1))
        slopes[which >= self.pairs] = self._speeds(bodies, spots, ups)
        return slopes

    def least(self, distances: np.ndarray) -> np.ndarray:
        """Replaces the distance of every point by the least of its solid; returns (n,), m.

        Args:
            distances: (n,), m, from `distances`.
        """
        least: np.ndarray = np.repeat(np.minimum.reduceat(distances, self._starts), self._sizes)
        return least

    def words(self, index: int) -> str:
        """Names the two ends of a distance, such as 'panda_hand and panda_link2'."""
        if index < self.pairs:
            return " and ".join(self._links[solid] for solid in self._pairs[index])
        return f"{self._links[self._bodies[index - self.pairs]]} and the table"

    def most_change(self, turns: np.ndarray) -> float:
        """Bounds the change of any distance when the joints turn by this much, m.

        Args:
            turns: (n,), rad or m, not negative.
        """
        return float(np.sum(turns * self._levers, where=turns > 0.0))

    def _place(self, q: np.ndarray) -> pin.SE3:
        """Places all solids and returns the pose of the base."""
        model, data = self._model, self._data
        pin.computeJointJacobians(model, data, self._arm.configuration(q))
        pin.updateGeometryPlacements(model, data, self._solids, self._placed)
        return data.oMi[self._base.parentJoint] * self._base.placement

    def _heights(self, base: pin.SE3, which: np.ndarray) -> np.ndarray:
        up = base.rotation[:, 2]
        places = [self._data.oMi[joint] for joint in self._joints]
        axes = np.array([place.rotation.T @ up for place in places])
        origins = np.array([(place.translation - base.translation) @ up for place in places])
        points, joints = self._points[which], self._joint_of[self._bodies[which]]
        heights: np.ndarray = np.einsum("ij,ij->i", points[:, :3], axes[joints])
        return heights + origins[joints] - points[:, 3]

    def _speeds(self, solids: np.ndarray, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """(k, n), of points of solids along directions, for a unit speed of each joint."""
        jacobians = [
            pin.getJointJacobian(self._model, self._data, joint, pin.WORLD)[
                :, self._arm.velocity_index
            ]
            for joint in self._joints
        ]
        moved = np.array(jacobians)[self._joint_of[solids]]
        wrenches = np.hstack([directions, np.cross(points, directions)])
        speeds: np.ndarray = np.einsum("ki,kij->kj", wrenches, moved)
        return speeds

    def _moves(self, anchor: int) -> frozenset[int]:
        """Returns the arm's joints that move what is fixed to a joint."""
        return self._arm.movers & set(self._model.supports[anchor])

    def _apart(self, one: int, other: int) -> bool:
        return len(self._moves(self._anchors[one]) ^ self._moves(self._anchors[other])) > 1

    def _attached(self, shape: Shape) -> list[tuple[int, pin.SE3]]:
        """Returns a shape's joints and placements: for a finger, at both ends of its range."""
        model, movers = self._model, self._arm.movers
        frame = model.frames[model.getFrameId(shape.link, pin.FrameType.BODY)]
        path = list(model.supports[frame.parentJoint])
        before = set(model.supports[self._base.parentJoint])
        own = [joint for joint in path if joint in before or joint in movers]
        loose = len(own) < len(path)
        if path[: len(own)] != own or (loose and not movers & set(own)):
            return []
        copies = []
        for data in self._ends if loose else self._ends[:1]:
            joint = data.oMi[own[-1]].actInv(data.oMi[frame.parentJoint])
            copies.append((own[-1], joint * frame.placement * shape.placement))
        return copies

    def _reach(self, bodies: list[np.ndarray]) -> np.ndarray:
        """Returns (n,), m, the greatest distance of a solid from the axis of each joint."""
        model, arm = self._model, self._arm
        if len(arm.movers) > len(arm.joint_names):  # a mimic joint multiplies what it follows
            return np.full(len(arm.joint_names), np.inf)
        levers = np.zeros(model.nv)
        for anchor, points in zip(self._anchors, bodies, strict=True):
            reach = float((np.linalg.norm(points[:, :3], axis=1) + points[:, 3]).max())
            for joint in reversed(list(model.supports[anchor])):
                if joint not in arm.movers:
                    break
                kind = model.joints[joint]
                straight = "P" in kind.shortname().removeprefix("JointModel")[:1]
                if straight:
                    ends = (
                        model.lowerPositionLimit[kind.idx_q],
                        model.upperPositionLimit[kind.idx_q],
                    )
                    reach += float(np.abs(ends).max())
                levers[kind.idx_v] = max(levers[kind.idx_v], 1.0 if straight else reach)
                reach += float(np.linalg.norm(model.jointPlacements[joint].translation))
        reached: np.ndarray = levers[arm.velocity_index]
        return reached

    def _survey(self) -> tuple[np.ndarray, np.ndarray]:
        """The distances in the middle of the joints' ranges, and the largest anywhere.

        Two links are considered as a whole; a point of a link may always be near the plane while
        another is not.
        """
        lower, upper = self._arm.position_limits
        lower = np.where(np.isfinite(lower), lower, -np.pi)
        upper = np.where(np.isfinite(upper), upper, np.pi)
        names = [tuple(self._links[solid] for solid in pair) for pair in self._pairs]
        index = {pair: i for i, pair in enumerate(dict.fromkeys(names))}
        owners = np.array([index[pair] for pair in names], int)

        def of_links(share: np.ndarray | float) -> np.ndarray:
            distances = self.distances(lower + share * (upper - lower))
            least = np.full(len(index), np.inf)
            np.minimum.at(least, owners, distances[: self.pairs])
            distances[: self.pairs] = least[owners]
            return distances

        shares = np.random.default_rng(0).uniform(size=(_SAMPLES, len(lower)))
        first = of_links(0.5)
        furthest = np.max([first, *map(of_links, shares)], axis=0)
        first[self.pairs :] = np.inf
        return first, furthest


def _ends(model: pin.Model, movers: frozenset[int]) -> list[pin.Data]:
    """The model with every joint that is not the arm's at its lower, and at its upper limit."""
    ends = []
    for limits in (model.lowerPositionLimit, model.upperPositionLimit):
        q = pin.neutral(model)
        for i, joint in enumerate(model.joints):
            loose = i not in movers and i not in model.mimicking_joints
            if loose and joint.nq == 1 and np.isfinite(limits[joint.idx_q]):
                q[joint.idx_q] = limits[joint.idx_q]
        ends.append(model.createData())
        pin.forwardKinematics(model, ends[-1], q)
    return ends


def _disabled(srdf: str) -> set[frozenset[str]]:
    if not srdf:
        return set()
    try:
        found = ElementTree.fromstring(srdf).findall("disable_collisions")
    except ElementTree.ParseError as error:
        raise UrdfError(f"not a valid SRDF: {error}") from error
    return {frozenset((str(each.get("link1")), str(each.get("link2")))) for each in found}
