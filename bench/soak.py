"""A soak of the VLA node: inputs at 20 Hz with random faults; commands, stops and memory watched.

    python bench/soak.py                  30 minutes
    python bench/soak.py --minutes 2 --model path/to/checkpoint
    python bench/soak.py --model tiny     a random model that costs next to nothing

Node and cell run in this process, over DDS. The simulated arm follows the commands, within limits
as of a real one. Every few seconds a fault is put in and taken out again. At the end one JSON
line: steps, holds by reason, for each fault how often it was put in and the longest time from then
to the last command that moved the arm (s), and resident memory (MiB) and the machine's load at the
end of each minute. Exit code 1 where a command was out of the limits, the arm did not stand in a
fault or did not move after it, or memory grew by more than `--max-growth-mib` since the second
minute.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from support.cell import LIMITS, ZERO, Cell
from support.mischief import Mischief
from support.recorder import assert_commands_within_limits
from support.ros import World, image, joint_state
from support.tiny_vla import save_tiny_checkpoint

from heisd_ros.control.policy import Policy, load_policy
from heisd_ros.nodes.vla_node import VlaNode

PERIOD_SEC, FAULT_SEC, HEALTHY_SEC = 0.05, (1.5, 4.0), (2.0, 6.0)
SETTLE_SEC = 1.2
"""Time after which a fault has to have stopped the arm, and the end of one to have let it go."""
SIDE = 128
MIB = 2**20


class Soak:
    """Node, cell and the faults between them."""

    def __init__(self, model: str, seed: int) -> None:
        self.dice, self.world = random.Random(seed), World()
        self.cell = self.world.add(Cell)
        self.cell.image_of = dict.fromkeys(self.cell.image_of, self._image)
        settings = {
            **LIMITS,
            "model.path": model,
            "model.threads": 1,
            "input.frozen_images": 10,
            "input.frozen_joint_states": 10,
        }
        self.node = self.world.add(VlaNode, self._load, parameters=settings)
        succeeded(self.node.trigger_configure())
        self.known = self.node._session.policy.instructions or ("pick up the bowl", "go back")
        self._instruct()
        succeeded(self.node.trigger_activate())
        self._clients = {
            name: self.cell.create_client(Trigger, f"/vla_node/{name}")
            for name in ("estop", "reset_estop")
        }
        self._good = dict(self.cell.image_of), self.cell.joints_of
        self.faults: dict[str, Callable[[], None]] = {
            "camera dies": lambda: self._camera(lambda stamp: None),
            "camera freezes": lambda: self._camera(lambda stamp: image(7, SIDE, stamp=stamp)),
            "empty picture": lambda: self._camera(lambda stamp: image(size=0, stamp=stamp)),
            "joint states die": lambda: self._joints(lambda stamp: None),
            "joint states freeze": lambda: self._joints(lambda stamp: joint_state(stamp=stamp)),
            "NaN joints": lambda: self._joints(
                lambda stamp: joint_state([math.nan] * 7, stamp=stamp)
            ),
            "model raises": lambda: setattr(self.decoder, "before", fail),
            "model gives NaN": lambda: setattr(self.decoder, "after", spoil),
            "model hangs": lambda: setattr(self.decoder, "before", lambda: time.sleep(1.5)),
            "deactivated": lambda: succeeded(self.node.trigger_deactivate()),
            "emergency stop": lambda: self.call("estop"),
        }

    def call(self, service: str) -> None:
        """Calls a service of the node without waiting: the world's loop serves it."""
        self._clients[service].call_async(Trigger.Request())

    def moves(self) -> bool:
        """Whether the node commands a motion now."""
        return self.node._control is not None and bool(self.node._control._driver.twist.any())

    def put_right(self) -> None:
        """Ends the fault, and as often as not changes the instruction."""
        self.cell.image_of, self.cell.joints_of = dict(self._good[0]), self._good[1]
        self.decoder.before, self.decoder.after = lambda: None, lambda result: None
        if self.node._control is None:
            succeeded(self.node.trigger_activate())
        if self.node._estop.latched:
            self.call("reset_estop")
            self.world.spin_until(lambda: not self.node._estop.latched, "the release")
            self._instruct()
        elif self.dice.random() < 0.5:
            self._instruct()

    def _load(self, parameters: Any) -> Policy:
        policy = load_policy(parameters)
        self.decoder = Mischief(policy.decoder)
        return replace(policy, decoder=self.decoder)

    def _instruct(self) -> None:
        text = self.dice.choice(self.known)
        self.node.set_parameters([Parameter("instruction", value=text)])

    def _image(self, stamp: Any) -> Any:
        return image(next(self.cell.shade) % 200, SIDE, stamp=stamp)

    def _camera(self, make: Callable[[Any], Any]) -> None:
        self.cell.image_of = {**self.cell.image_of, "image": make}

    def _joints(self, make: Callable[[Any], Any]) -> None:
        self.cell.joints_of = make


def fail() -> None:
    """A model out of memory."""
    raise RuntimeError("out of memory")


def spoil(result: Any) -> None:
    """A model that overflows."""
    result.action[2] = math.nan


def succeeded(result: TransitionCallbackReturn) -> None:
    """Ends the run where a transition failed."""
    if result != TransitionCallbackReturn.SUCCESS:
        raise SystemExit("a transition failed; the log says why")


def resident_mib() -> float:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


class Record:
    """Results so far; reading them empties the queues of the cell."""

    def __init__(self) -> None:
        self.holds: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.longest_stop_sec: dict[str, float] = {}
        self.out_of_limits: list[str] = []
        self.did_not_stand: list[str] = []
        self.did_not_go_on: list[str] = []
        self.memory: list[float] = []
        self.load: list[float] = []
        self.steps = 0

    def take(self, soak: Soak) -> None:
        """Checks and counts what was heard since the last call."""
        cell = soak.cell
        self.holds.update(cell.holds())
        self.steps += len(cell.steps())
        try:
            assert_commands_within_limits(soak.world)
        except AssertionError as error:
            self.out_of_limits.append(str(error))
        # The last twist stays: the next one must not jump from it.
        for record, kept in ((cell.twists, 1), (cell.heard, 1), (cell.tips, 0)):
            del record[: len(record) - kept]
        for record in (cell.telemetry, cell.grippers, cell.reports, cell.joint_states):
            record.clear()

    def failed(self, max_growth_mib: float) -> bool:
        """Whether anything was as it must not be."""
        wrong = self.out_of_limits or self.did_not_stand or self.did_not_go_on
        return bool(wrong) or self.growth_mib() > max_growth_mib

    def growth_mib(self) -> float:
        """Growth of memory since the second minute, whose beginning fills caches."""
        return self.memory[-1] - self.memory[1] if len(self.memory) > 2 else 0.0


def run(soak: Soak, minutes: float) -> Record:
    """Puts faults in and out for some minutes."""
    record, cell, dice = Record(), soak.cell, soak.dice
    began = time.monotonic()
    publish_at, change_at, changed_at, fault, last = began, began + 5.0, began, "", ""
    while (now := time.monotonic()) - began < 60.0 * minutes:
        if now >= publish_at:
            cell.publish()
            publish_at = max(publish_at + PERIOD_SEC, now)
        # Always the same timeout: with another one rclpy starts its round again, and under load the
        # last entity is never served.
        soak.world.executor.spin_once(timeout_sec=0.01)
        if fault and cell.heard and cell.heard[-1].twist != ZERO:
            taken = round(cell.heard[-1].sent - changed_at, 3)
            record.longest_stop_sec[fault] = max(record.longest_stop_sec.get(fault, 0.0), taken)
        if now >= change_at:
            moving = soak.moves()
            record.take(soak)
            if fault:
                if moving:
                    record.did_not_stand.append(fault)
                soak.put_right()
                fault, last = "", fault
            else:
                if not moving:
                    record.did_not_go_on.append(last)
                fault = dice.choice(list(soak.faults))
                record.faults[fault] += 1
                soak.faults[fault]()
            changed_at = time.monotonic()
            change_at = changed_at + SETTLE_SEC
            change_at += dice.uniform(*(FAULT_SEC if fault else HEALTHY_SEC))
        if now - began >= 60.0 * (len(record.memory) + 1):
            record.memory.append(round(resident_mib(), 1))
            record.load.append(round(os.getloadavg()[0], 1))
            words = f"{len(record.memory)} min, {record.memory[-1]} MiB, {record.steps} steps"
            print(words, file=sys.stderr)
    record.take(soak)
    return record


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="", help="folder of a checkpoint; none: the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-growth-mib", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny = arguments.model == "tiny"
        model = str(save_tiny_checkpoint(Path(folder))) if tiny else arguments.model
        soak = Soak(model, arguments.seed)
        try:
            record = run(soak, arguments.minutes)
        finally:
            soak.world.close()
    about = {"minutes": arguments.minutes, "model": arguments.model or "shipped"}
    print(json.dumps({**about, **vars(record)}))
    return int(record.failed(arguments.max_growth_mib))


if __name__ == "__main__":
    raise SystemExit(main())
