"""An episode of the shipped `heisd` where it once failed every time; the whole run is by hand.

States 41 and 44 of task 6 were lost three times of three by settings that let relaxed drafts hold
the arm and that skipped without an end, and never by the plain loop (docs/results.md).
"""

from __future__ import annotations

import pytest
import torch

from heisd_ros.evaluation.setup import Parts, Setup
from heisd_ros.evaluation.side_by_side import SideBySide
from heisd_ros.evaluation.starts import Start
from heisd_ros.models import shipped_model

pytest.importorskip("libero", reason="LIBERO is not installed")


@pytest.mark.slow
def test_the_task_that_was_lost_is_solved():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them wait for one another beside other tests
    folder = shipped_model()
    place = (str(folder), ("heisd",), str(folder / "database"), str(folder / "drafter"))
    parts = Parts(Setup("libero_spatial", *place))
    side_by_side, scene = SideBySide.load(parts), parts.scene(6)
    try:
        for state in (41, 44):  # one that is solved is enough
            [row] = side_by_side.run(scene, Start(6, state))
            assert {"l", "r"} <= set(row["source"]), "it drafts"
            if row["success"]:
                break
    finally:
        scene.close()
        torch.set_num_threads(threads)
    assert row["success"], row["reasons"]
