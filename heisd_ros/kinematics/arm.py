"""Forward kinematics and tip velocity of an arm, from its URDF and named joint states."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pinocchio as pin

from heisd_ros.errors import JointStateError, UrdfError
from heisd_ros.kinematics.chain import Description, not_valid
from heisd_ros.kinematics.pose import Pose
from heisd_ros.kinematics.urdf import checked_urdf

if TYPE_CHECKING:
    from heisd_ros.kinematics.geometry import ArmGeometry

__all__ = ["ArmKinematics", "JointSample", "Pose"]

_NAMED = 32
"""Greatest number of a message's names that an error repeats."""


@dataclass(frozen=True, eq=False)
class JointSample:
    """A joint state in the arm's own joint order.

    Attributes:
        positions: shape (n,), rad (m for a prismatic joint), finite.
        velocities: shape (n,), rad/s or m/s, finite; None where the source gave none that can be
            used (left out, or not finite).
    """

    positions: np.ndarray
    velocities: np.ndarray | None


class ArmKinematics:
    """The chain of joints from a base frame to a tip frame.

    The description may hold more than the arm: joints off the chain (fingers, a second arm) do
    not take part, nor can they make it invalid. A mimic joint on the chain follows the joint it
    names and is not listed itself. Geometry is ignored, so no mesh has to exist. Calls may come
    from any thread.

    Attributes:
        joint_names: the joints, in the order of every `q` and `dq`.
        base_frame: the link in whose frame poses and twists are given.
        tip_frame: the link whose pose and twist are given.
        position_limits: two arrays of shape (n,), lower and upper limits of the joints, rad or m;
            infinite for a continuous joint.
        velocity_limits: shape (n,), rad/s or m/s; infinite where the description has none, or 0.
        velocity_index: for each joint its column in Pinocchio's Jacobians.
        movers: Pinocchio's numbers of the joints, with those that mimic one of them.
        geometry: distances between links; None if not requested, or if there are none.
        geometry_fault: why there are none, in words.
    """

    geometry: ArmGeometry | None = None
    geometry_fault = ""

    def __init__(
        self,
        urdf: str,
        tip_frame: str,
        joint_names: Sequence[str] | None = None,
        base_frame: str | None = None,
        whole: bool = False,
    ) -> None:
        """Parses the description and finds the chain.

        Args:
            urdf: text of a URDF file, as in the ROS topic `robot_description`.
            tip_frame: name of a link.
            joint_names: the joint order wanted; None takes them from base to tip.
            base_frame: name of a link between the root and the tip; None takes the root link.
            whole: let joints off the chain move as well, which Pinocchio refuses for some robots.

        Raises:
            UrdfError: the text is no URDF that `checked_urdf` accepts, a frame is not in it, the
                base is not an ancestor of the tip, no joint or one of several degrees of freedom
                lies between them, or its pose is not finite.
            JointStateError: `joint_names` are not exactly the joints of the chain.
        """
        self._description = description = Description(urdf)
        frames = [tip_frame] if base_frame is None else [tip_frame, base_frame]
        try:
            text = checked_urdf(urdf if whole else description.fixed_but(frames))
            self._model = pin.buildModelFromXML(text, True)
        except ValueError as error:
            raise not_valid(f"{error}", urdf) from error
        self.tip_frame = tip_frame
        self.base_frame = self._root_link() if base_frame is None else base_frame
        self._tip = self._link(tip_frame)
        self._base = self._link(self.base_frame)

        chain = self._chain_joints()
        self.joint_names = tuple(chain if joint_names is None else joint_names)
        if sorted(self.joint_names) != sorted(chain):
            raise JointStateError(
                f"joint_names must be the joints between {self.base_frame} and {tip_frame}, each "
                f"once: {chain}; got {list(self.joint_names)}"
            )
        ids = [self._model.getJointId(name) for name in self.joint_names]
        self.velocity_index = [self._model.joints[i].idx_v for i in ids]
        self.position_limits = self._limits(ids)
        speeds = self._model.velocityLimit[self.velocity_index]
        self.velocity_limits = np.where(speeds > 0.0, speeds, np.inf)
        self._narrow()
        leaders = zip(self._model.mimicking_joints, self._model.mimicked_joints, strict=True)
        self.movers = frozenset([*ids, *(i for i, leader in leaders if leader in ids)])
        self._neutral = pin.neutral(self._model)
        self._scratch = threading.local()
        self._try()

    def reorder(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float] | None = None,
    ) -> JointSample:
        """Picks this arm's joints out of a joint state, by name.

        Args:
            names: joint names of the state; others than the arm's may be among them.
            positions: as many as `names`, rad or m.
            velocities: as many as `names`, rad/s or m/s; None, or fewer, where the source has none
                that can be told apart.

        Returns:
            The arm's joints in the order of `joint_names`.

        Raises:
            JointStateError: a name is repeated, there are not as many positions as names, a joint
                of the arm is missing or its position is not finite.
        """
        names = list(names)
        index = {name: i for i, name in enumerate(names)}
        if len(index) != len(names):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            raise JointStateError(
                f"duplicate joints {_some(repeated)} in the joint state {_some(names)}"
            )
        missing = [name for name in self.joint_names if name not in index]
        if missing:
            unknown = [name for name in names if name not in self._description.joints]
            also = f", of which {_some(unknown)} are unknown to the robot description"
            raise JointStateError(
                f"joints {missing} are missing from the joint state; it names {_some(names)}"
                + (also if unknown else "")
            )
        order = [index[name] for name in self.joint_names]
        q = self._values("positions", positions, len(names))[order]
        if not np.isfinite(q).all():
            pairs = zip(self.joint_names, q.tolist(), strict=True)
            bad = {name: value for name, value in pairs if not np.isfinite(value)}
            raise JointStateError(f"joint positions must be finite, got {bad}")
        if velocities is None or len(velocities) != len(names):
            return JointSample(q, None)
        dq = self._values("velocities", velocities, len(names))[order]
        return JointSample(q, dq if np.isfinite(dq).all() else None)

    def forward(self, q: np.ndarray) -> Pose:
        """Returns the pose of the tip in the base frame.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        data = self._data
        pin.forwardKinematics(self._model, data, self.configuration(q))
        base = pin.updateFramePlacement(self._model, data, self._base)
        tip = base.actInv(pin.updateFramePlacement(self._model, data, self._tip))
        return Pose(tip.translation, tip.rotation)

    def skeleton(self, q: np.ndarray) -> np.ndarray:
        """Returns the line from the base over the joints to the tip, for drawing.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.

        Returns:
            Shape (m, 3): origins of the base, of each joint between and of the tip, base frame, m.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        data, model = self._data, self._model
        pin.forwardKinematics(model, data, self.configuration(q))
        base = pin.updateFramePlacement(model, data, self._base)
        before = model.supports[model.frames[self._base].parentJoint]
        joints = list(model.supports[model.frames[self._tip].parentJoint])[len(before) :]
        placed = [data.oMi[i] for i in joints]
        placed.append(pin.updateFramePlacement(model, data, self._tip))
        return np.stack([np.zeros(3), *(base.actInv(place).translation for place in placed)])

    def twist(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        """Returns the velocity of the tip, J(q) dq.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.
            dq: shape (n,), joint velocities, rad/s or m/s.

        Returns:
            Shape (6,): linear velocity of the tip's origin (m/s), then angular velocity (rad/s),
            relative to the base, both along the axes of the base frame.

        Raises:
            JointStateError: `q` or `dq` is not n finite numbers.
        """
        data, base = self._moving(q, dq)
        tip = pin.getFrameVelocity(self._model, data, self._tip, pin.LOCAL_WORLD_ALIGNED)
        return np.concatenate([base.rotation.T @ tip.linear, base.rotation.T @ tip.angular])

    def tip_motion(self, q: np.ndarray, dq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the position of `forward` and the linear velocity of `twist`, in one pass.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.
            dq: shape (n,), joint velocities, rad/s or m/s.

        Returns:
            Two of shape (3,): metres and m/s, base frame.

        Raises:
            JointStateError: `q` or `dq` is not n finite numbers.
        """
        data, base = self._moving(q, dq)
        tip = pin.updateFramePlacement(self._model, data, self._tip)
        velocity = pin.getFrameVelocity(self._model, data, self._tip, pin.LOCAL_WORLD_ALIGNED)
        return base.actInv(tip).translation, base.rotation.T @ velocity.linear

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """Returns J(q), for which `twist(q, dq)` is J(q) dq.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.

        Returns:
            Shape (6, n): three rows of linear, three of angular velocity, in the base frame.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        data = self._data
        frame = pin.LOCAL_WORLD_ALIGNED
        full = pin.computeFrameJacobian(self._model, data, self.configuration(q), self._tip, frame)
        base = pin.updateFramePlacement(self._model, data, self._base).rotation
        # Columns of joints before the base are left out: they do not move here.
        # Of a single joint Pinocchio gives a vector.
        columns = full.reshape(6, -1)[:, self.velocity_index]
        return np.vstack([base.T @ columns[:3], base.T @ columns[3:]])

    def way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Returns the displacement from one posture to another, the shorter way.

        Args:
            start: shape (n,), joint positions in the order of `joint_names`, rad or m.
            end: shape (n,), likewise.

        Returns:
            Shape (n,), rad or m; of a continuous joint up to half a turn.

        Raises:
            JointStateError: one is not n finite numbers.
        """
        ends = self.configuration(start), self.configuration(end)
        way: np.ndarray = pin.difference(self._model, *ends)[self.velocity_index]
        return way

    @property
    def model(self) -> pin.Model:
        """Pinocchio's model of the whole description; not to be changed."""
        return self._model

    def configuration(self, q: np.ndarray) -> np.ndarray:
        """Returns Pinocchio's configuration, in which joints that are not the arm's are neutral.

        Args:
            q: shape (n,), joint positions in the order of `joint_names`, rad or m.

        Raises:
            JointStateError: `q` is not n finite numbers.
        """
        full = self._scatter("q", q)
        # `integrate` serves continuous joints, which Pinocchio stores as (cos, sin).
        return (
            full
            if self._model.nq == self._model.nv
            else pin.integrate(self._model, self._neutral, full)
        )

    @property
    def _data(self) -> pin.Data:
        """Pinocchio's workspace, one per thread, since making it takes as long as computing."""
        if not hasattr(self._scratch, "data"):
            self._scratch.data = self._model.createData()
        return self._scratch.data

    def _moving(self, q: np.ndarray, dq: np.ndarray) -> tuple[pin.Data, pin.SE3]:
        """Computes positions and velocities of all joints; also returns the pose of the base.

        Joints before the base stand still, so velocities are relative to the base.
        """
        data = self._data
        velocity = self._scatter("dq", dq)
        pin.forwardKinematics(self._model, data, self.configuration(q), velocity)
        return data, pin.updateFramePlacement(self._model, data, self._base)

    def _scatter(self, name: str, values: np.ndarray) -> np.ndarray:
        """Spreads values of the arm's joints over all degrees of freedom of the model."""
        given = self._values(name, values, len(self.joint_names))
        if not np.isfinite(given).all():
            raise JointStateError(f"{name} must be finite, got {given.tolist()}")
        full = np.zeros(self._model.nv)
        full[self.velocity_index] = given
        return full

    @staticmethod
    def _values(name: str, values: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise JointStateError(f"{name} must be {count} numbers, got {values!r}") from error
        if array.shape != (count,):
            raise JointStateError(f"{name} must have shape ({count},), got {array.shape}")
        return array

    def _try(self) -> None:
        """Computes a pose once: what fails here would fail while the arm moves."""
        q = np.clip(np.zeros(len(self.joint_names)), *self.position_limits)
        tip = self.forward(q)
        for name, value in (
            ("pose", np.append(tip.position, tip.rotation)),
            ("Jacobian", self.jacobian(q)),
        ):
            if not np.isfinite(value).all():
                raise UrdfError(f"the {name} of {self.tip_frame!r} is not finite; check its URDF")

    def _limits(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = np.full(len(ids), -np.inf), np.full(len(ids), np.inf)
        for i, joint in enumerate(self._model.joints[j] for j in ids):
            if joint.nq == 1:  # a continuous joint is stored as (cos, sin) and has no limits
                lower[i] = self._model.lowerPositionLimit[joint.idx_q]
                upper[i] = self._model.upperPositionLimit[joint.idx_q]
        return lower, upper

    def _narrow(self) -> None:
        """Narrows the limits of joints that others follow, to where these keep their own."""
        lower, upper = self.position_limits
        for name in self._followers:
            joint = self._description.joints[name]
            about, limit = self._description.followed(joint), joint.parts.get("limit", {})
            scale, leader = float(about["multiplier"]), self.joint_names.index(about["joint"])
            if scale == 0.0:
                continue
            if joint.kind in ("revolute", "prismatic") and limit.keys() & {"lower", "upper"}:
                ends = (float(limit.get(end, 0.0)) for end in ("lower", "upper"))
                low, high = sorted((end - float(about["offset"])) / scale for end in ends)
                lower[leader], upper[leader] = max(lower[leader], low), min(upper[leader], high)
                if lower[leader] > upper[leader]:
                    raise UrdfError(
                        f"the limits of {name[:80]!r} and of the joint that it mimics, "
                        f"{about['joint'][:80]!r}, leave no position"
                    )
            if (speed := float(limit.get("velocity", 0.0))) > 0.0:
                most = speed / abs(scale)
                self.velocity_limits[leader] = min(self.velocity_limits[leader], most)

    def base_is_root(self) -> bool:
        """Whether the base frame always coincides with the root link of the description."""
        base = self._model.frames[self._base]
        return base.parentJoint == 0 and base.placement.isIdentity(1e-6)

    def _root_link(self) -> str:
        # Frame 0 is Pinocchio's universe; the root link is the first body after it.
        return next(f.name for f in self._model.frames if f.type == pin.FrameType.BODY)

    def _link(self, name: str) -> int:
        if not self._model.existFrame(name, pin.FrameType.BODY):
            raise UrdfError(f"the link {name!r} hangs on no root: the joints above it are a loop")
        return self._model.getFrameId(name, pin.FrameType.BODY)

    def _chain_joints(self) -> list[str]:
        """Names the independent joints between the base and the tip, from the base on."""
        model = self._model
        before = list(model.supports[model.frames[self._base].parentJoint])
        path = list(model.supports[model.frames[self._tip].parentJoint])
        ends = f"between {self.base_frame!r} and {self.tip_frame!r}"
        if path[: len(before)] != before:
            raise UrdfError(f"{self.base_frame!r} is not an ancestor of {self.tip_frame!r}")
        leaders = dict(zip(model.mimicking_joints, model.mimicked_joints, strict=True))
        self._followers = [model.names[i] for i in path[len(before) :] if i in leaders]
        chain = list(dict.fromkeys(leaders.get(i, i) for i in path[len(before) :]))
        if set(chain) & set(before):
            raise UrdfError(f"a joint {ends} mimics a joint before the base, which would move it")
        if not chain:
            raise UrdfError(f"there is no movable joint {ends}")
        wide = [model.names[i] for i in chain if model.joints[i].nv != 1]
        if wide:
            raise UrdfError(f"joints {wide} {ends} have several degrees of freedom, not one")
        return [model.names[i] for i in chain]


def _some(names: Sequence[str]) -> str:
    """Formats names for an error; many or long ones are shortened."""
    shown = [name[:80] for name in names[:_NAMED]]
    return f"{shown}" + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
