"""A source whose episodes are in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.cell_bags import ARM
from support.episodes import VIEWS, episode

from heisd_ros.data.read_report import Outline, ReadReport
from heisd_ros.data.source import whole


class MemorySource:
    """See `heisd_ros.data.source.Source`."""

    def __init__(self, episodes, label="memory", robot="panda", rate_hz=20.0, cameras=VIEWS):
        self.label, self.robot, self.rate_hz, self.cameras = label, robot, rate_hz, cameras
        self.arm, self.report, self.episodes = ARM, ReadReport(), list(episodes)

    def outline(self):
        return [
            Outline(e.instruction, len(e), e.init_state, outcome=e.outcome) for e in self.episodes
        ]

    def episode(self, number, views, prepare=whole):
        found = self.episodes[number]
        pictures = dict(zip(views, found.images.values(), strict=False))
        prepared = {view: np.stack([prepare(p) for p in rows]) for view, rows in pictures.items()}
        return replace(found, images=prepared)


def smooth(steps=6, seed=0, size=64, **changes):
    """An episode whose pictures a video keeps: they differ in their shades."""
    shades = 20 + (np.arange(steps) * 9 + seed * 30) % 200
    pictures = {
        view: np.broadcast_to(
            (shades[:, None, None, None] + 20 * place).astype(np.uint8), (steps, size, size, 3)
        )
        for place, view in enumerate(VIEWS)
    }
    return episode(steps, seed, **({"images": pictures} | changes))
