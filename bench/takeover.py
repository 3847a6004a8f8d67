"""How soon the arm stands after the deadman is released, or the joystick is unplugged.

    python bench/takeover.py                     50 releases with twists, 50 with target poses
    python bench/takeover.py --releases 200

The limits are those of config/robots/franka.yaml. The joystick drives in random directions and lets
go at random moments, while the arm speeds up, goes or turns; in between the policy has the arm. It
is also unplugged at 200 Hz with `teleop.joy_rate_hz`, at the speeds that this allows. At the end
one JSON line: the time (s) from the release, or from the last message of a joystick that is
unplugged, to the first command that no longer moves the arm. Every command is checked against the
limits. Exit code 1 where a median is above 0.15 s, with `teleop.timeout_sec` for one that is
unplugged without a rate.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

import yaml
from support.operators import RETURN, Operated
from support.recorder import assert_commands_within_limits
from support.ros import World

from heisd_ros.robot.teleop_parameters import RELEASE_SEC

ROOT = Path(__file__).resolve().parent.parent
FRANKA = yaml.safe_load((ROOT / "config/robots/franka.yaml").read_text())["/**"]["ros__parameters"]
LIMITS = {
    name: value
    for name, value in FRANKA.items()
    if name.startswith(("command.max_linear", "command.max_angular", "command.rate_hz"))
}
TIMEOUT_SEC, JOY_HZ = 0.2, 200.0
FAST_JOYSTICK = {"teleop.joy_rate_hz": JOY_HZ, "teleop.max_angular_speed": 0.12}
AXES = (0, 1, 3, 4, 6, 7)


def stop_times(
    interface: str, unplugged: bool, promised: bool, count: int, chance: random.Random
) -> list[float]:
    """Lets go so many times; returns how long the arm went on each time, s."""
    world = World()
    parameters = {**LIMITS, "command.interface": interface, "teleop.timeout_sec": TIMEOUT_SEC}
    arm = Operated(world, parameters | (FAST_JOYSTICK if promised else {}))
    if promised:
        arm.cell.create_timer(1.0 / JOY_HZ, arm.say)
    took = []
    while len(took) < count:
        arm.joystick, arm.held, arm.axes = arm.joy, set(), [0.0] * 8
        arm.ready()
        for axis in chance.sample(AXES, chance.randint(1, 4)):
            arm.axes[axis] = chance.choice([-1.0, 1.0])
        arm.press(axis, arm.axes[axis])
        arm.wait(chance.uniform(0.0, 0.4))
        if unplugged:
            arm.joystick, since = None, time.monotonic()
        else:
            since = arm.release()
        arm.until(lambda since=since: arm.zeros(since), "a stand")
        took.append(arm.zeros(since)[0] - since)
        arm.joystick, arm.held = arm.joy, {RETURN}
        arm.policy_moves()
    world.close()
    assert_commands_within_limits(world)
    return took


def main() -> int:
    """Prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, rows, good = random.Random(given.seed), {}, True
    for interface in ("twist", "pose"):
        for unplugged, promised in ((False, False), (True, False), (True, True)):
            took = stop_times(interface, unplugged, promised, given.releases, chance)
            name = f"{interface}, joystick {'unplugged' if unplugged else 'released'}"
            name += f" at {JOY_HZ:g} Hz" if promised else ""
            rows[name] = {
                "median_sec": round(statistics.median(took), 3),
                "worst_sec": round(max(took), 3),
            }
            print(f"{name}: median {rows[name]['median_sec']}, worst {rows[name]['worst_sec']} s")
            good &= (
                rows[name]["median_sec"] <= RELEASE_SEC + (unplugged and not promised) * TIMEOUT_SEC
            )
    print(json.dumps({"releases": given.releases, "stops": rows}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
