"""What is shown of a step: telemetry of this and of other versions, and rows of results."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from support.evaluations import step
from support.replay_bags import telemetry

from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.accounting import step_columns
from heisd_ros.view.moment import LONGEST, PARTS, of_row, of_telemetry


def message(**changes):
    found = telemetry(0, np.zeros(7))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_step_says_who_decided_why_and_how_long_it_took():
    found = message(source="skip", step=7, reason="F 0.8 >= 0.6", instruction="pick it up")
    found.metric.value, found.metric.boundary, found.latency.total = 0.8, 0.6, 12.5
    found.twist, found.similarity, found.corrected = np.array([0.3, 0.4, 0, 0, 0, 2.0]), 0.9, True
    moment = of_telemetry(found)
    assert (moment.label, moment.colour) == (Source.SKIP.label, (0, 158, 115))
    text = "\n".join(moment.lines())
    for part in ("pick it up", "F 0.8 >= 0.6", "boundary 0.60", "12.5 ms", "0.500 m/s"):
        assert part in text
    assert "the model disagreed with the step before" in text
    assert moment.headline() == "retrieval, skipped verification, step 7, F 0.80, 12 ms"
    assert set(moment.latency_ms) == set(PARTS)


def test_a_hold_has_its_reason_and_no_latency():
    moment = of_telemetry(message(hold=True, source="hold", reason="stale_image: wrist"))
    assert moment.held and moment.latency_ms == {}
    assert "arm: held: stale_image: wrist" in moment.lines()
    assert moment.headline() == "HOLD stale_image: wrist"


def test_a_person_who_commands_and_what_a_model_says_are_shown():
    moment = of_telemetry(message(commander="person", disagreement=0.25, reasoning="PLAN: grasp"))
    text = "\n".join(moment.lines())
    assert "commands: person, the policy disagrees by 0.25" in text
    assert "reasoning: PLAN: grasp" in text
    assert "commands: policy" in of_telemetry(message()).lines()


def test_telemetry_of_another_version_may_lack_fields_and_know_other_sources():
    old = SimpleNamespace(
        header=SimpleNamespace(frame_id=""), hold=False, source="oracle", step=1, reason=""
    )
    moment = of_telemetry(old)
    assert math.isnan(moment.metric) and moment.twist is None and moment.latency_ms == {}
    assert (moment.label, moment.colour) == ("oracle", (255, 255, 255))


@pytest.mark.parametrize("twist", [[math.nan] * 6, [1.0], [math.inf] + [0.0] * 5])
def test_a_command_that_is_no_motion_is_not_drawn(twist):
    assert of_telemetry(message(twist=np.array(twist))).twist is None


def test_a_long_text_is_cut():
    moment = of_telemetry(message(reason="x" * 10_000, reasoning="y" * 10_000))
    assert max(map(len, moment.lines())) <= LONGEST


def test_a_row_is_read_step_by_step():
    records = [step("retrieval", accepted=5, metric=0.7, similarity=0.95), step(ms=9.0)]
    row = {**step_columns(records, [False, False]), "suite": "libero_spatial", "task_index": 3}
    first, second = (of_row(row, index, boundary=0.5) for index in range(2))
    assert (first.source, first.accepted, first.boundary) == (Source.RETRIEVAL, 5, 0.5)
    assert (first.metric, first.similarity) == (0.7, 0.95)
    assert math.isnan(second.metric) and second.latency_ms == {"total": 9.0}
    assert "instruction: task 3 of libero_spatial" in first.lines()
