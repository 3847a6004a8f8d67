"""States on disk: saved ones are restored; damaged ones and those of other runs are refused."""

from __future__ import annotations

import pytest
import torch

from heisd_ros.errors import CheckpointError
from heisd_ros.training.state import resume_state, save_state

CPU = torch.device("cpu")
LAYOUT = {"config": {"width": 4, "towers": ({"depth": 2},)}, "prompts": [("pick", [1, 2])]}


@pytest.fixture
def path(tmp_path):
    save_state(tmp_path / "state.pt", LAYOUT, {"weights": torch.arange(4.0), "rows": [(10, 0.5)]})
    return tmp_path / "state.pt"


def resume(path, layout=LAYOUT, restore=lambda state: None):
    return resume_state(path, layout, CPU, restore)


def test_what_is_saved_is_restored(path):
    states = []
    assert resume(path, restore=states.append)
    (state,) = states
    assert torch.equal(state["weights"], torch.arange(4.0))
    assert state["rows"] == [(10, 0.5)]


def test_without_a_file_there_is_nothing_to_restore(tmp_path):
    assert not resume(tmp_path / "state.pt", restore=lambda state: pytest.fail("nothing is there"))


def test_a_state_replaces_the_one_before_and_leaves_nothing_else(path):
    save_state(path, LAYOUT, {"weights": torch.zeros(1)})
    states = []
    resume(path, restore=states.append)
    assert states[0]["weights"].shape == (1,)
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (LAYOUT | {"config": {"width": 8, "towers": ({"depth": 2},)}}, "config.width"),
        (LAYOUT | {"config": {"width": 4, "towers": ()}}, "config.towers"),
        (LAYOUT | {"config": {"width": 4}}, "config.towers"),
        (LAYOUT | {"config": None}, "config"),
        (LAYOUT | {"prompts": [("pick", [1, 3])]}, "prompts"),
        ({"config": {"width": 8, "towers": ({"depth": 2},)}}, "config.width, prompts"),
        (LAYOUT | {"size": 1}, "size"),
    ],
)
def test_another_layout_is_refused_and_what_differs_is_named(path, layout, names):
    with pytest.raises(CheckpointError, match=rf"state.pt is .*differs in {names}; give a new"):
        resume(path, layout, lambda state: pytest.fail("the state must not be touched"))


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_damaged_file_is_refused(path, content):
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(CheckpointError, match=r"state.pt holds no state of a run: .*give a new"):
        resume(path)


@pytest.mark.parametrize("state", [{"weights": torch.zeros(2)}, [1]])
def test_a_state_that_names_no_layout_is_refused(path, state):
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"state.pt holds no state of a run"):
        resume(path)


def test_tensors_of_other_shapes_are_refused(path):
    module = torch.nn.Linear(3, 3)
    with pytest.raises(CheckpointError, match=r"state.pt does not fit this run: .*bias"):
        resume(path, restore=lambda state: module.load_state_dict({"weight": state["weights"]}))
