from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.skipping import CLOSED, OPEN, calibration, matches, tried

from heisd_ros.decoding.settings import SkipSettings
from heisd_ros.decoding.skip import SkipContext, SkipGate, dispersion
from heisd_ros.errors import CalibrationError

GOOD = SkipContext(retrieval_zone=True, gripper=OPEN)


def gate(policy="calibrated", calibrated=None, seed=0, **settings):
    if policy == "calibrated" and calibrated is None:
        calibrated = calibration()
    values = {"shadow_share": 0.0} | settings
    return SkipGate(SkipSettings(policy=policy, **values), calibrated, seed)


def skips(gate, number, entries=None, context=GOOD):
    entries = matches() if entries is None else entries
    return [gate.decide(entries, context).skip for _ in range(number)]


def test_dispersion_is_the_greatest_deviation_of_a_motion_token():
    tokens = np.full((4, 7), 300)
    tokens[:, 2] += [3, -3, 3, -3]
    tokens[:, 4] += [1, 1, -1, -1]
    tokens[:, 6] += [100, 0, 0, 0]
    assert dispersion(tokens) == 3.0
    assert dispersion(tokens[:1]) == 0.0


def test_a_calibrated_gate_skips_where_all_conditions_hold():
    decision = gate().decide(matches(), GOOD)
    assert decision.skip and not decision.shadow
    assert decision.reason == "skip: similarity 0.950 >= 0.800, dispersion 1.8 <= 20.0"


@pytest.mark.parametrize(
    ("entries", "context", "reason"),
    [
        (matches(similarity=0.79), GOOD, "similarity 0.790 < 0.800"),
        (matches(similarity=np.nan), GOOD, "similarity nan"),
        (matches(spread=30), GOOD, "dispersion 26.8 > 20.0"),
        (matches(grippers=(OPEN, OPEN, OPEN, OPEN, CLOSED)), GOOD, "grippers differ"),
        (matches(grippers=(CLOSED,) * 5), GOOD, "gripper changes"),
        (matches(), dataclasses.replace(GOOD, gripper=None), "no gripper command yet"),
        (matches(), dataclasses.replace(GOOD, retrieval_zone=False), "slow or curved"),
        (matches(), dataclasses.replace(GOOD, clearance=3.0), "gripper changes in 3 steps or less"),
        (matches(), dataclasses.replace(GOOD, speed=0.05), "0.050 m/s < 0.1"),
        (matches(), dataclasses.replace(GOOD, speed=np.nan), "nan m/s < 0.1"),
        (matches(grippers=(OPEN,) * 4), GOOD, "4 entries retrieved, calibrated were 5"),
        (matches(grippers=()), GOOD, "nothing was retrieved"),
    ],
)
def test_each_condition_alone_forbids_it(entries, context, reason):
    decision = gate(clearance=10, speed=0.1).decide(entries, context)
    assert not decision.skip and not decision.shadow
    assert decision.reason.startswith("no skip: ") and reason in decision.reason


def test_a_clearance_that_is_just_reached_is_enough():
    for clearance, skipped in ((10.0, True), (9.0, False)):
        context = dataclasses.replace(GOOD, clearance=clearance)
        assert skips(gate(clearance=10), 1, context=context) == [skipped]


steps = st.lists(
    st.tuples(
        st.floats(0.7, 1.0),
        st.integers(0, 40),
        st.sampled_from([(OPEN,) * 5, (CLOSED,) * 5, (OPEN,) * 4 + (CLOSED,)]),
        st.booleans(),
        st.sampled_from([OPEN, CLOSED, None]),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 4), st.sampled_from(["calibrated", "threshold"]))
def test_no_skip_without_all_conditions_and_never_too_many_in_a_row(sequence, most, policy):
    judge = gate(
        policy,
        calibration(max_consecutive=4),
        max_consecutive=most,
        similarity=0.8,
        dispersion=20.0,
    )
    run = 0
    for similarity, spread, grippers, zone, gripper in sequence:
        entries = matches(similarity, spread, grippers)
        holds = (
            zone
            and len(set(grippers)) == 1
            and grippers[0] == gripper
            and float(entries.similarity[0]) >= 0.8
            and dispersion(entries.tokens) <= 20.0
        )
        decision = judge.decide(entries, SkipContext(zone, gripper))
        assert decision.skip == (holds and run < most)
        run = run + 1 if decision.skip else 0


def test_a_step_that_the_gate_was_not_asked_about_ends_a_run_of_skips():
    judge = gate()
    assert skips(judge, 2) == [True, True]
    judge.note_verified()
    assert skips(judge, 3) == [True, True, False]


def test_an_episodes_end_ends_a_run_of_skips():
    judge = gate()
    skips(judge, 2)
    judge.reset()
    assert skips(judge, 3) == [True, True, False]


def test_without_a_calibration_nothing_is_skipped_and_the_reason_says_so():
    judge = SkipGate(SkipSettings(policy="calibrated"))
    decision = judge.decide(matches(), GOOD)
    assert not decision.skip
    assert decision.reason == "no skip: no calibration; run `heisd calibrate DATABASE`"
    judge.reset(True)
    assert judge.setting is None and judge.alarm == ""
    assert judge.warning == "nothing is skipped: no calibration; run `heisd calibrate DATABASE`"


def test_a_calibration_that_found_nothing_skips_nothing():
    judge = gate(calibrated=calibration(chosen=None), feedback=True)
    judge.reset(True)
    assert "keeps the risk of 5.0%" in judge.decide(matches(), GOOD).reason
    assert skips(judge, 5) == [False] * 5
    assert "keeps the risk of 5.0%" in judge.warning


def test_more_skips_in_a_row_than_calibrated_are_refused():
    with pytest.raises(CalibrationError, match=r"max_consecutive is 3, calibrated were 2"):
        gate(max_consecutive=3)
    assert skips(gate(max_consecutive=1), 3) == [True, False, True]


@pytest.mark.parametrize(
    ("chosen", "most", "run"), [(1, 10, 3), (2, 10, 10), (2, 9, 3), (0, 10, 1), (2, 2, 1)]
)
def test_a_path_of_runs_lets_no_more_in_a_row_than_was_shown(chosen, most, run):
    """Of the run lengths up to the chosen one the longest that the mode allows."""
    same = {"similarity": (0.8,) * 3, "dispersion": (20.0,) * 3}
    path = calibration(**same, runs=(1, 3, 10), chosen=chosen, max_consecutive=10)
    found = skips(gate(calibrated=path, max_consecutive=most), 3 * run + 3)
    assert found == ([True] * run + [False]) * 3


def test_skips_nearer_to_a_grasp_than_calibrated_are_refused():
    with pytest.raises(CalibrationError, match=r"clearance is 9, calibrated were 10"):
        gate(calibrated=calibration(clearance=10), clearance=9)
    assert skips(gate(calibrated=calibration(clearance=10), clearance=12), 1) == [True]
    with pytest.raises(CalibrationError, match=r"speed is 0\.1, calibrated were 0\.12 m/s"):
        gate(calibrated=calibration(speed=0.12), speed=0.1)
    assert skips(gate(calibrated=calibration(speed=0.12), speed=0.2), 1) == [True]


def test_an_entry_is_executed_without_verification_once_an_episode_where_the_mode_says_so():
    """An arm whose nearest demonstrated frame stays the same makes no progress."""
    judge = gate(once=True)
    assert skips(judge, 3) == [True, False, False]
    decision = judge.decide(matches(), GOOD)
    assert decision.reason == "no skip: no progress: the entry was executed before"
    later = dataclasses.replace(matches(), steps=np.full(5, 1))
    assert skips(judge, 1, later) == [True]
    judge.note_verified()
    assert skips(judge, 1) == [False], "coming back to an entry is no progress either"
    judge.reset()
    assert skips(judge, 1) == [True]
    assert skips(gate(once=False), 2) == [True, True]


def test_a_task_has_a_gate_of_its_own():
    """Shadow checks of one task shorten its runs, then end its skipping; the others skip on."""
    task, other = (dataclasses.replace(GOOD, task=name) for name in ("task", "other"))
    judge = gate(calibrated=calibration(tried=(tried(disagreement=0.5),) * 3))

    def episode(context, agreed):
        judge.decide(matches(), context)
        judge.observe_shadow(agreed)
        judge.reset(True)

    def runs(context):
        judge.note_verified()
        return skips(judge, 3, context=context)

    for _ in range(6):
        episode(task, agreed=False)
        episode(other, agreed=True)
    assert runs(other) == [True, True, False] and runs(task) == [True, False, True]
    for _ in range(6):
        episode(task, agreed=False)
        episode(other, agreed=True)
    assert runs(other) == [True, True, False] and runs(task) == [False] * 3
    assert "skipping in 'task' is off" in judge.alarm and judge.warning == judge.alarm


def test_a_task_that_the_calibration_refuses_is_not_skipped_in():
    judge = gate(calibrated=calibration(tasks={"easy": 0.0, "hard": 0.5}))
    for task, skipped in (("easy", True), ("hard", False), ("new", False)):
        context = dataclasses.replace(GOOD, task=task)
        assert skips(judge, 1, context=context) == [skipped]
    assert "does not let 'new' be skipped in" in judge.decide(matches(), context).reason


def test_nothing_is_skipped_after_a_verified_step_that_the_entry_was_far_from():
    judge, entries = gate(agree=30), matches()
    near, far, other = np.tile(entries.tokens[0], (3, 1))
    near[2] += 30
    far[2] -= 31
    other[6] = CLOSED
    assert skips(judge, 1) == [False], "before the first verified step nothing is known"
    for tokens, skipped in ((near, True), (far, False), (near, True), (other, False)):
        judge.observe_verified(entries, tuple(tokens.tolist()))
        assert skips(judge, 1) == [skipped]
    judge.observe_verified(entries, tuple(near.tolist()))
    judge.reset()
    assert skips(judge, 1) == [False]


def test_policies_that_ask_for_less():
    poor = matches(similarity=-1.0, spread=200, grippers=(OPEN, CLOSED))
    start = SkipContext(retrieval_zone=True, gripper=None)
    assert skips(gate("never"), 3) == [False] * 3
    assert skips(gate("always"), 9, poor, SkipContext(False, None)) == [True] * 9
    assert skips(gate("cadence"), 7, poor, start) == [False, True, True] * 2 + [False]
    assert skips(gate("cadence"), 3, poor, SkipContext(False, None)) == [False] * 3


def test_random_skips_come_at_the_set_rate():
    judge = gate("random", rate=0.3, max_consecutive=100)
    assert np.mean(skips(judge, 4000)) == pytest.approx(0.3, abs=0.03)


def test_random_skips_come_at_the_calibrated_rate_of_retrieved_steps():
    judge = gate("random", calibration(), max_consecutive=100)
    assert np.mean(skips(judge, 4000)) == pytest.approx(0.3 / 0.6, abs=0.03)
    assert "no calibrated rate" in gate("random").decide(matches(), GOOD).reason
    idle = calibration(tried=(tried(retrieved_rate=0.0, skip_rate=0.0),) * 3)
    assert not any(skips(gate("random", idle), 50))


def test_commands_are_repeated_at_the_set_or_the_calibrated_rate_of_all_steps():
    for judge, rate in (
        (gate("hold", rate=0.25), 0.25),
        (gate("hold", calibration(chosen=0, tried=(tried(skip_rate=0.4),))), 0.4),
    ):
        repeated = [judge.hold() for _ in range(4000)]
        assert np.mean([bool(reason) for reason in repeated]) == pytest.approx(rate, abs=0.03)
        assert set(repeated) == {"", f"the last command once more: by chance, rate {rate:.2f}"}
        assert not any(skips(judge, 5)), "what was retrieved is never executed unverified"
    assert gate("hold").hold() == gate("random", rate=1.0).hold() == ""


def test_shadow_verification_takes_its_share_and_changes_no_skip():
    with_shadows, without = (gate("random", rate=0.5, shadow_share=share) for share in (0.2, 0.0))
    decisions = [with_shadows.decide(matches(), GOOD) for _ in range(4000)]
    assert [decision.skip for decision in decisions] == skips(without, 4000)
    share = np.mean([decision.shadow for decision in decisions if decision.skip])
    assert share == pytest.approx(0.2, abs=0.03)
    assert not any(decision.shadow for decision in decisions if not decision.skip)


def test_the_same_seed_gives_the_same_draws():
    runs = [skips(gate("random", rate=0.5, seed=seed), 200) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@given(st.lists(st.sampled_from([True, False, None]), max_size=20), st.integers(0, 2))
def test_feedback_moves_by_one_and_never_beyond_what_was_chosen(outcomes, chosen):
    judge = gate(calibrated=calibration(chosen=chosen), feedback=True)
    setting = chosen
    for success in outcomes:
        judge.reset(success)
        if success is not None:
            setting = min(max(setting + (1 if success else -1), 0), chosen)
        assert judge.setting == setting
    similarity = calibration().similarity[setting]
    assert judge.decide(matches(similarity=similarity + 0.001, spread=0), GOOD).skip
    judge.note_verified()
    assert not judge.decide(matches(similarity=similarity - 0.001, spread=0), GOOD).skip


def test_without_feedback_failures_change_nothing():
    judge = gate()
    judge.reset(False)
    assert judge.setting == 2


def drift(judge, episodes=10):
    for _ in range(episodes):
        judge.observe_shadow(False)
        judge.reset(True)


def test_drift_turns_skipping_off_for_as_long_as_the_gate_lives():
    judge = gate()
    drift(judge)
    assert "10 of 10 shadow-verified skips left the tolerance" in judge.alarm
    assert "calibrated were 5.0%" in judge.alarm
    assert judge.warning == judge.alarm
    decision = judge.decide(matches(), GOOD)
    assert not decision.skip and judge.alarm in decision.reason
    for _ in range(50):
        judge.observe_shadow(True)
        judge.reset(True)
    assert skips(judge, 1) == [False]


def test_agreement_raises_no_alarm():
    judge = gate()
    for _ in range(500):
        judge.observe_shadow(True)
    assert judge.alarm == ""


def test_what_was_so_in_the_calibration_is_no_drift():
    judge = gate(calibrated=calibration(tried=(tried(disagreement=0.5),) * 3))
    for number in range(400):
        judge.observe_shadow(number % 2 == 0)
        judge.observe_shadow(number % 2 == 1)
        judge.reset(True)
    assert judge.alarm == ""


def test_only_a_calibrated_gate_has_a_bound_to_drift_from():
    judge = gate("random", calibration(), rate=1.0)
    drift(judge)
    assert judge.alarm == judge.warning == "" and skips(judge, 1) == [True]


@pytest.mark.parametrize(
    ("entries", "context", "reason"),
    [
        (matches(), {"harmless": 0.9}, "skip: harmless with 0.90 >= 0.8 [speed +1.0]"),
        (matches(), {"harmless": 0.79}, "no skip: harmless with 0.79 < 0.8 [speed +1.0]"),
        (matches(), {}, "no skip: harmless with nan < 0.8"),
        (matches(), {"harmless": 1.0, "clearance": 3.0}, "no skip: gripper changes in 3 steps"),
        (matches(), {"harmless": 1.0, "speed": 0.05}, "no skip: 0.050 m/s < 0.1"),
        (matches(), {"harmless": 1.0, "gripper": CLOSED}, "no skip: gripper changes"),
        (matches(grippers=(OPEN, CLOSED)), {"harmless": 1.0}, "no skip: retrieved grippers differ"),
        (matches(similarity=-1.0, spread=90), {"harmless": 0.9}, "skip: harmless"),
    ],
)
def test_a_predicted_gate_skips_what_is_likely_harmless(entries, context, reason):
    subject = gate("predicted", chance=0.8, clearance=4, speed=0.1, agree=1)
    values = dataclasses.replace(GOOD, because="speed +1.0", **context)
    decision = subject.decide(entries, values)
    assert decision.reason.startswith(reason) and decision.skip == reason.startswith("skip")
    assert decision.chance == context.get("harmless")


def test_a_predicted_gate_keeps_to_the_longest_run_and_to_new_entries():
    sure = dataclasses.replace(GOOD, harmless=1.0)
    assert skips(gate("predicted", max_consecutive=2), 4, context=sure) == [True, True, False, True]
    assert skips(gate("predicted", once=True), 3, context=sure) == [True, False, False]


def test_what_is_known_before_the_search_of_whether_a_step_may_be_skipped():
    subject = gate("predicted", max_consecutive=1, speed=0.1)
    assert subject.may_skip(0.1) and not subject.may_skip(0.09) and not subject.may_skip(np.nan)
    subject.decide(matches(), dataclasses.replace(GOOD, harmless=1.0))
    assert not subject.may_skip(0.5), "one in a row"
    subject.note_verified()
    assert subject.may_skip(0.5)
    assert not gate("never").may_skip(1.0) and not gate("hold").may_skip(1.0)


def test_a_predicted_gate_stops_where_skips_are_harmful_more_often_than_it_was_said():
    sure = dataclasses.replace(GOOD, harmless=1.0, task="task")
    for share, stops in ((0.1, False), (0.6, True)):
        judge = gate("predicted", chance=0.8)
        for _ in range(30):
            judge.decide(matches(), sure)
            for number in range(10):
                judge.observe_shadow(number >= 10 * share)
            judge.reset()
        decision = judge.decide(matches(), sure)
        assert decision.skip == (not stops) and bool(judge.alarm) == stops
        assert judge.warning == judge.alarm
    assert "predicted were 20.0%" in judge.alarm and judge.alarm in decision.reason


def test_near_is_within_the_bins_that_agree_and_equal_elsewhere():
    judge = gate("predicted", agree=30)
    own = (500,) * 6 + (OPEN,)
    assert judge.near((530, 470, *own[2:]), own) and not judge.near((531, *own[1:]), own)
    assert not judge.near((*own[:6], CLOSED), own) and not judge.near(own[:6], own)
