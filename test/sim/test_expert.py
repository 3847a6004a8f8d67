"""The scripted expert: its path as a law, the tasks it takes, and that it solves one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.errors import SceneError
from heisd_ros.sim.demonstrations import HELD_OUT_STATES, run_expert
from heisd_ros.sim.expert import (
    Grasp,
    PickPlaceExpert,
    PickPlaceTask,
    _ramp,
    grasp_candidates,
    through_funnel,
)
from heisd_ros.sim.scene import LiberoScene

CLEARANCE = 0.09
metres = st.floats(-0.6, 0.6)
errors = st.tuples(metres, metres, metres).map(np.array)
far = st.floats(0.07, 0.6)
angles = st.floats(-np.pi, np.pi)


@given(far, angles, st.floats(-CLEARANCE + 0.05, 0.6), st.floats(0, 1))
def test_far_below_the_needed_height_it_only_rises(distance, angle, height, turn):
    error = np.array([distance * np.cos(angle), distance * np.sin(angle), height])
    motion = through_funnel(error, CLEARANCE, turn)
    np.testing.assert_array_equal(motion[:2], 0.0)
    assert motion[2] > 0


@given(errors, st.floats(0, np.pi))
def test_it_never_travels_sideways_beyond_or_away_from_the_goal(error, turn):
    motion = through_funnel(error, CLEARANCE, turn)
    for travel, wanted in zip(motion[:2], error[:2], strict=True):
        assert 0 <= travel * np.sign(wanted) <= abs(wanted)


@given(metres)
def test_over_the_goal_no_clearance_is_kept(height):
    at_goal = through_funnel(np.array([0.0, 0.0, height]), CLEARANCE)
    np.testing.assert_array_equal(at_goal, through_funnel(np.array([0.0, 0.0, height]), 0.0))
    assert height - 0.01 <= at_goal[2] <= height


@given(metres)
def test_a_hand_that_is_not_turned_yet_stays_up(height):
    straight = through_funnel(np.array([0.0, 0.0, height]), CLEARANCE)
    turned = through_funnel(np.array([0.0, 0.0, height]), CLEARANCE, turn=1.0)
    assert turned[2] - straight[2] == pytest.approx(CLEARANCE)


@given(far, angles, st.floats(0.0, 0.5))
def test_high_enough_it_travels_the_whole_way_sideways(distance, angle, spare):
    error = np.array(
        [distance * np.cos(angle), distance * np.sin(angle), -CLEARANCE + 0.01 - spare]
    )
    np.testing.assert_array_equal(through_funnel(error, CLEARANCE)[:2], error[:2])


@given(st.tuples(metres, metres), metres, st.floats(0, 0.3), st.floats(0, 0.3))
def test_more_clearance_never_means_lower(sideways, height, one, other):
    error = np.array([*sideways, height])
    low, high = sorted((one, other))
    assert through_funnel(error, low)[2] <= through_funnel(error, high)[2]


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_ramp_rises_from_zero_to_one(one, other):
    low, high = sorted((one, other))
    assert 0.0 <= _ramp(low, (0.1, 0.5)) <= _ramp(high, (0.1, 0.5)) <= 1.0
    assert _ramp(min(low, 0.1), (0.1, 0.5)) == 0.0
    assert _ramp(max(high, 0.5), (0.1, 0.5)) == 1.0


def test_reads_the_task_from_the_goal(scene):
    task = PickPlaceTask.from_scene(scene)
    assert task == PickPlaceTask(item="akita_black_bowl_1", target="plate_1", from_above=False)


def test_a_bowl_is_taken_by_its_rim(scene):
    scene.reset(HELD_OUT_STATES[0])
    bowl = scene.body("akita_black_bowl_1")
    candidates = grasp_candidates(scene, "akita_black_bowl_1")
    assert len(candidates) == 8
    assert [grasp.yaw for grasp in candidates[:2]] == [0.0, 0.0], "without turning, first"
    for grasp in candidates:
        distance = np.linalg.norm(grasp.offset[:2])
        assert bowl.half_extents[0] - 0.01 < distance < bowl.half_extents[0]
        # The fingers close along y at yaw 0: across the rim, not along it.
        across = np.array([-np.sin(grasp.yaw), np.cos(grasp.yaw)])
        assert abs(across @ grasp.offset[:2]) == pytest.approx(distance)
        assert 0 < grasp.offset[2] < bowl.half_extents[2]


def test_another_thing_is_taken_from_above_across_its_narrower_side(scene):
    scene.reset(HELD_OUT_STATES[0])
    box = scene.body("cookies_1")
    candidates = grasp_candidates(scene, "cookies_1")
    assert len(candidates) == 2
    widths = []
    for grasp in candidates:
        np.testing.assert_array_equal(grasp.offset[:2], 0.0)
        assert -np.pi / 2 <= grasp.yaw <= np.pi / 2
        across = np.array([-np.sin(grasp.yaw), np.cos(grasp.yaw), 0.0])
        widths.append(float(np.abs(across @ box.rotation) @ box.half_extents))
    assert widths[0] < widths[1]


def test_the_first_action_is_within_range_and_leaves_the_hand_open(scene):
    scene.reset(HELD_OUT_STATES[0])
    expert = PickPlaceExpert(scene, Grasp(offset=np.array([0.0, 0.05, 0.01]), yaw=0.0))
    action = expert.action()
    assert action.shape == (7,) and (np.abs(action) <= 1.0).all()
    assert action[6] == -1.0
    assert not (expert.held() or expert.placed() or expert.finished())


def test_it_solves_a_held_out_state(scene):
    actions = []
    taken = run_expert(scene, 0, seed=0, on_step=actions.append, state=HELD_OUT_STATES[0])
    assert taken == len(actions)
    assert scene.success()
    grippers = np.array(actions)[:, 6]
    assert set(grippers) == {-1.0, 1.0}
    assert grippers[0] == grippers[-1] == -1.0, "open before and after"
    assert (np.abs(actions) <= 1.0).all()


def test_what_lies_beside_its_target_is_corrected(scene):
    assert run_expert(scene, 0, seed=0, state=HELD_OUT_STATES[0])
    task = PickPlaceTask.from_scene(scene)
    state, bowl = scene.simulator_state(), scene.body(task.item).position + scene.base_position
    at = int(np.argmin([np.abs(state[i : i + 3] - bowl).max() for i in range(len(state) - 2)]))
    state[at] += scene.region_position(task.target)[0] + scene.base_position[0] + 0.032 - bowl[0]
    grasp = grasp_candidates(scene, task.item)[0]
    expert, corrector = (PickPlaceExpert(scene, grasp, corrects=each) for each in (False, True))
    assert expert.intent().phase == corrector.intent().phase == "withdraw"
    scene.restore(state)
    assert not scene.success()
    assert expert.intent().phase == "withdraw"
    assert corrector.intent().phase == "approach"


def test_a_task_that_is_not_pick_and_place_is_refused():
    pytest.importorskip("libero")
    drawer = LiberoScene("libero_goal", 0)
    try:
        assert drawer.instruction == "open the middle drawer of the cabinet"
        with pytest.raises(SceneError, match=r"open_the_middle_drawer.*pick-and-place only"):
            PickPlaceTask.from_scene(drawer)
    finally:
        drawer.close()


@pytest.mark.parametrize(
    ("task", "state"),
    [
        pytest.param(1, 30, id="on a burner, higher than its bounding box says"),
        pytest.param(2, 40, id="on a cabinet, whose middle is out of reach for a bottle"),
        pytest.param(6, 40, id="in a bowl, where open fingers jam"),
    ],
)
def test_an_object_is_let_go_where_the_arm_can_let_go_of_it(task, state):
    scene = LiberoScene("libero_goal", task)
    try:
        steps = run_expert(scene, 0, seed=4 * state, state=state, drops_fail=False)
    finally:
        scene.close()
    assert steps is not None
