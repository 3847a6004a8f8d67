"""`~/status`: the status as one code, published when it changes."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from heisd_ros.msg import ArmStatus
from std_srvs.srv import Trigger
from support.cell import LIMITS, Cell

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.tick_watch import RECENT, TickWatch
from heisd_ros.nodes.process import realtime
from heisd_ros.nodes.status import hold_status, limit_status
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode

MOVING, STANDING = np.full(6, 0.1), np.zeros(6)


@pytest.mark.parametrize(
    ("notes", "twist", "code"),
    [
        ({}, MOVING, ArmStatus.NO_WARNING),
        ({"singularity": "x"}, MOVING, ArmStatus.DECELERATE_FOR_APPROACHING_SINGULARITY),
        ({"singularity": "x"}, STANDING, ArmStatus.HALT_FOR_SINGULARITY),
        ({"workspace": "w", "joint_limit": "x"}, MOVING, ArmStatus.JOINT_BOUND),
        ({"speed": "s", "workspace": "x"}, STANDING, ArmStatus.WORKSPACE_BOUND),
        ({"speed": "x"}, MOVING, ArmStatus.LIMITED),
    ],
)
def test_the_gravest_limit_is_the_code_and_its_words_the_message(notes, twist, code):
    status = limit_status(notes, twist)
    assert (status.code, status.message) == (code, "x" if notes else "")


def test_a_hold_is_held_and_the_emergency_stop_has_a_code_of_its_own():
    assert hold_status(Hold(HoldReason.STALE_IMAGE, "old")).code == ArmStatus.HELD
    assert hold_status(Hold(HoldReason.ESTOP, "called")).code == ArmStatus.ESTOP


def test_the_status_follows_the_node_from_state_to_state(world):
    cell, heard = world.add(Cell, views=("image",)), []
    cell.create_subscription(ArmStatus, "/vla_node/status", heard.append, 100)
    settings = {**LIMITS, "instruction": "measure", "command.max_action_age_sec": 10.0}
    node = world.add(VlaNode, load_free, parameters=settings)

    def told(code, words=""):
        world.spin_until(
            lambda: heard and heard[-1].code == code and heard[-1].message.startswith(words),
            f"status {code} {words}",
            cell.publish,
        )

    told(ArmStatus.INACTIVE, "unconfigured")
    node.trigger_configure()
    told(ArmStatus.INACTIVE, "inactive")
    node.trigger_activate()
    world.spin_until(lambda: heard[-1].code >= 0 != ArmStatus.HELD, "work", cell.publish)
    world.call(Trigger, "/vla_node/estop")
    told(ArmStatus.ESTOP, "estop: ~/estop was called")
    world.call(Trigger, "/vla_node/reset_estop")
    told(ArmStatus.HELD, "no_instruction")
    node.trigger_deactivate()
    told(ArmStatus.INACTIVE, "inactive")


def test_late_ticks_are_counted_and_many_of_them_warned_of():
    watch, now = TickWatch(0.02, 0.5, 0.05), 0
    for number in range(RECENT):
        now += 31_000_000 if number % 10 == 3 else 20_000_000
        watch.note(now)
    assert watch.late == RECENT // 10 and watch.worst_sec == pytest.approx(0.011)
    assert watch.warning().startswith("20 of the last 199 commands came more than 10 ms late")
    for _ in range(RECENT):
        now += 29_000_000
        watch.note(now)
    assert watch.warning() == "" and watch.late == RECENT // 10


def in_a_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_a_real_time_priority_is_taken_or_refused_by_name(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    def policies():
        problem = realtime(1)
        return problem, os.sched_getscheduler(0), in_a_thread(lambda: os.sched_getscheduler(0))

    problem, own, child = in_a_thread(policies)
    if problem:
        assert "'executor.realtime_priority' is 1" in problem and own == os.SCHED_OTHER
    else:
        assert own & os.SCHED_FIFO and child == os.SCHED_OTHER
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert "Operation not permitted" in in_a_thread(lambda: realtime(50))
