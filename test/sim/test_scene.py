"""A LIBERO scene: what it refuses, its frames, its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from heisd_ros.errors import SceneError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.sim.scene import CLOSE_GRIPPER, METRES_PER_UNIT, OPEN_GRIPPER, LiberoScene

TABLE = 0.0
"""Height of the table in the base frame, m, within 2 cm: the arm stands on its level."""


@pytest.fixture
def start(scene):
    scene.reset(0)
    return scene


def steps(scene, number, gripper, **deltas):
    action = np.zeros(7)
    action[["xyz".index(axis) for axis in deltas]] = [*deltas.values()]
    action[6] = gripper
    for _ in range(number):
        scene.step(action)


def test_an_unknown_suite_is_refused():
    with pytest.raises(SceneError, match=r"libero_mars.*accepted: libero_spatial"):
        LiberoScene("libero_mars", 0)


@pytest.mark.parametrize("task_index", [-1, 10])
def test_an_unknown_task_is_refused(task_index):
    pytest.importorskip("libero")
    with pytest.raises(SceneError, match=f"task_index {task_index} .*accepted: 0 to 9"):
        LiberoScene("libero_spatial", task_index)


@pytest.mark.parametrize("init_state", [-1, 50])
def test_an_unknown_state_is_refused(scene, init_state):
    assert scene.n_init_states == 50
    with pytest.raises(SceneError, match=f"init_state {init_state} .*accepted: 0 to 49"):
        scene.reset(init_state)


def test_says_what_the_task_is(scene):
    assert (scene.suite, scene.task_index) == ("libero_spatial", 2)
    assert scene.instruction == (
        "pick up the black bowl from table center and place it on the plate"
    )
    assert scene.bddl_path.is_file()
    assert scene.goal == [["on", "akita_black_bowl_1", "plate_1"]]


def test_an_episode_starts_unsolved_open_and_at_rest(start):
    assert not start.success()
    assert 0.07 < start.gripper_opening() <= 0.085
    assert np.abs(start.joint_velocities()).max() < 0.05
    assert start.joint_positions().shape == start.joint_velocities().shape == (7,)
    first, second = start.gripper_positions()
    assert first > 0 > second


def test_a_state_starts_the_same_each_time_and_unlike_others(scene):
    scene.reset(1)
    before = scene.simulator_state()
    steps(scene, 3, CLOSE_GRIPPER, x=1.0)
    scene.reset(2)
    other = scene.simulator_state()
    scene.reset(1)
    np.testing.assert_allclose(scene.simulator_state(), before, atol=1e-6)
    assert np.abs(other - before).max() > 1e-3


def test_an_episode_does_not_depend_on_what_was_before_it(scene):
    """Down to the last bit: pairs of episodes are compared, and a lock-step run repeats itself."""

    pictures = []

    def episode():
        scene.reset(7)
        states = [scene.simulator_state()]
        pictures.append(np.stack([*scene.images().values()]))
        for gripper in (OPEN_GRIPPER, CLOSE_GRIPPER):
            steps(scene, 5, gripper, x=0.3, z=-0.2)
            states.append(scene.simulator_state())
        return np.array(states)

    first = episode()
    scene.reset(3)
    steps(scene, 12, CLOSE_GRIPPER, y=0.5)
    np.testing.assert_array_equal(episode(), first)
    np.testing.assert_array_equal(*pictures)


def test_tip_is_where_forward_kinematics_puts_it(start):
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    pose, expected = start.tip_pose(), arm.forward(start.joint_positions())
    np.testing.assert_array_equal(pose.position, expected.position)
    np.testing.assert_array_equal(pose.rotation, expected.rotation)


def test_the_simulators_hand_is_where_the_kinematics_puts_it(start):
    tip, grip = start.tip_pose(), start.grip_pose()
    # robosuite's grip site lies 6.9 mm behind the tip, along the hand's z.
    offset = tip.rotation.T @ (grip.position - tip.position)
    np.testing.assert_allclose(offset, [0, 0, -0.0069], atol=2e-4)
    assert tip.rotation[2, 2] < -0.99, "the hand points down"


def test_base_frame_is_the_robots(start):
    np.testing.assert_allclose(start.base_position, [-0.66, 0.0, 0.912], atol=1e-6)
    objects = start.object_positions()
    assert {"akita_black_bowl_1", "plate_1", "wooden_cabinet_1"} <= objects.keys()
    for name in ("akita_black_bowl_1", "plate_1"):
        x, y, z = objects[name]
        assert 0.3 < x < 0.9 and abs(y) < 0.5, "things stand in front of the robot, in reach"
        assert z == pytest.approx(TABLE, abs=0.02)
        np.testing.assert_array_equal(start.region_position(name), objects[name])


def test_bounding_box_of_a_bowl_stands_on_the_table(start):
    body = start.body("akita_black_bowl_1")
    assert (body.half_extents > 0.01).all() and (body.half_extents < 0.08).all()
    bottom = body.centre[2] - body.half_extents[2]
    assert bottom == pytest.approx(TABLE, abs=0.02)
    np.testing.assert_allclose(body.rotation @ body.rotation.T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_an_action_moves_the_tip_along_its_axis_of_the_base(start, axis):
    before = start.tip_pose().position
    steps(start, 8, OPEN_GRIPPER, **{axis: 0.5})
    moved = start.tip_pose().position - before
    along = moved["xyz".index(axis)]
    # The controller is soft and lags far behind what it is asked for.
    assert 0.1 < along / (8 * 0.5 * METRES_PER_UNIT) < 1.1
    assert np.abs(np.delete(moved, "xyz".index(axis))).max() < 0.3 * along


def test_the_gripper_closes(start):
    steps(start, 15, CLOSE_GRIPPER)
    assert start.gripper_opening() < 0.01
    assert not start.grasped("akita_black_bowl_1")


def test_pictures_are_upright_and_of_two_cameras(start):
    images = start.images()
    assert tuple(images) == start.cameras == ("agentview", "robot0_eye_in_hand")
    for image in images.values():
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert image.std() > 10, "there is something to see"
    front, wrist = (image.astype(float) for image in images.values())
    assert np.abs(front - wrist).mean() > 20
    # The table is wood, more red than blue, and lies below a wall that is grey.
    warmth = (front[..., 0] - front[..., 2]).mean(axis=1)
    assert warmth[-16:].mean() > 10 > warmth[:16].mean()
    # The hand's own camera has the fingers, which are dark, at the lower edge.
    assert wrist[-8:].mean() < 0.7 * wrist[:-16].mean()


def test_pictures_of_a_state_are_those_of_then(start):
    state, then = start.simulator_state(), start.images()
    steps(start, 8, OPEN_GRIPPER, x=1.0)
    later, again = start.images(), start.images_of(state)
    for camera, image in then.items():
        # Poses after a step lag the state by one step of the physics, so single pixels differ.
        assert _difference(again[camera], image) < 0.1
        assert _difference(later[camera], image) > 1.0
    np.testing.assert_array_equal(start.simulator_state(), state)


def _difference(left, right):
    return np.abs(left.astype(float) - right).mean()
