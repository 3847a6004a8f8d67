"""Labels for a reasoning model: boxes against what is drawn, words against the expert."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from heisd_ros.sim.projection import Camera
from heisd_ros.sim.reasoning import FRAME, VIEW, Reasoner, move, place, spoken


@pytest.fixture(scope="module")
def reasoner():
    pytest.importorskip("libero")
    from heisd_ros.sim.expert import PickPlaceExpert, PickPlaceTask, grasp_candidates
    from heisd_ros.sim.scene import LiberoScene

    scene = LiberoScene("libero_spatial", 0, image_size=128)
    with contextlib.closing(scene):
        scene.reset(3)
        item = PickPlaceTask.from_scene(scene).item
        yield Reasoner(scene, PickPlaceExpert(scene, grasp_candidates(scene, item)[0]))


def drawn_boxes(scene, size):
    """Box of the pixels of each body tree in the frame, by the root's number."""
    import mujoco

    from heisd_ros.sim.scene import _scene_option

    model, data = scene._model, scene._data
    with mujoco.Renderer(model, size, size) as renderer:
        renderer.enable_segmentation_rendering()
        renderer.update_scene(data, VIEW, _scene_option())
        seen = renderer.render()
    geoms = np.where(seen[..., 1] == mujoco.mjtObj.mjOBJ_GEOM, seen[..., 0], -1)
    roots = np.where(geoms >= 0, model.body_rootid[model.geom_bodyid[geoms]], -1)
    boxes = {}
    for root in set(roots.flatten()) - {-1}:
        rows, columns = np.nonzero(roots == root)
        boxes[int(root)] = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return {root: box * FRAME / size for root, box in boxes.items()}


def test_boxes_are_those_of_what_is_drawn(reasoner):
    scene = reasoner.scene
    drawn = drawn_boxes(scene, 256)
    camera = scene.camera(VIEW)
    near = 0
    for name, root in scene._env.env.obj_body_id.items():
        box = camera.box(scene.surface(name), FRAME)
        if root not in drawn:
            continue
        assert box is not None, name
        # Something may stand in front, so what is drawn may be smaller, never larger.
        assert (drawn[root][:2] >= box[:2] - 2).all() and (drawn[root][2:] <= box[2:] + 2).all()
        near += np.abs(drawn[root] - box).max() < 4
    assert near >= 4


def test_names_begin_with_what_is_to_be_taken_and_where_to_put_it(reasoner):
    boxes = reasoner.objects()
    assert [*boxes][:2] == ["bowl", "plate"]
    assert {"other bowl", "ramekin", "cookie box", "stove", "cabinet"} <= {*boxes}
    assert all(0 <= number < FRAME and number % 4 == 0 for box in boxes.values() for number in box)


def test_the_gripper_is_where_the_fingers_are_drawn(reasoner):
    drawn = drawn_boxes(reasoner.scene, 256)
    scene = reasoner.scene
    robot = scene._model.body_rootid[scene._env.sim.model.body_name2id("robot0_base")]
    hands = {root: box for root, box in drawn.items() if root == robot}
    (box,) = hands.values()
    across, down = reasoner.gripper()
    assert box[0] - 8 <= across <= box[2] + 8 and box[1] - 8 <= down <= box[3] + 8


def test_a_text_has_every_part_in_ecots_order(reasoner):
    from heisd_ros.families.ecot.codec import TAGS

    expert = reasoner.expert
    text = reasoner.text(expert.intent(), expert.action(), [reasoner.gripper()] * 2)
    places = [f" {text}".find(f" {tag}") for tag in TAGS[:-1]]
    assert places == sorted(places) and -1 not in places
    assert "SUBTASK: reach the bowl" in text and "open gripper" in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ([0.12, -0.04, -0.3], "the bowl is 12cm ahead, 4cm right, 30cm below"),
        ([-0.01, 0.004, 0.02], "the bowl is 1cm behind, 2cm above"),
        ([0.0, 0.004, -0.004], "the bowl is here"),
    ],
)
def test_places_are_told_in_whole_centimetres(error, said):
    assert place("bowl", np.array(error)) == said


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ([1.0, 0.05, -0.5, 0, 0, 0, -1.0], "ahead down, open gripper"),
        ([-0.2, -0.2, 0.2, 1, 1, -0.3, 1.0], "back right up turn right, close gripper"),
        ([0.0, 0.0, 0.0, 0, 0, 0, 1.0], "stay, close gripper"),
    ],
)
def test_moves_are_told_by_direction(action, said):
    assert move(np.array(action)) == said


def test_names_are_those_of_the_instructions():
    names = ("akita_black_bowl_1", "plate_1", "wooden_cabinet_1_top_region", "alphabet_soup_1")
    assert [spoken(name) for name in names] == ["bowl", "plate", "cabinet", "alphabet soup"]


def test_a_camera_shows_what_is_before_it():
    camera = Camera(np.zeros(3), np.eye(3), np.pi / 2)
    points = np.array([[0.0, 0.0, -1.0], [1.0, 1.0, -1.0], [-0.5, 0.0, -1.0]])
    np.testing.assert_allclose(
        camera.project(points, 100), [[50, 50], [100, 0], [25, 50]], atol=1e-9
    )
    np.testing.assert_allclose(camera.box(points, 100), [25, 0, 100, 50], atol=1e-9)
    assert camera.box(points + np.array([5.0, 0.0, 0.0]), 100) is None
