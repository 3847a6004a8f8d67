"""A LIBERO scene as if it were a real arm with two cameras. See docs/nodes.md.

MuJoCo's rendering context belongs to the thread that made it, so one thread does everything: it
spins the executor between two steps of the scene, and a reset runs inside its service callback.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any, NoReturn

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.errors import HeisdError
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes import qos
from heisd_ros.nodes.declaration import declare, read
from heisd_ros.nodes.geometry_messages import pose_message
from heisd_ros.nodes.image_message import image_message
from heisd_ros.nodes.process import POLL_SEC, StoppableNode, leave, run_node
from heisd_ros.nodes.sim.arm_scene import ArmScene, SceneFactory, libero_scene
from heisd_ros.nodes.sim.sim_messages import joint_state_message, twist_action
from heisd_ros.nodes.sim.sim_parameters import SimArmParameters
from heisd_ros.nodes.telemetry import time_message
from heisd_ros.sim.scene import CLOSE_GRIPPER, CONTROL_RATE_HZ, OPEN_GRIPPER

PERIOD_NS = round(NANOSECONDS / CONTROL_RATE_HZ)
EPISODE_GAP_NS = NANOSECONDS
"""Gap between the stamps of two episodes in lock-step, so that motion is not measured across it."""
GRIPPER_WAIT_SEC = 0.002
"""Time given to a gripper command that was sent just before the twist, on another topic."""
LISTEN_SEC = 0.01
"""Least time for callbacks in each real-time step, s: an arm that renders slower than real time
still gets its commands and service calls."""
PATIENCE, MOST_PATIENCE_SEC = 2.0, 5.0
"""How many times longer than the last answer took an observation waits, in lock-step, before it is
published again, and how long at most, s: one that is still being answered would be answered twice,
and a slow model would mostly work on answers that nobody waits for."""
LOG_PERIOD_SEC = 5.0
_TOPICS = ("~/image", "~/image_wrist")


class SimArmNode(StoppableNode):
    """Publishes what a real cell measures, and takes the commands of a real arm.

    Args:
        make_scene: Creates the scene; tests pass their own.
        **kwargs: Passed on to rclpy's Node, for instance `context` or `parameter_overrides`.

    Raises:
        ValueError: A parameter is not accepted; the message names it.
    """

    def __init__(self, make_scene: SceneFactory = libero_scene, **kwargs: Any) -> None:
        super().__init__("sim_arm_node", **kwargs)
        refused = declare(self, SimArmParameters)
        if refused:
            raise ValueError("; ".join(refused.values()))
        self._settings = read(self, SimArmParameters)
        self._make_scene = make_scene
        self._scene: ArmScene | None = None
        self._task: tuple[str, int] | None = None
        self._twist, self._twist_at = np.zeros(6), -math.inf
        self._gripper = OPEN_GRIPPER
        self._answered = False  # in lock-step: a command for the newest observation came
        self._answer_sec = 0.0  # in lock-step: how long the last one took
        self._restarted = False
        self._stamp = 0  # of the newest observation, ns
        self._stamps: list[int] = []  # of the newest observation, each time it was published
        self._old_stamps: deque[int] = deque(maxlen=1000)

        self._images = [qos.publisher(self, Image, topic) for topic in _TOPICS]
        self._joint_states = qos.publisher(self, JointState, "~/joint_states")
        self._ee_pose = qos.publisher(self, PoseStamped, "~/ee_pose")
        self._success = qos.publisher(self, Bool, "~/success")
        self._instruction = qos.publisher(self, String, "~/instruction", qos.latched())
        self._description = qos.publisher(self, String, "robot_description", qos.latched())
        self._description.publish(String(data=panda_urdf()))
        for kind, topic, callback in (
            (TwistStamped, "~/command/twist", self._on_twist),
            (Float64, "~/command/gripper", self._on_gripper),
        ):
            self.create_subscription(
                kind, topic, callback, qos.reliable(), qos_overriding_options=qos.overrides()
            )
        self.create_service(Trigger, "~/reset_episode", self._on_reset)

    def run(self, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
        """Runs episodes until the event is set: scene, steps and callbacks in this thread.

        Returns:
            Exit code: 1 if the first episode cannot start.
        """
        try:
            self._begin_episode()
        except (HeisdError, ValueError) as error:
            self.get_logger().error(str(error))
            return 1
        turn = self._lockstep_turn if self._settings.lockstep else self._real_time_turn
        while not stopping.is_set():
            self._restarted = False
            turn(executor, stopping)
        return 0

    def stop(self) -> None:
        """Frees the scene; without commands the arm stops by itself."""
        if self._scene is not None:
            self._scene.close()
            self._scene = None

    def _begin_episode(self) -> str:
        """Starts the episode that the parameters name.

        Returns:
            A description of the episode.

        Raises:
            SceneError, ValueError: The task or state does not exist.
        """
        wanted = read(self, SimArmParameters)
        task = (wanted.suite, wanted.task_index)
        if task != self._task or self._scene is None:
            # The new scene first: if it fails, the old one continues.
            scene = self._make_scene(*task, self._settings.image_size)
            self.stop()
            self._scene, self._task = scene, task
        self._scene.reset(wanted.init_state)
        self._twist_at, self._gripper = -math.inf, OPEN_GRIPPER
        self._answered, self._restarted = False, True
        self._stamp = max(self.get_clock().now().nanoseconds, self._stamp + EPISODE_GAP_NS)
        self._instruction.publish(String(data=self._scene.instruction))
        where = f"{task[0]} task {task[1]} initial state {wanted.init_state}"
        text = f"{where}: {self._scene.instruction}"
        self.get_logger().info(f"episode: {text}")
        return text

    def _real_time_turn(self, executor: SingleThreadedExecutor, stopping: threading.Event) -> None:
        began = time.monotonic()
        self._stamp = self.get_clock().now().nanoseconds
        self._publish(self._render())
        listen = time.monotonic() + LISTEN_SEC
        self._spin_until(executor, stopping, max(listen, began + 1.0 / CONTROL_RATE_HZ))
        if stopping.is_set() or self._restarted:
            return
        fresh = time.monotonic() - self._twist_at <= self._settings.command_timeout_sec
        self._step(self._twist if fresh else np.zeros(6))
        behind = time.monotonic() - began - 1.0 / CONTROL_RATE_HZ
        if behind > 0.5 / CONTROL_RATE_HZ:
            self.get_logger().warning(
                f"a step took {behind:.3f} s longer than real time",
                throttle_duration_sec=LOG_PERIOD_SEC,
            )

    def _lockstep_turn(self, executor: SingleThreadedExecutor, stopping: threading.Event) -> None:
        images, began = self._render(), time.monotonic()
        patience = min(PATIENCE * self._answer_sec, MOST_PATIENCE_SEC)
        timeout = max(self._settings.lockstep_timeout_sec, patience)
        self._answered = False
        self._old_stamps.extend(self._stamps)
        self._stamps = []
        while not (self._answered or self._restarted or stopping.is_set()):
            if self._stamps:
                self._stamp += 1  # the same time, but not a duplicate message
            self._stamps.append(self._stamp)
            self._publish(images)
            self._spin_until(executor, stopping, time.monotonic() + timeout)
        if self._answered and not self._restarted:
            self._answer_sec = time.monotonic() - began
            self._drain(executor)
            if self._restarted:  # meanwhile: the twist was for the episode before
                return
            self._step(self._twist)
            self._stamp = self._stamps[0] + PERIOD_NS

    def _spin_until(
        self, executor: SingleThreadedExecutor, stopping: threading.Event, deadline: float
    ) -> None:
        while not (stopping.is_set() or self._restarted):
            left = deadline - time.monotonic()
            if left <= 0.0 or (self._answered and self._settings.lockstep):
                return
            executor.spin_once(timeout_sec=min(left, POLL_SEC))

    def _drain(self, executor: SingleThreadedExecutor) -> None:
        """Handles what has arrived besides the twist, in particular the gripper's command."""
        deadline = time.monotonic() + GRIPPER_WAIT_SEC
        while (left := deadline - time.monotonic()) > 0.0:
            executor.spin_once(timeout_sec=left)

    def _step(self, motion: np.ndarray) -> None:
        assert self._scene is not None, "an episode has begun"
        self._scene.step(np.append(motion, self._gripper))

    def _render(self) -> list[tuple[str, np.ndarray]]:
        assert self._scene is not None, "an episode has begun"
        pictures = self._scene.images()
        return [(camera, pictures[camera]) for camera in self._scene.cameras]

    def _publish(self, images: list[tuple[str, np.ndarray]]) -> None:
        """Publishes one observation: all parts with the same stamp, images last."""
        assert self._scene is not None, "an episode has begun"
        stamp, frame_id = time_message(self._stamp), self._settings.frame_id
        self._success.publish(Bool(data=self._scene.success()))
        self._ee_pose.publish(pose_message(self._scene.tip_pose(), stamp, frame_id))
        self._joint_states.publish(joint_state_message(self._scene, stamp, frame_id))
        for publisher, (camera, pixels) in zip(self._images, images, strict=False):
            publisher.publish(image_message(pixels, stamp, camera))

    def _on_twist(self, message: TwistStamped) -> None:
        frame = message.header.frame_id
        if frame != self._settings.frame_id:
            self._refuse(f"twist in frame {frame!r}; accepted: {self._settings.frame_id!r}")
            return
        try:
            motion = twist_action(message.twist)
        except ValueError as error:
            self._refuse(str(error))
            return
        # In lock-step only the first command for the newest observation counts, so no stop and no
        # late command.
        stamp = stamp_ns(message)
        old = stamp == 0 or stamp in self._old_stamps
        if self._settings.lockstep and (old or self._answered):
            return
        self._twist, self._twist_at = motion, time.monotonic()
        self._answered = True

    def _on_gripper(self, message: Float64) -> None:
        if not math.isfinite(message.data):
            self._refuse(f"gripper command is {message.data}; accepted: finite numbers (m)")
            return
        half_open = self._settings.gripper_open_position / 2
        self._gripper = OPEN_GRIPPER if message.data > half_open else CLOSE_GRIPPER

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = self._begin_episode()
            response.success = True
        except (HeisdError, ValueError) as error:
            response.message = str(error)
            self.get_logger().error(f"reset_episode: {error}")
        return response

    def _refuse(self, reason: str) -> None:
        self.get_logger().error(f"refused: {reason}", throttle_duration_sec=LOG_PERIOD_SEC)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the executable `sim_arm_node`."""
    leave(run_node(SimArmNode, SimArmNode.run, arguments))


if __name__ == "__main__":
    main()
