"""How soon the node stops the arm after each fault, and whether each command kept its limits.

    python bench/faults.py                     the table: each fault 20 times
    python bench/faults.py --busy              the same while every core is busy
    python bench/faults.py --commands 20000    faults at random until so many commands are checked
    python bench/faults.py --interface pose    twist (default), pose or delta

The node is a process of its own with the values of config/robots/franka.yaml and a policy that
costs nothing and leads the tip in circles. At the end one JSON line: by fault the time (s) from the
fault to the last command that moved the arm, median and worst; how many commands were checked, and
what was wrong with them. Exit code 1 where a command was out of the limits or the arm went on.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

import numpy as np
import yaml
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.cell import ZERO, Cell
from support.fake_scene import REST
from support.process import launch
from support.recorder import assert_commands_within_limits
from support.ros import World, image, joint_state

from heisd_ros.decoding.types import StepResult
from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.tools.bench_policy import FreeDecoder, load_free
from heisd_ros.nodes.vla_node import VlaNode, run

ROOT = Path(__file__).resolve().parent.parent
FRANKA = yaml.safe_load((ROOT / "config/robots/franka.yaml").read_text())["/**"]["ros__parameters"]
ORDERS = "FAULTS_ORDERS"
"""Environment variable with the file that says what the policy is to do."""
OLD_SEC = 3
CENTRE, RADIUS_M = np.array([0.4583, 0.0, 0.25]), 0.06
SETTLE_SEC, STAND_SEC, PATIENCE_SEC = 0.3, 0.6, 20.0
"""How long the arm moves before a fault, how long it has to stand, and the longest wait."""


class Ordered(FreeDecoder):
    """A policy that moves as it is told, raises, hangs or gives what is no number."""

    def infer(self, observation: Any) -> StepResult:
        """A step."""
        orders = json.loads(Path(os.environ[ORDERS]).read_text())
        if orders["word"] == "raise":
            raise RuntimeError("out of memory")
        if orders["word"] == "hang":
            time.sleep(1.0)
        result = super().infer(observation)
        result.action[:] = *orders["motion"], -1.0
        if orders["word"] == "nan":
            result.action[0] = math.nan
        return result


def older(message: Any) -> Any:
    """A message as a pipeline that is 3 s late gives it."""
    stamp = message.header.stamp
    message.header.stamp = Time(sec=stamp.sec - OLD_SEC, nanosec=stamp.nanosec)
    return message


class Drive:
    """The node, the cell that it moves, and the faults between them."""

    def __init__(self, interface: str, orders: Path) -> None:
        self.orders, self.world, self.interface = orders, World(), interface
        self.cell = self.world.add(Cell, views=("image",))
        self._good = dict(self.cell.image_of), self.cell.joints_of
        os.environ[ORDERS] = str(orders)
        settings = {
            name: value
            for name, value in FRANKA.items()
            if name.split(".")[0] not in ("robot", "topics", "recording")
        }
        settings |= {"dry_run": False, "autostart": True, "instruction": "move"}
        settings |= {"command.interface": interface, "gripper.action": ""}
        self._order("move")
        given = {name: json.dumps(value) for name, value in settings.items()}
        self.process = launch(self.world, "bench.faults", **given)
        # Unread output would fill the pipe, and block the node.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.world.launched[:] = [settings]
        self._clients = {
            name: self.cell.create_client(Trigger, f"/vla_node/{name}")
            for name in ("estop", "reset_estop")
        }
        self._lifecycle = self.cell.create_client(ChangeState, "/vla_node/change_state")
        good_image, good_joints = self._good[0]["image"], self._good[1]
        camera, joints = self._camera, self._joints
        self.faults: dict[str, Callable[[], None]] = {
            "camera dies": lambda: camera(lambda stamp: None),
            "camera freezes": lambda: camera(lambda stamp: image(7, stamp=stamp)),
            "empty picture": lambda: camera(lambda stamp: image(size=0, stamp=stamp)),
            "pictures 3 s old": lambda: camera(lambda stamp: older(good_image(stamp))),
            "joint states die": lambda: joints(lambda stamp: None),
            "joint states freeze": lambda: self._freeze(slice(None)),
            "one joint freezes": lambda: self._freeze(slice(1, 2)),
            "NaN joints": lambda: joints(lambda stamp: joint_state([math.nan] * 7, stamp=stamp)),
            "joints in degrees": lambda: joints(self._degrees),
            "joint states 3 s old": lambda: joints(lambda stamp: older(good_joints(stamp))),
            "model raises": lambda: self._order("raise"),
            "model gives NaN": lambda: self._order("nan"),
            "model hangs": lambda: self._order("hang"),
            "no instruction": lambda: self.cell.instruction.publish(String(data="")),
            "emergency stop": lambda: self._call("estop"),
        }

    def wait(self, until: Callable[[], bool], seconds: float = PATIENCE_SEC) -> bool:
        """Lets node and cell live until something is so; False: it was not within the time."""
        deadline = time.monotonic() + seconds
        self.world.spin_until(lambda: until() or time.monotonic() > deadline, "a fault", self._live)
        return until()

    def put_right(self) -> None:
        """Ends the fault, and waits until the arm has moved for a while again."""
        self.cell.image_of, self.cell.joints_of = dict(self._good[0]), self._good[1]
        self._order("move")
        self._call("reset_estop")
        if self.interface != "pose":
            # Where the encoders lied, the arm may be anywhere; a held one is put back by hand.
            self.cell._q = REST.copy()
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            # Encoders that stood still are believed again after an activation.
            request = ChangeState.Request(transition=Transition(id=transition))
            done = self._lifecycle.call_async(request)
            self.wait(done.done)
        self.cell.instruction.publish(String(data="move"))
        if not self.wait(self.moving):
            said = self.cell.telemetry
            raise SystemExit(f"the arm does not move: {said[-1].reason if said else 'no node'}")

    def moving(self) -> bool:
        """Whether every command of the last moments moved the arm."""
        since = time.monotonic() - SETTLE_SEC
        heard = [each.twist != ZERO for each in self.cell.heard if each.received > since]
        return len(heard) > SETTLE_SEC * 10.0 and all(heard)

    def stop_sec(self, fault: str) -> float:
        """Puts a fault in; s to the last command that moved the arm, infinite: it moves on."""
        cell, began = self.cell, time.monotonic()
        self.faults[fault]()
        stood = self.wait(lambda: self._quiet(STAND_SEC, began))
        if not stood:
            return math.inf
        return max([h.received - began for h in cell.heard if h.twist != ZERO] or [0.0])

    def take(self) -> tuple[int, list[str]]:
        """Checks the commands since the last call and forgets all but the newest of them."""
        cell, wrong = self.cell, []
        count = len(cell.heard)
        try:
            assert_commands_within_limits(self.world)
        except AssertionError as error:
            wrong.append(str(error).splitlines()[0])
        for record, kept in (
            (cell.twists, 3),
            (cell.poses, 3),
            (cell.deltas, 3),
            (cell.heard, 1),
            (cell.tips, 0),
            (cell.telemetry, 1),
            (cell.joint_states, 100),
            (cell.reports, 0),
            (cell.grippers, 0),
        ):
            del record[: max(len(record) - kept, 0)]
        return count - len(cell.heard), wrong

    def close(self) -> None:
        """Ends the node and the world."""
        self.process.terminate()
        self.process.wait(20.0)
        self.world.close()

    def _quiet(self, seconds: float, since: float) -> bool:
        """Whether no command has moved the arm for some seconds."""
        now, last = time.monotonic(), since
        for heard in reversed(self.cell.heard):
            if heard.twist != ZERO:
                last = max(last, heard.received)
                break
        return now - last > seconds

    def _camera(self, make: Callable[[Time], Any]) -> None:
        self.cell.image_of = {"image": make}

    def _joints(self, make: Callable[[Time], Any]) -> None:
        self.cell.joints_of = make

    def _freeze(self, joints: slice) -> None:
        good, held = self._good[1], np.array(self._good[1](Time()).position)

        def make(stamp: Time) -> Any:
            message = good(stamp)
            positions = np.array(message.position)
            positions[joints] = held[joints]
            message.position = positions.tolist()
            return message

        self._joints(make)

    def _degrees(self, stamp: Time) -> Any:
        message = self._good[1](stamp)
        message.position = np.degrees(message.position).tolist()
        return message

    def _live(self) -> None:
        """Publishes an observation, and leads the tip around where it began."""
        self.cell.publish()
        self._order(self._word)

    def _order(self, word: str) -> None:
        self._word = word
        off = (self.cell.tips[-1] if self.cell.tips else CENTRE) - CENTRE
        around = np.cross([1.0, 0.0, 0.0], off) / (np.linalg.norm(off) + 1e-9)
        aim = around + off * (1.0 / (np.linalg.norm(off) + 1e-9) - 1.0 / RADIUS_M)
        aim = np.clip(aim, -1.0, 1.0)
        turn = [0.05 * math.sin(time.monotonic()), 0.0, 0.0]
        fresh = self.orders.with_suffix(".new")
        fresh.write_text(json.dumps({"word": word, "motion": [*aim, *turn]}))
        fresh.replace(self.orders)

    def _call(self, service: str) -> None:
        self._clients[service].call_async(Trigger.Request())


def burn() -> None:
    """Keeps a core busy."""
    while True:
        math.sqrt(2.0)


def table(drive: Drive, faults: list[str], repeats: int) -> dict[str, Any]:
    """Each fault some times; by fault the median and the worst time, s."""
    rows, checked, wrong = {}, 0, []
    for fault in faults:
        seconds = []
        for _ in range(repeats):
            drive.put_right()
            seconds.append(drive.stop_sec(fault))
            count, problems = drive.take()
            checked, wrong = checked + count, wrong + problems
        rows[fault] = {"p50": round(statistics.median(seconds), 3), "worst": round(max(seconds), 3)}
        print(f"{fault:24} {rows[fault]}", file=sys.stderr)
    return {"faults": rows, "commands": checked, "wrong": wrong}


def random_faults(drive: Drive, commands: int, dice: random.Random) -> dict[str, Any]:
    """Faults at random until so many commands were checked."""
    counts, checked, wrong, moved_on = dict.fromkeys(drive.faults, 0), 0, [], []
    while checked < commands:
        drive.put_right()
        drive.wait(lambda: False, dice.uniform(1.0, 6.0))
        fault = dice.choice(list(drive.faults))
        counts[fault] += 1
        if not math.isfinite(drive.stop_sec(fault)):
            moved_on.append(fault)
        count, problems = drive.take()
        checked, wrong = checked + count, wrong + problems
        print(f"{checked} commands, {len(wrong)} wrong", file=sys.stderr)
    return {"faults": counts, "commands": checked, "wrong": wrong, "did_not_stand": moved_on}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interface", choices=("twist", "pose", "delta"), default="twist")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="faults of the table, else all")
    parser.add_argument("--busy", action="store_true", help="a busy process for every core")
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    burners = [
        multiprocessing.Process(target=burn, daemon=True)
        for _ in range(os.cpu_count() or 1)
        if arguments.busy
    ]
    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(arguments.interface, Path(folder) / "orders")
        try:
            drive.wait(drive.moving)
            for burner in burners:
                burner.start()
            if arguments.commands:
                result = random_faults(drive, arguments.commands, random.Random(arguments.seed))
            else:
                result = table(drive, arguments.only or list(drive.faults), arguments.repeats)
        finally:
            drive.close()
            for burner in burners:
                burner.kill()
    print(json.dumps({**vars(arguments), **result}))
    stood = not result.get("did_not_stand") and "Infinity" not in json.dumps(result["faults"])
    return int(bool(result["wrong"]) or not stood)


def node() -> int:
    """The node's process."""
    return run_node(lambda: VlaNode(lambda p: replace(load_free(p), decoder=Ordered())), run, None)


if __name__ == "__main__":
    raise SystemExit(node() if "--ros-args" in sys.argv else main())
