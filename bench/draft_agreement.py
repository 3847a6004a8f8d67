"""How near drafts come to what the model itself says, and what redrafting saves, in plain episodes.

    python bench/draft_agreement.py --task 0 --task 1 --state 30
    python bench/draft_agreement.py --model DIR --task 2 --state 30 --json out/agreement.json

The plain loop acts. At each step after the first, the last command and the nearest entry and the
consensus of the database are compared with its tokens (`within_tolerance`). At every second one the
step is decoded again from the retrieved drafts of `heisd`, within the bounds, and of `heisd_exact`,
with redrafting and without: passes of the language model. Episodes that fail count too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from heisd_ros.decoding.acceptance import within_tolerance
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.consensus import consensus_of
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.settings import ModeSettings, SkipSettings
from heisd_ros.decoding.types import Observation, StepResult
from heisd_ros.evaluation.rollout import run_episode
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.database import Database
from heisd_ros.sim.scene import LiberoScene
from heisd_ros.vla.checkpoint_files import fingerprint


class Agreement:
    """Counts, along episodes of the plain loop, how drafts fare.

    Args:
        vla: The model.
        database: Its database.
    """

    def __init__(self, vla: VLA, database: Database) -> None:
        self._vla, self._database = vla, database
        heisd, exact = (_retrieving(load_mode(name)) for name in ("heisd", "heisd_exact"))
        self._k = heisd.retrieval.k
        self._decoders: dict[str, HybridDecoder] = {}
        for name, mode in (("bounds", heisd), ("exact", exact)):
            for redraft in (False, True):
                decoder = build_decoder(vla, replace(mode, redraft=redraft), database=database)
                assert isinstance(decoder, HybridDecoder)
                self._decoders[f"{name}{', redrafted' if redraft else ''}"] = decoder
        self.within: dict[str, list[bool]] = defaultdict(list)
        self.passes: dict[str, list[int]] = defaultdict(list)
        self._last: tuple[int, ...] | None = None
        self._step = 0

    def begin(self) -> None:
        """A new episode."""
        self._last, self._step = None, 0
        for decoder in self._decoders.values():
            decoder.reset()

    def look(self, observation: Observation, result: StepResult) -> None:
        """Takes one step of the plain loop."""
        own, last = tuple(map(int, result.tokens)), self._last
        if last is not None:
            self._compare(observation, own, last)
            if self._step % 2 == 0:
                for name, decoder in self._decoders.items():
                    # As if it had decided the step before as the plain loop did.
                    decoder._last = last
                    self.passes[name].append(decoder.infer(observation).passes)
        self._last, self._step = own, self._step + 1

    def _compare(self, observation: Observation, own: Sequence[int], last: Sequence[int]) -> None:
        shard, how = self._database.shard_for(observation.instruction)
        if shard is None:
            raise SystemExit(f"no shard: {how}")
        with torch.inference_mode():
            key = self._vla.retrieval_key(perceive(self._vla, observation).features)
        matches = shard.search(key, self._k)
        drafts = {
            "last command": last,
            "nearest entry": matches.tokens[0].tolist(),
            "consensus": consensus_of(matches.tokens),
        }
        hits = {name: within_tolerance(draft, own) for name, draft in drafts.items()}
        hits["consensus or last command"] = hits["consensus"] or hits["last command"]
        for name, hit in hits.items():
            self.within[name].append(hit)


def _retrieving(mode: ModeSettings) -> ModeSettings:
    """A mode that searches the database at every step, and verifies every step."""
    always = replace(mode.retrieval, speed=0.0)
    return replace(mode, propose="retrieval", retrieval=always, skip=SkipSettings())


def main() -> None:
    """Prints the shares and the passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=shipped_model(), help="folder with a database in it")
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--task", type=int, action="append", required=True)
    parser.add_argument("--state", type=int, action="append", required=True)
    parser.add_argument("--json", type=Path, help="file of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    vla = load_checkpoint(options.model)
    database = Database.open(Path(options.model) / "database", fingerprint(options.model))
    plain, agreement, won = AutoregressiveDecoder(vla), Agreement(vla, database), 0
    for task in options.task:
        with contextlib.closing(LiberoScene(options.suite, task)) as scene:
            for state in options.state:
                agreement.begin()
                won += run_episode(scene, plain, state, on_step=agreement.look).success
    results = {
        "suite": options.suite,
        "tasks": options.task,
        "states": options.state,
        "successes": won,
        "steps": len(agreement.within["consensus"]),
        "within_tolerance": {k: float(np.mean(v)) for k, v in agreement.within.items()},
        "passes": {k: float(np.mean(v)) for k, v in agreement.passes.items()},
    }
    print(json.dumps(results, indent=1))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
