"""Curved tasks: what is passing an arc, where an arc is followed, and that one is solved."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heisd_ros.errors import SceneError
from heisd_ros.kinematics.pose import Pose
from heisd_ros.sim.curve_expert import ArcExpert, expert_of, nearest
from heisd_ros.sim.curves import CURVES, MAX_SPEED, Progress, curve, offset_on, tilt
from heisd_ros.sim.demonstrations import HELD_OUT_STATES, run_expert
from heisd_ros.sim.expert import pointing_down
from heisd_ros.sim.reasoning import Reasoner
from heisd_ros.sim.scene import OPEN_GRIPPER, LiberoScene

RATE_HZ = 20.0
METRES_PER_STEP = 0.015
"""What the arm moves in a control step for one unit of action, once it moves, m."""
STIR, WIPE, POUR = (task.arc for task in CURVES)
arcs = st.sampled_from([STIR, WIPE])
slow, fast = st.floats(0.02, 0.9 * MAX_SPEED), st.floats(1.1 * MAX_SPEED, 1.0)
angles, metres = st.floats(-np.pi, np.pi), st.floats(-0.3, 0.3)


def around(arc, speed, turns=1.0, aside=0.0):
    """Points of a motion along an arc, `turns` times all around its circle, m."""
    steps = int(turns * 2 * np.pi * arc.radius / speed * RATE_HZ) + 1
    angle = arc.middle - np.pi + np.arange(steps) * speed / arc.radius / RATE_HZ
    radius = arc.radius + aside
    height = np.full(steps, arc.height)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def passed(arc, points):
    progress = Progress(arc, RATE_HZ)
    for point in points:
        progress.note(offset_on(arc, point))
    return progress.done


@given(arcs, slow, st.sampled_from([1, -1]), st.floats(-0.9, 0.9))
def test_a_slow_motion_near_the_arc_passes_it_in_either_sense(arc, speed, sense, aside):
    points = around(arc, speed, turns=arc.laps + 0.3, aside=aside * arc.tolerance)
    assert passed(arc, points[::sense])


@given(arcs, fast)
def test_a_fast_motion_along_the_arc_does_not(arc, speed):
    assert not passed(arc, around(arc, speed, turns=10))


@given(arcs, slow, st.floats(1.1, 3.0))
def test_nor_does_a_slow_one_beside_it_or_above_it(arc, speed, distance):
    away = distance * arc.tolerance
    assert not passed(arc, around(arc, speed, turns=4, aside=away))
    assert not passed(arc, around(arc, speed, turns=4) + np.array([0.0, 0.0, away]))


@given(arcs, slow, angles, metres)
def test_nor_does_a_straight_line_however_slow(arc, speed, angle, aside):
    across = np.arange(-0.4, 0.4, speed / RATE_HZ)
    along = np.array([np.cos(angle), np.sin(angle), 0.0])
    beside = np.array([-along[1], along[0], 0.0])
    up = np.array([0.0, 0.0, arc.height])
    points = across[:, None] * along + aside * beside + up
    assert not passed(arc, points)


@given(arcs, angles, st.floats(0.0, 0.001))
def test_nor_does_rest_on_it(arc, angle, shake):
    rng = np.random.default_rng(0)
    point = nearest(arc, np.array([np.cos(angle), np.sin(angle), 0.0]))
    assert not passed(arc, point + shake * rng.normal(size=(400, 3)))


@pytest.mark.parametrize("laps", [0.8, 1.6])
def test_one_lap_too_few_is_not_enough_to_stir(laps):
    points = around(STIR, 0.05, turns=laps)
    assert passed(STIR, around(STIR, 0.05, turns=2.1)) and not passed(STIR, points)


@given(st.floats(0.05, 1.3), st.floats(0.05, 1.3))
def test_pouring_is_a_slow_tilt(slowly, fast):
    def poured(rad_per_sec):
        progress = Progress(POUR, RATE_HZ)
        for angle in np.arange(0.0, np.pi / 2, rad_per_sec / RATE_HZ):
            progress.note(POUR.offset(angle))
        return progress.done

    assert poured(slowly)
    assert not poured(MAX_SPEED / POUR.radius + fast)


def test_what_was_passed_stays_passed():
    progress = Progress(WIPE, RATE_HZ)
    for point in around(WIPE, 0.1):
        progress.note(offset_on(WIPE, point))
    progress.note(None)
    assert progress.done


class Point:
    """A scene without dynamics: its grip site makes the commanded motion."""

    def __init__(self, position):
        self.position = np.array(position)

    def grip_pose(self):
        return Pose(self.position, pointing_down())

    def body(self, name):
        return Pose(np.zeros(3), np.eye(3))

    def step(self, action):
        self.position = self.position + METRES_PER_STEP * action[:3]


@settings(max_examples=10)
@example(CURVES[0], (0.0, 0.0, CURVES[0].arc.height))
@given(st.sampled_from(CURVES[:2]), st.tuples(metres, metres, st.floats(0.02, 0.3)))
def test_from_anywhere_the_expert_passes_the_arc_without_memory(task, start):
    scene, progress = Point(start), Progress(task.arc, RATE_HZ)
    expert, phases = ArcExpert(scene, task), []
    for _ in range(400):
        phases.append(expert.intent().phase)
        scene.step(expert.action())
        progress.note(task.offset(scene))
        if progress.done:
            break
    assert progress.done
    assert {*phases} <= {"reach", "follow"} and phases[-1] == "follow"


def test_tilt_is_the_angle_to_the_vertical():
    quarter = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    assert tilt(np.eye(3)) == 0.0 and tilt(quarter) == pytest.approx(np.pi / 2)


def test_names_and_instructions_differ_and_an_unknown_task_is_refused():
    for one, other in pairwise(CURVES):
        assert one.instruction != other.instruction and one.name != other.name
    with pytest.raises(SceneError, match=r"libero_mars.*accepted: .*heisd_curves"):
        LiberoScene("libero_mars", 0)
    with pytest.raises(SceneError, match=r"task_index 3 .*heisd_curves.*accepted: 0 to 2"):
        curve(3)


@pytest.fixture(scope="module")
def stirring():
    pytest.importorskip("libero")
    with contextlib.closing(LiberoScene("heisd_curves", 0, image_size=32)) as scene:
        yield scene


def test_a_seeded_state_starts_the_same_and_unlike_others(stirring):
    assert stirring.n_init_states == 50
    states = []
    for state in (1, 2, 1):
        stirring.reset(state)
        states.append(stirring.simulator_state())
        assert not stirring.success()
    np.testing.assert_array_equal(states[0], states[2])
    assert np.abs(states[0] - states[1]).max() > 1e-3


def test_stirring_is_solved_and_a_reset_undoes_it(stirring):
    actions = []
    taken = run_expert(stirring, 0, seed=0, on_step=actions.append, state=HELD_OUT_STATES[0])
    assert taken == len(actions) and stirring.success()
    expert = expert_of(stirring, 0)
    assert isinstance(expert, ArcExpert) and expert.intent().phase == "follow"
    text = Reasoner(stirring, expert).text(expert.intent(), actions[-1], ((4, 8), (8, 8)))
    assert "SUBTASK: follow the arc" in text and "other bowl" not in text
    stirring.reset(HELD_OUT_STATES[0])
    stirring.step(np.array([0, 0, 0, 0, 0, 0, OPEN_GRIPPER]))
    assert not stirring.success()
