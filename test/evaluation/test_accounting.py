import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.evaluations import episode, made_up_results, step
from support.fake_scene import REST

from heisd_ros.evaluation.accounting import episode_row, kind_of, mean_jerk, summarise
from heisd_ros.evaluation.joint_limits import panda_limits


def row(*records, **facts):
    return episode_row("heisd", episode(records, **facts))


def test_a_row_holds_its_steps_as_columns():
    found = row(
        step("skip", ms=4.123456, passes=0, similarity=0.98765, tip=(0.4321, 0.0, 0.25)),
        step("retrieval", ms=9.0, passes=2, accepted=5, metric=0.51234),
        task_index=3,
        init_state=44,
        success=False,
    )
    assert (found["mode"], found["task_index"], found["init_state"]) == ("heisd", 3, 44)
    assert (found["success"], found["steps"], found["source"]) == (False, 2, "sr")
    assert found["ms"] == [4.12, 9.0] and found["passes"] == [0, 2]
    assert found["accepted"] == [None, 5]
    assert found["similarity"] == [0.988, None] and found["metric"] == [None, 0.512]
    assert found["tip_mm"] == [[432, 0, 250], [400, 0, 300]]


def test_a_row_is_json_as_it_is():
    found = row(step("skip", settled=(3.0, np.bool_(True).item())), step(metric=0.5))
    assert json.loads(json.dumps(found)) == found


def test_parts_of_steps_add_up():
    found = row(step(ms=20.0), step(ms=40.0))
    assert found["parts_ms"] == pytest.approx({"vision": 15.0, "prefill": 45.0})


def test_reasons_are_counted_without_their_numbers():
    reasons = ["F 0.31 < 0.32", "F 0.05 < 0.32", "cadence: 2 skips, then one verification"]
    found = row(*(step(reason=reason) for reason in reasons))
    assert found["reasons"] == {"F # < #": 2, "cadence: # skips, then one verification": 1}


def test_gripper_commands_are_counted_where_their_sign_changes():
    assert row(*(step(gripper=g) for g in (-1, -0.8, 0.9, 1, 1, -1)))["gripper_steps"] == [2, 5]
    assert row(step(gripper=1))["gripper_steps"] == []


def test_arrivals_at_joint_limits_are_counted():
    _, high = panda_limits()
    assert row(step(), step(joints=np.where(np.arange(7) == 1, high, REST)))["limit_events"] == 1


tokens = st.lists(st.tuples(*[st.integers(0, 255)] * 7), min_size=1, max_size=5)


@given(tokens, tokens)
def test_episodes_share_a_digest_exactly_if_their_tokens_are_equal(one, other):
    digests = [row(*(step(tokens=t) for t in each))["tokens"] for each in (one, other)]
    assert (digests[0] == digests[1]) == (one == other)


def test_the_jerk_of_a_cubic_is_its_third_derivative():
    time = np.arange(12) / 20.0
    tips = np.stack([0.5 * time**3, time**2, 3.0 * time], axis=1)
    assert mean_jerk(tips) == pytest.approx(3.0)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_constant_acceleration_has_no_jerk(speed, acceleration):
    time = np.arange(9)[:, None] / 20.0
    assert mean_jerk(speed * time + acceleration * time**2 + np.zeros(3)) == pytest.approx(
        0, abs=1e-8
    )


def test_three_points_have_no_jerk():
    assert mean_jerk(np.random.default_rng(0).normal(size=(3, 3))) == 0.0


def test_a_summary_has_what_the_results_file_promises():
    summary = summarise([row(step(ms=10.0)), row(step(ms=30.0), step(ms=20.0), success=False)])
    assert (summary["episodes"], summary["successes"], summary["steps"]) == (2, 1, 3)
    assert summary["step_ms"]["p50"] == summary["step_ms"]["mean"] == 20.0
    assert summary["step_ms"]["p95"] == pytest.approx(29.0)
    assert summary["step_ms"]["p99"] == pytest.approx(29.8)
    assert summary["steps_per_episode"] == 1.5
    assert summary["seconds_per_episode"] == pytest.approx(0.03)
    assert set(summary) >= {"acceptance_length", "skip_rate", "passes_per_step", "gripper_flips"}
    assert set(summary) >= {"jerk", "limit_events", "success_interval", "compute_ms", "shadow"}


def test_acceptance_length_counts_steps_whose_draft_was_verified():
    summary = summarise(
        [
            row(
                step("skip", accepted=7),
                step("retrieval", accepted=4),
                step("drafter", accepted=1),
                step(),
            )
        ]
    )
    assert summary["acceptance_length"] == 2.5
    assert summary["sources"] == {
        "autoregressive": 0.25,
        "retrieval": 0.25,
        "last_command": 0.0,
        "drafter": 0.25,
        "skip": 0.25,
    }


def test_answers_of_any_length_and_kept_reasonings_are_counted():
    short = step("kept")
    long = replace(short, result=replace(short.result, tokens=tuple(range(9))))
    rows = [row(step(), long), row(long, step())]
    assert rows[0]["tokens"] != rows[1]["tokens"]
    assert summarise(rows)["sources"]["kept"] == 0.5
    assert "kept" not in summarise([row(step())])["sources"]


def test_without_drafts_there_is_no_acceptance_length():
    assert summarise([row(step())])["acceptance_length"] is None


def test_what_is_verified_in_motion_is_compute_and_not_latency():
    summary = summarise([row(step("skip", ms=4.0, settled=(12.0, False)), step("skip", ms=4.0))])
    assert summary["step_ms"]["mean"] == 4.0 and summary["compute_ms"] == 10.0
    assert summary["shadow"] == {"verified": 1, "disagreed": 1}
    assert summary["skip_rate"] == 1.0


def test_an_episode_is_charged_for_its_steps_and_for_what_is_verified_in_motion():
    """Time with shadow passes, the tip's path, and the time of motion until the goal."""
    long = row(*[step("skip", ms=4.0, settled=(12.0, True))] * 30, success=False)
    moved = row(*(step(ms=20.0, tip=(0.1 * i, 0.0, 0.3)) for i in range(11)))
    summary = summarise([long, moved])
    assert summary["compute_per_episode"] == pytest.approx((30 * 16 + 11 * 20) / 2e3)
    assert summary["seconds_per_episode"] == pytest.approx((30 * 4 + 11 * 20) / 2e3)
    assert summary["distance"] == pytest.approx(0.5)
    assert summary["seconds_to_finish"] == pytest.approx(11 / 20), "of those that succeeded"
    assert summarise([long])["seconds_to_finish"] is None


def test_no_episodes_have_a_summary_too():
    assert summarise([]) == {
        "episodes": 0,
        "successes": 0,
        "success_interval": [0.0, 1.0],
        "steps": 0,
    }


def test_shares_add_up_over_made_up_episodes():
    rows = [r for r in made_up_results().episodes if r["mode"] == "heisd"]
    summary = summarise(rows)
    assert sum(summary["sources"].values()) == pytest.approx(1.0, abs=1e-3)
    assert sum(summary["reasons"].values()) == pytest.approx(1.0, abs=1e-3)
    assert sum(summary["parts_ms"].values()) == pytest.approx(summary["step_ms"]["mean"], abs=0.01)


def test_what_weighs_in_a_reason_does_not_make_another_kind():
    one, other = (
        f"predicted: drafter {ms} ms, passes with 0.5 [{terms}]; last_command 9.0"
        for ms, terms in ((14.2, "F +0.2, speed -1.0"), (8, "missed -3.1"))
    )
    assert (
        kind_of(one) == kind_of(other) == ("predicted: drafter # ms, passes with #; last_command #")
    )
