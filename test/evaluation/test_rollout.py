"""The closed loop, with a scene and a decoder written by hand."""

import numpy as np

from heisd_ros.decoding.types import StepResult
from heisd_ros.evaluation.rollout import MAX_STEPS, observe, run_episode
from heisd_ros.kinematics.pose import Pose


class PushScene:
    """Succeeds once the arm has been pushed one metre along x."""

    suite, task_index, instruction = "libero_spatial", 3, "push"

    def __init__(self):
        self.x, self.resets = 0.0, []

    def reset(self, init_state):
        self.x = 0.0
        self.resets.append(init_state)

    def images(self):
        return {name: np.full((4, 4, 3), i, np.uint8) for i, name in enumerate(("agent", "wrist"))}

    def tip_pose(self):
        return Pose(position=np.array([self.x, 0.0, 0.3]), rotation=np.diag([1.0, -1.0, -1.0]))

    def gripper_opening(self):
        return 0.05

    def step(self, action):
        self.x += action[0]

    def success(self):
        return self.x >= 1.0


class ConstantDecoder:
    def __init__(self, speed):
        self.speed, self.resets, self.seen = speed, 0, []

    def reset(self):
        self.resets += 1

    def infer(self, observation):
        self.seen.append(observation)
        return StepResult(
            action=np.array([self.speed, 0, 0, 0, 0, 0, -1.0]),
            tokens=(0,) * 7,
            source="autoregressive",
            reason="test",
            timings_ms={"total": 2.0},
            passes=7,
        )


def test_an_episode_ends_with_success():
    scene, decoder = PushScene(), ConstantDecoder(0.25)
    result = run_episode(scene, decoder, 42)
    assert (result.success, result.steps, result.step_ms) == (True, 4, [2.0] * 4)
    assert (result.suite, result.task_index, result.init_state) == ("libero_spatial", 3, 42)
    assert scene.resets == [42] and decoder.resets == 1


def test_an_episode_ends_at_the_suites_limit():
    result = run_episode(PushScene(), ConstantDecoder(0.0), 40)
    assert not result.success
    assert result.steps == MAX_STEPS["libero_spatial"] == 220


def test_the_decoder_sees_views_in_order_and_proprioception():
    scene = PushScene()
    scene.x = 0.5
    observation = observe(scene)
    assert [int(image[0, 0, 0]) for image in observation.images] == [0, 1]
    assert observation.instruction == "push"
    assert np.allclose(observation.proprio, [0.5, 0, 0.3, 0, 0, 0, 0.05])
