"""A recording of demonstrations without a simulator: one text file a task, an episode a line."""

from __future__ import annotations

from heisd_ros.errors import SceneError


def record_lines(folder, task, episodes, on_episode):
    """Continues the file of a task; refuses task 9. A function that fresh processes can import."""
    if task == 9:
        raise SceneError("task 9 is no pick-and-place task")
    path = folder / f"{task}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    on_episode(len(lines))
    others = [len(p.read_text().splitlines()) for p in folder.glob("*.txt") if p != path]
    while len(lines) < episodes:
        lines.append(f"the others have {others}")
        path.write_text("\n".join(lines))
        on_episode(len(lines))
