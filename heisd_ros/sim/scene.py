"""A LIBERO task as a robot cell: one Panda, two cameras, objects, and LIBERO's own success check.

This is the only module that touches LIBERO, robosuite and MuJoCo. It owns the rendering settings
of this project (`RENDERING`): software rendering is the bottleneck of demonstrations and
evaluation, so both use the same reduced settings, and a model must be judged under the settings it
was trained with.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from heisd_ros.errors import SceneError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.pose import Pose
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.sim import curves
from heisd_ros.sim.projection import Camera, visual_hulls
from heisd_ros.sim.renderer import default_renderer

SUITES = (
    *("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"),
    curves.SUITE,
)
CAMERAS = ("agentview", "robot0_eye_in_hand")
CONTROL_RATE_HZ = 20.0
METRES_PER_UNIT = 0.05
"""Translation commanded by one unit of LIBERO's action, in metres per control step."""
RADIANS_PER_UNIT = 0.5
"""Rotation commanded by one unit of LIBERO's action, in radians per control step."""
OPEN_GRIPPER, CLOSE_GRIPPER = -1.0, 1.0
SETTLE_STEPS = 10
"""Steps without motion after a reset, while the objects fall into place (LIBERO's own protocol)."""

RENDERING = {"offsamples": 0, "reflectance": 0.0, "shadows": False}
"""Rendering settings of training and evaluation; LIBERO's own are 4, up to 0.5, and shadows."""


@dataclass(frozen=True)
class Body:
    """A movable object or fixture: position (m, base frame), rotation (3x3), half extents (m)."""

    position: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray
    """Centre of the bounding box, metres, base frame."""
    half_extents: np.ndarray
    """Half extents of the bounding box along the body's own axes, metres."""


class LiberoScene:
    """One task of one LIBERO suite, stepped at 20 Hz.

    Positions and poses are in the robot's base frame (`panda_link0`), whose axes are the world's.
    An action is LIBERO's: six deltas in [-1, 1] (`METRES_PER_UNIT`, `RADIANS_PER_UNIT`) along and
    about the base axes, then the gripper, -1 to open and 1 to close.

    Args:
        suite: One of `SUITES`.
        task_index: Number of the task in its suite.
        image_size: Height and width of the camera images, pixels.
        cameras: Of `CAMERAS`, those that are drawn.
        reduced_rendering: `RENDERING` instead of LIBERO's own settings.
        settle_steps: Steps without motion after a reset.

    Raises:
        SceneError: Unknown suite, or a task or initial state outside it.
    """

    def __init__(
        self,
        suite: str,
        task_index: int,
        image_size: int = 128,
        *,
        cameras: tuple[str, ...] = CAMERAS,
        reduced_rendering: bool = True,
        settle_steps: int = SETTLE_STEPS,
    ) -> None:
        os.environ.setdefault("MUJOCO_GL", default_renderer())
        if suite not in SUITES:
            raise SceneError(f"suite {suite!r} is unknown; accepted: {', '.join(SUITES)}")
        # LIBERO, robosuite and their dependencies print to standard output when imported.
        with contextlib.redirect_stdout(io.StringIO()):
            from libero.libero.envs.env_wrapper import ControlEnv

            task = _task(suite, task_index)
            # MuJoCo's own renderer draws the images when asked; robosuite's would at each step.
            self._env = ControlEnv(
                bddl_file_name=str(task.bddl),
                use_camera_obs=False,
                has_offscreen_renderer=False,
                ignore_done=True,
                hard_reset=False,
            )
        self.suite = suite
        self.task_index = task_index
        self.task_name = task.name
        self.bddl_path = task.bddl
        self.instruction = task.instruction
        self.curve = task.curve
        self._init_states = task.init_states
        self._progress: curves.Progress | None = None
        self.cameras = cameras
        self._reduced_rendering, self._settle_steps = reduced_rendering, settle_steps
        self.image_size = image_size
        self.goal: list[list[str]] = self._env.env.parsed_problem["goal_state"]
        if task.curve is not None:
            self.goal = [[task.curve.verb, task.curve.item, task.curve.target]]
        self._arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
        self._boxes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._hulls: dict[int, dict[int, np.ndarray]] = {}
        self._renderer: Any = None
        self._reset_simulation()

    @property
    def n_init_states(self) -> int:
        """Number of fixed initial states of the task: those that LIBERO ships, or seeds."""
        return curves.N_INIT_STATES if self._init_states is None else len(self._init_states)

    def reset(self, init_state: int) -> None:
        """Starts an episode from one of the task's fixed initial states, settled.

        Raises:
            SceneError: `init_state` is not a state of the task.
        """
        if not 0 <= init_state < self.n_init_states:
            raise SceneError(
                f"init_state {init_state} is outside the task; accepted: 0 to "
                f"{self.n_init_states - 1}"
            )
        self._reset_simulation(init_state)
        if self._init_states is not None:
            self.restore(self._init_states[init_state])
        self._progress = None
        for _ in range(self._settle_steps):
            self.step(np.array([0, 0, 0, 0, 0, 0, OPEN_GRIPPER]))
        if self.curve is not None:
            self._progress = curves.Progress(self.curve.arc, CONTROL_RATE_HZ)

    def step(self, action: np.ndarray) -> None:
        """Advances the scene by one control step of 1/20 s.

        Args:
            action: (7,), LIBERO's units; values outside [-1, 1] are clipped by the controller.
        """
        self._env.env.step(np.asarray(action, dtype=np.float64))
        if self.curve is not None and self._progress is not None:
            self._progress.note(self.curve.offset(self))

    def success(self) -> bool:
        """Whether the goal is reached: LIBERO's predicate now, or a curve since the reset."""
        if self.curve is not None:
            return self._progress is not None and self._progress.done
        return bool(self._env.check_success())

    def images(self) -> dict[str, np.ndarray]:
        """Camera images, upright, as a real camera would give them.

        Returns:
            Camera name to (image_size, image_size, 3) uint8 RGB.
        """
        if self._renderer is None:
            self._renderer = _make_renderer(self._model, self.image_size, self._reduced_rendering)
        images = {}
        for camera in self.cameras:
            self._renderer.update_scene(self._data, camera, _scene_option())
            images[camera] = self._renderer.render()
        return images

    def images_of(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the images of a state from `simulator_state`; the scene stays in it."""
        self.restore(state)
        return self.images()

    def place_fixtures(self, model_xml: str) -> None:
        """Puts every fixture where a scene's MJCF has it; free bodies are part of the state.

        Args:
            model_xml: From `model_xml`, of the same task.
        """
        import mujoco

        model = self._model
        for body in ElementTree.fromstring(model_xml).iter("body"):
            index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body.get("name"))
            for values, name in ((model.body_pos, "pos"), (model.body_quat, "quat")):
                if index >= 0 and body.get(name) is not None:
                    values[index] = np.array(body.get(name, "").split(), dtype=np.float64)

    def restore(self, state: np.ndarray) -> None:
        """Puts the simulation into a state that `simulator_state` gave."""
        self._env.set_state(state)
        self._env.sim.forward()

    def joint_positions(self) -> np.ndarray:
        """(7,) arm joint positions, rad."""
        return np.array(self._env.sim.data.qpos[self._robot._ref_joint_pos_indexes])

    def joint_velocities(self) -> np.ndarray:
        """(7,) arm joint velocities, rad/s."""
        return np.array(self._env.sim.data.qvel[self._robot._ref_joint_vel_indexes])

    def gripper_positions(self) -> np.ndarray:
        """(2,) finger joint positions, m, of opposite sign as in LIBERO."""
        return np.array(self._env.sim.data.qpos[self._robot._ref_gripper_joint_pos_indexes])

    def gripper_velocities(self) -> np.ndarray:
        """(2,) finger joint velocities, m/s, of opposite sign as in LIBERO."""
        return np.array(self._env.sim.data.qvel[self._robot._ref_gripper_joint_vel_indexes])

    def gripper_opening(self) -> float:
        """Distance between the fingers, m: 0 when closed, about 0.08 when open."""
        return float(np.abs(self.gripper_positions()).sum())

    def tip_pose(self) -> Pose:
        """Pose of `panda_hand_tcp`, base frame, from the joint positions as a real arm's is."""
        return self._arm.forward(self.joint_positions())

    def grip_pose(self) -> Pose:
        """Pose of robosuite's grip site, base frame: between the fingers, 7 mm over the tip."""
        site = self._env.sim.model.site_name2id("gripper0_grip_site")
        return Pose(
            position=np.array(self._data.site_xpos[site]) - self.base_position,
            rotation=np.array(self._data.site_xmat[site]).reshape(3, 3),
        )

    def simulator_state(self) -> np.ndarray:
        """MuJoCo's flattened state (time, positions, velocities), as LIBERO's files store it."""
        return np.array(self._env.get_sim_state())

    def model_xml(self) -> str:
        """The scene's MJCF, as LIBERO's files store it."""
        return str(self._env.sim.model.get_xml())

    def object_positions(self) -> dict[str, np.ndarray]:
        """Name to (3,) position, m, base frame, of every movable object and fixture."""
        return {name: self.body(name).position for name in self._env.env.obj_body_id}

    def body(self, name: str) -> Body:
        """Pose and bounding box of an object or fixture, base frame."""
        root = self._env.env.obj_body_id[name]
        position = np.array(self._data.xpos[root])
        rotation = np.array(self._data.xmat[root]).reshape(3, 3)
        if root not in self._boxes:
            self._boxes[root] = self._local_box(root)
        low, high = self._boxes[root]
        return Body(
            position=position - self.base_position,
            rotation=rotation,
            centre=position + rotation @ ((low + high) / 2) - self.base_position,
            half_extents=(high - low) / 2,
        )

    def surface(self, name: str) -> np.ndarray:
        """(N, 3) points whose hull is what is seen of an object or fixture, m, base frame."""
        root = self._env.env.obj_body_id[name]
        if root not in self._hulls:
            self._hulls[root] = visual_hulls(self._model, root)
        data = self._data
        return (
            np.concatenate(
                [
                    data.geom_xpos[geom] + points @ data.geom_xmat[geom].reshape(3, 3).T
                    for geom, points in self._hulls[root].items()
                ]
            )
            - self.base_position
        )

    def camera(self, name: str) -> Camera:
        """One of `CAMERAS` as it stands now, base frame."""
        index = self._env.sim.model.camera_name2id(name)
        return Camera(
            position=np.array(self._data.cam_xpos[index]) - self.base_position,
            rotation=np.array(self._data.cam_xmat[index]).reshape(3, 3),
            field_of_view=float(np.radians(self._model.cam_fovy[index])),
        )

    def grasped(self, name: str) -> bool:
        """Whether both fingers touch the object."""
        gripper, item = self._robot.gripper, self._env.env.get_object(name)
        return bool(self._env.env._check_grasp(gripper=gripper, object_geoms=item))

    def supported(self, name: str) -> bool:
        """Whether the object touches anything but the robot."""
        model, data = self._model, self._data
        item = self._env.env.obj_body_id[name]
        robot = model.body_rootid[self._env.sim.model.body_name2id("robot0_base")]
        for contact in data.contact[: data.ncon]:
            roots = {int(model.body_rootid[model.geom_bodyid[geom]]) for geom in contact.geom}
            if item in roots and robot not in roots:
                return True
        return False

    def region_position(self, name: str) -> np.ndarray:
        """(3,) position of an object, a fixture, or a named region of one, m, base frame."""
        if name in self._env.env.obj_body_id:
            return self.body(name).position
        return np.array(self._env.sim.data.get_site_xpos(name)) - self.base_position

    def close(self) -> None:
        """Frees the renderer and the simulation."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._env.close()

    def _reset_simulation(self, seed: int = 0) -> None:
        # LIBERO draws where fixtures stand, which no initial state holds, from numpy's global
        # generator: seeded for the reset alone, so that a state looks the same each time.
        drawn = np.random.get_state()
        np.random.seed(seed)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._env.reset()
        finally:
            np.random.set_state(drawn)
        self._model = self._env.sim.model._model
        self._data = self._env.sim.data._data
        self._robot = self._env.robots[0]
        # robosuite's gripper closes gradually, and would continue from the last episode's state.
        self._robot.gripper.current_action = np.zeros(self._robot.gripper.dof)
        base = self._env.sim.model.body_name2id("robot0_base")
        self.base_position = np.array(self._data.xpos[base])

    def _local_box(self, root: int) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the bounding box of a body tree's collision geoms, in the root's frame."""
        model, data = self._model, self._data
        origin, axes = data.xpos[root], data.xmat[root].reshape(3, 3)
        signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
        corners = []
        for geom in range(model.ngeom):
            if model.body_rootid[model.geom_bodyid[geom]] != model.body_rootid[root]:
                continue
            if model.geom_contype[geom] == 0 and model.geom_conaffinity[geom] == 0:
                continue
            centre, half = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
            local = centre + signs * half
            world = data.geom_xpos[geom] + local @ data.geom_xmat[geom].reshape(3, 3).T
            corners.append((world - origin) @ axes)
        points = np.concatenate(corners)
        return points.min(axis=0), points.max(axis=0)


@dataclass(frozen=True)
class _Task:
    name: str
    instruction: str
    bddl: Path
    init_states: np.ndarray | None
    """None: an initial state is what LIBERO draws with its number as the seed."""
    curve: curves.Curve | None = None


def instruction_of(suite: str, task_index: int) -> str:
    """Returns the instruction of a task; raises SceneError if there is no such task."""
    with contextlib.redirect_stdout(io.StringIO()):  # LIBERO prints when it is imported
        return _task(suite, task_index).instruction


def _task(suite: str, task_index: int) -> _Task:
    return _curve(task_index) if suite == curves.SUITE else _libero(suite, task_index)


def _curve(task_index: int) -> _Task:
    curve = curves.curve(task_index)
    return _Task(curve.name, curve.instruction, curves.BDDL, None, curve)


def _libero(suite: str, task_index: int) -> _Task:
    from libero.libero import benchmark, get_libero_path

    tasks = benchmark.get_benchmark(suite)()
    if not 0 <= task_index < tasks.n_tasks:
        last = tasks.n_tasks - 1
        raise SceneError(f"task_index {task_index} is outside {suite}; accepted: 0 to {last}")
    task = tasks.get_task(task_index)
    bddl = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
    states = np.asarray(tasks.get_task_init_states(task_index))
    return _Task(task.name, task.language, bddl, states)


def _make_renderer(model: Any, image_size: int, reduced: bool) -> Any:
    import mujoco

    if reduced:
        model.vis.quality.offsamples = RENDERING["offsamples"]
        model.mat_reflectance[:] = RENDERING["reflectance"]
        model.light_castshadow[:] = RENDERING["shadows"]
    return mujoco.Renderer(model, height=image_size, width=image_size)


def _scene_option() -> Any:
    """What LIBERO's own pictures show: visual geoms, without collision shapes and sites."""
    import mujoco

    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    option.sitegroup[:] = 0
    return option
