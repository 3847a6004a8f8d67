"""The simulated arm over real DDS, on a scene without MuJoCo, alone and with the VLA node."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger
from support.fake_scene import KinematicScene
from support.ros import DO_NOT_FOLLOW
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS
from heisd_ros.nodes import qos
from heisd_ros.nodes.sim.sim_arm_node import SimArmNode
from heisd_ros.nodes.vla_node import VlaNode

WIRING = {
    "~/input/image": "/sim_arm_node/image",
    "~/input/image_wrist": "/sim_arm_node/image_wrist",
    "~/input/joint_states": "/sim_arm_node/joint_states",
    "~/input/instruction": "/sim_arm_node/instruction",
    "~/output/twist": "/sim_arm_node/command/twist",
    "~/output/gripper": "/sim_arm_node/command/gripper",
}


class Cell:
    """A simulated arm that runs in a thread of its own, as it would in its process."""

    def __init__(self, world, image_sec=0.0, **parameters):
        self.world = world
        self.image_sec = image_sec
        self.scenes = []
        self.stopping = threading.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(parameters,))
        self.thread.start()
        assert self.ready.wait(60.0)

    def _make_scene(self, suite, task_index, image_size):
        scene = KinematicScene(suite, task_index, image_size, image_sec=self.image_sec)
        self.scenes.append(scene)
        return self.scenes[-1]

    def _run(self, parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        context = self.world.context
        node = SimArmNode(self._make_scene, context=context, parameter_overrides=overrides)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        self.ready.set()
        self.code = node.run(executor, self.stopping)
        node.stop()
        executor.shutdown()
        node.destroy_node()

    @property
    def scene(self):
        return self.scenes[-1]

    def stop(self):
        self.stopping.set()
        self.thread.join(60.0)
        assert not self.thread.is_alive()


class Observer(Node):
    """Records what the arm publishes, and commands it."""

    def __init__(self, **kwargs):
        super().__init__("observer", **kwargs)
        self.seen = {}
        for kind, name, profile in (
            (Image, "image", qos.reliable()),
            (Image, "image_wrist", qos.sensor_data()),
            (JointState, "joint_states", qos.sensor_data()),
            (PoseStamped, "ee_pose", qos.reliable()),
            (Bool, "success", qos.reliable()),
            (String, "instruction", qos.latched()),
        ):
            profile.depth = 100
            record = self.seen.setdefault(name, [])
            self.create_subscription(kind, f"/sim_arm_node/{name}", record.append, profile)
        description = self.seen.setdefault("robot_description", [])
        self.create_subscription(String, "/robot_description", description.append, qos.latched())
        self.twist = self.create_publisher(TwistStamped, "/sim_arm_node/command/twist", 1)
        self.gripper = self.create_publisher(Float64, "/sim_arm_node/command/gripper", 1)

    def command(self, x=0.5, stamp=None, frame="panda_link0"):
        message = TwistStamped()
        message.header.frame_id = frame
        message.header.stamp = stamp or self.get_clock().now().to_msg()
        message.twist.linear.x = x
        self.twist.publish(message)

    def stamps(self, name="image"):
        return [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in self.seen[name]]


@pytest.fixture
def cell(world):
    """Starts cells; stops them before the world ends."""
    cells = []

    def start(**parameters):
        cells.append(Cell(world, image_size=32, **parameters))
        return cells[-1]

    yield start
    for each in cells:
        each.stop()


def test_it_publishes_what_a_real_cell_measures(world, cell):
    observer = world.add(Observer)
    arm = cell()
    seen = observer.seen
    world.spin_until(lambda: all(seen.values()), "every topic")
    image, joints = seen["image"][0], seen["joint_states"][0]
    assert (image.encoding, image.height, image.width, image.step) == ("rgb8", 32, 32, 96)
    assert image.header.frame_id == "agentview"
    assert seen["image_wrist"][0].header.frame_id == "robot0_eye_in_hand"
    assert joints.name == [*PANDA_JOINTS, *PANDA_FINGER_JOINTS]
    assert len(joints.position) == len(joints.velocity) == 9
    assert min(joints.position[7:]) > 0.0  # both fingers open along +, as in the URDF
    assert seen["ee_pose"][0].header.frame_id == "panda_link0"
    assert seen["instruction"][0].data == arm.scene.instruction
    kinematics = ArmKinematics(seen["robot_description"][0].data, "panda_hand_tcp")
    assert set(kinematics.joint_names) == set(PANDA_JOINTS)
    assert set(observer.stamps()) & set(observer.stamps("joint_states"))


def test_real_time_follows_fresh_twists_and_stands_still_without(world, cell):
    observer = world.add(Observer)
    arm = cell()
    world.spin_until(lambda: any(a[0] > 0.0 for a in arm.scene.actions), "motion", observer.command)
    moved = [a for a in arm.scene.actions if a[0] > 0.0][-1]
    np.testing.assert_allclose(moved[:6], [0.5, 0, 0, 0, 0, 0])  # 0.5 m/s is 0.025 m in a step
    assert moved[6] == -1.0
    done = len(arm.scene.actions) + 20
    world.spin_until(lambda: len(arm.scene.actions) > done, "steps without commands")
    assert not arm.scene.actions[-1][:6].any()
    observer.gripper.publish(Float64(data=0.0))
    world.spin_until(lambda: arm.scene.actions[-1][6] == 1.0, "the gripper to close")
    world.spin_until(lambda: observer.seen["success"][-1].data, "success")


def test_a_scene_that_renders_slower_than_real_time_still_obeys(world, cell):
    observer = world.add(Observer)
    arm = cell(image_sec=0.08)
    world.spin_until(lambda: any(a[0] > 0.0 for a in arm.scene.actions), "motion", observer.command)
    assert world.call(Trigger, "/sim_arm_node/reset_episode").success
    assert arm.scene.resets == [40, 40]


@pytest.mark.parametrize("bad", ["frame", "nan"])
def test_a_twist_that_makes_no_sense_is_refused(world, cell, bad, capfd):
    observer = world.add(Observer)
    arm = cell()
    world.spin_until(lambda: len(arm.scene.actions) > 3, "steps")
    wrong = {"frame": "tool0"} if bad == "frame" else {"x": math.nan}
    done = len(arm.scene.actions) + 10
    world.spin_until(
        lambda: len(arm.scene.actions) > done, "steps", lambda: observer.command(**wrong)
    )
    assert not any(action[:6].any() for action in arm.scene.actions)
    assert "refused: twist" in capfd.readouterr().err


def test_lockstep_never_advances_without_a_command(world, cell):
    observer = world.add(Observer)
    arm = cell(lockstep=True, lockstep_timeout_sec=0.05)
    world.spin_until(lambda: len(observer.seen["image"]) >= 5, "repeated observations")
    assert not arm.scene.actions
    stamps = observer.stamps()
    assert len(set(stamps)) == len(stamps) and stamps[-1] - stamps[0] < 1000
    observer.command(stamp=observer.seen["image"][-1].header.stamp)
    world.spin_until(lambda: len(arm.scene.actions) == 1, "one step")
    world.spin_until(lambda: observer.stamps()[-1] == stamps[0] + 50_000_000, "the next moment")
    old = observer.seen["image"][0].header.stamp
    world.spin_for(0.3, lambda: observer.command(stamp=old))
    assert len(arm.scene.actions) == 1


def test_episodes_restart_by_service_with_new_parameters(world, cell):
    observer = world.add(Observer)
    arm = cell(init_state=41)
    world.spin_until(lambda: observer.seen["image"], "images")
    assert arm.scene.resets == [41]

    def reset(**values):
        parameters = [
            ParameterMessage(name=name, value=Parameter(name, value=value).get_parameter_value())
            for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        world.call(SetParameters, "/sim_arm_node/set_parameters", request)
        return world.call(Trigger, "/sim_arm_node/reset_episode")

    response = reset(init_state=42)
    assert response.success and "initial state 42" in response.message
    assert len(arm.scenes) == 1 and arm.scene.resets == [41, 42]
    assert reset(task_index=1).success
    assert len(arm.scenes) == 2 and arm.scenes[0].closed
    world.spin_until(lambda: observer.seen["instruction"][-1].data == INSTRUCTIONS[1], "task 1")
    response = reset(init_state=99)
    assert not response.success and "init_state 99" in response.message
    response = reset(task_index=77)
    assert not response.success and "task_index 77" in response.message
    count = len(observer.seen["image"])
    world.spin_until(lambda: len(observer.seen["image"]) > count + 2, "the old scene to go on")


def run_closed_loop(world, cell, checkpoint, steps, **parameters):
    """Runs both nodes wired together for a number of steps; returns the scene's actions."""
    observer = world.add(Observer)
    for publisher in (observer.twist, observer.gripper):  # nobody else may command the arm
        observer.destroy_publisher(publisher)
    arm = cell(**parameters)
    wiring = [f"{there}:={here}" for there, here in WIRING.items()]
    arguments = ["--ros-args", *(part for rule in wiring for part in ("-r", rule))]
    stamp = "observation" if parameters.get("lockstep") else "now"
    node = world.add(
        VlaNode,
        cli_args=arguments,
        # The scene's arm moves as it likes, whatever it is told.
        parameters={
            "model.path": str(checkpoint),
            "model.threads": 1,
            "command.stamp": stamp,
            **DO_NOT_FOLLOW,
        },
    )
    node.trigger_configure()
    node.trigger_activate()
    begun = len(arm.scene.actions)  # in real time it went on while the node was configured
    world.spin_until(lambda: len(arm.scene.actions) >= begun + steps, f"{steps} steps")
    assert observer.seen["success"]
    return np.array(arm.scene.actions[begun : begun + steps])


def test_lockstep_with_the_vla_node_repeats_itself(world, cell, checkpoint):
    first = run_closed_loop(world, cell, checkpoint, 30, lockstep=True)
    assert np.abs(first[:, :6]).max() > 0.0
    other = type(world)()
    again = None
    try:
        second = Cell(other, image_size=32, lockstep=True)
        try:
            again = run_closed_loop(other, lambda **_: second, checkpoint, 30, lockstep=True)
        finally:
            second.stop()
    finally:
        other.close()
    np.testing.assert_array_equal(first, again)


def test_real_time_with_the_vla_node(world, cell, checkpoint):
    actions = run_closed_loop(world, cell, checkpoint, 30)
    assert np.abs(actions[:, :6]).max() > 0.0
    assert rclpy.ok(context=world.context)
