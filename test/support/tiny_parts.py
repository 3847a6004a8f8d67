"""What modes need beside a tiny checkpoint: a database and a drafter, of random content."""

from __future__ import annotations

import torch
from support.database import entries, write_small

from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.kinematics.metric import MetricBounds, MetricSettings
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.drafter import Drafter, save_drafter

BOUNDS = {
    kind: MetricBounds(MetricSettings(kind=kind), (0.0, 1.0), (0.0, 0.2), (0.0, 0.3), 0.3)
    for kind in ("paper", "speed")
}


def save_tiny_parts(checkpoint, **changes):
    """Writes ``database`` and ``drafter`` into the folder of a tiny checkpoint."""
    vla, model = load_checkpoint(checkpoint), fingerprint(checkpoint)
    config = vla.config
    size = len(config.views) * sum(tower.width for tower in config.towers)
    shards = {
        text: entries(seed=i, first=10 * i, size=size) for i, text in enumerate(config.instructions)
    }
    write_small(checkpoint / "database", shards, size, model=model, bounds=BOUNDS, **changes)
    torch.manual_seed(0)
    save_drafter(checkpoint / "drafter", Drafter.of(vla), model)
