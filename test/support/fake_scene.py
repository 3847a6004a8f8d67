"""A scene without MuJoCo: joints follow the action, the pictures show the joints."""

from __future__ import annotations

import threading
import time

import numpy as np

from heisd_ros.errors import SceneError
from heisd_ros.kinematics.pose import Pose

REST = np.array([0.0, -0.16, 0.0, -2.44, 0.0, 2.23, 0.785])


class KinematicScene:
    """Fulfils ArmScene. The goal: `goal_steps` steps since the reset.

    The pictures take `image_sec` seconds, as those of a renderer do.

    Every call must come from one thread, as MuJoCo's renderer demands.
    """

    cameras = ("agentview", "robot0_eye_in_hand")
    n_init_states = 50

    def __init__(
        self, suite="libero_spatial", task_index=0, image_size=32, *, goal_steps=5, image_sec=0.0
    ):
        if task_index > 9:
            raise SceneError(f"task_index {task_index} is outside {suite}; accepted: 0 to 9")
        self.instruction = ("pick up the bowl", "open the drawer")[task_index % 2]
        self.image_size = image_size
        self.goal_steps = goal_steps
        self.image_sec = image_sec
        self.actions = []
        self.resets = []
        self.closed = False
        self._thread = threading.get_ident()
        self._q = REST.copy()
        self._dq = np.zeros(7)

    def reset(self, init_state):
        self._check_thread()
        if not 0 <= init_state < self.n_init_states:
            raise SceneError(f"init_state {init_state} is outside the task; accepted: 0 to 49")
        self.resets.append(init_state)
        self.actions.clear()
        self._q, self._dq = REST + 0.001 * init_state, np.zeros(7)

    def step(self, action):
        self._check_thread()
        self.actions.append(np.array(action))
        delta = 0.02 * np.append(action[:6], 0.0)
        self._q, self._dq = self._q + delta, delta * 20.0

    def success(self):
        return len(self.actions) >= self.goal_steps

    def images(self):
        self._check_thread()
        time.sleep(self.image_sec)
        size = self.image_size
        shade = (128 + 100 * np.sin(50 * self._q[:3])).astype(np.uint8)
        return {name: np.broadcast_to(shade, (size, size, 3)).copy() for name in self.cameras}

    def joint_positions(self):
        return self._q.copy()

    def joint_velocities(self):
        return self._dq.copy()

    def gripper_positions(self):
        return np.array([0.02, -0.02])

    def gripper_velocities(self):
        return np.zeros(2)

    def tip_pose(self):
        return Pose(self._q[:3], np.diag([1.0, -1.0, -1.0]))

    def close(self):
        self._check_thread()
        self.closed = True

    def _check_thread(self):
        assert threading.get_ident() == self._thread, "a scene belongs to one thread"
