"""A node whose model runs behind a server: every fault of server and network stops the arm by name.

The arm moves whenever a fault begins, and is moved again once it is over. Over real DDS, with a
real server; see `test_faults.py` for how the time to a stop is counted.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from support.cell import ZERO
from support.drive import SETTINGS, drives
from support.mischief import Hang, Mischief
from support.serving import Network, serving, serving_policy

from heisd_ros.control.policy import load_policy
from heisd_ros.control.remote_policy import layout_of
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving import remote

LIMIT_SEC = 0.3
BUDGET_SEC = 1.5
"""The node's patience is twice that, so `over_budget` lasts longer than a period of diagnostics."""


class Box:
    """The machine with the model: a server that can be ended and begun, and the way to it."""

    def __init__(self, checkpoint):
        self.policy = load_policy(
            from_values(VlaNodeParameters, {"model.path": str(checkpoint), "model.threads": 1})
        )
        self.decoder = Mischief(self.policy.decoder)
        self._running = ExitStack()
        self.server = self._running.enter_context(serving_policy(self.policy, self.decoder))
        self.network = Network(self.server.port)

    def end(self):
        self._running.close()

    def begin(self, model="of the test"):
        layout = layout_of(self.policy, "ar", model)
        port, plain = self.server.port, self.policy.plain
        running = serving(self.decoder, layout, plain=plain, port=port)
        self.server = self._running.enter_context(running)

    def close(self):
        self.network.close()
        self.end()


@pytest.fixture
def box(checkpoint):
    box = Box(checkpoint)
    yield box
    box.close()


@pytest.fixture
def start(world, box, record_property):
    """Starts a cell whose arm the served model moves."""
    yield from drives(world, box.network.uri, record_property)


def stays(drive, seconds=1.0):
    """Nothing moves the arm for some time."""
    at = len(drive.cell.heard)
    drive.wait(seconds)
    assert all(heard.twist == ZERO for heard in drive.cell.heard[at:])


def test_a_server_that_ends_and_another_model_in_its_place(start, box):
    drive, since = start(), time.monotonic()
    assert drive.cell.steps()[-1].tokens, "what decided comes through"
    box.end()
    drive.stands("model_away", since, time.monotonic)
    box.begin("another model")
    drive.until(lambda: drive.cell.named("another model"), "the diagnostic")
    stays(drive)
    box.end()
    box.begin()
    drive.goes_on()


def test_a_server_that_hangs(start, box):
    drive, since = start({"model.budget_sec": BUDGET_SEC}), time.monotonic()
    hang = box.decoder.before = Hang(60.0)
    drive.until(hang.begun.is_set, "the hang")
    began = time.monotonic()
    drive.stands("over_budget", since, lambda: began + BUDGET_SEC)
    drive.until(lambda: drive.cell.named("model_away"), "the end of patience")
    stays(drive)
    box.decoder.before = lambda: None
    hang.release()
    drive.goes_on()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("model.budget_sec", "over_budget"), ("command.max_action_age_sec", "action_too_old")],
)
def test_a_server_that_is_slow_for_a_while(start, box, limit, reason, monkeypatch):
    monkeypatch.setattr(remote, "LEAST_SEC", 5.0)  # slow is not lost, on a busy machine either
    drive, since = start({limit: LIMIT_SEC}), time.monotonic()
    box.decoder.before = lambda: time.sleep(1.5 * LIMIT_SEC)
    drive.stands(reason, since, time.monotonic)
    stays(drive, 1.5)  # answers come meanwhile, each too late
    assert not drive.cell.named("model_away")
    box.decoder.before = lambda: None
    drive.goes_on()


@pytest.mark.parametrize("stall", [False, True], ids=["reset", "silence"])
def test_a_network_that_is_cut_within_an_answer(start, box, stall):
    drive, since = start({"model.budget_sec": BUDGET_SEC}), time.monotonic()
    box.network.stall, box.network.left = stall, 40
    drive.until(lambda: box.network.left == 0, "the cut")
    cut = time.monotonic()
    reason, limit = ("over_budget", BUDGET_SEC) if stall else ("model_away", 0.0)
    drive.stands(reason, since, lambda: cut + limit)
    stays(drive)
    box.network.left = None
    drive.goes_on()


def test_a_second_node_is_refused_by_name(start, world, box):
    drive = start()
    settings = {"model.path": box.network.uri, **SETTINGS}
    second = world.add(VlaNode, parameters=settings, namespace="second")
    assert second.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert any("refused: busy" in line for line in box.server.lines)
    drive.goes_on()
