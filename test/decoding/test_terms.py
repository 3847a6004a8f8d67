import math

import numpy as np
import pytest
from support.skipping import CLOSED, OPEN, matches

from heisd_ros.decoding.terms import SEARCHED, TERMS, StepTerms
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.vla.action_codec import POSE_GROUPS


def motion(speed, f=0.5, ready=True):
    return MetricSample(f, 0.1, 0.2, speed, "paper", ready, "velocity")


def answer(first=500, gripper=OPEN):
    return (first, *[500] * 5, gripper)


def named(terms):
    return dict(zip(TERMS, terms.tolist(), strict=True))


def test_a_step_at_the_start_knows_only_its_motion():
    terms = named(StepTerms(POSE_GROUPS).begin(motion(0.3)))
    assert (terms["F"], terms["path"], terms["radius"], terms["speed"]) == (0.5, 0.1, 0.2, 0.3)
    assert (terms["since gripper change"], terms["skipped"]) == (40.0, 0.0)
    unknown = {"acceleration", "change", "last passed", *SEARCHED}
    assert {name for name, value in terms.items() if math.isnan(value)} == unknown


def test_an_unknown_motion_and_one_of_a_window_that_is_not_full_are_missing():
    tracked = StepTerms(POSE_GROUPS)
    assert np.isnan(tracked.begin(None)[:5]).all()
    terms = named(tracked.begin(motion(0.3, ready=False)))
    assert math.isnan(terms["F"]) and math.isnan(terms["radius"]) and terms["speed"] == 0.3
    assert math.isnan(terms["acceleration"]), "the speed before is not known"


def test_the_past_of_a_step_is_that_of_the_steps_before():
    tracked = StepTerms(POSE_GROUPS)
    tracked.begin(motion(0.3))
    tracked.end(answer(500), passes=3)
    terms = named(tracked.begin(motion(0.2)))
    assert terms["acceleration"] == pytest.approx(-0.1)
    assert (terms["last passed"], terms["skipped"]) == (0.0, 0.0)
    assert math.isnan(terms["change"])
    tracked.end(answer(512), passes=2)
    tracked.begin(motion(0.2))
    tracked.end(answer(505, CLOSED), passes=0)
    terms = named(tracked.begin(motion(0.2)))
    assert (terms["last passed"], terms["skipped"]) == (1.0, 1.0), "a skip is no verified step"
    assert (terms["change"], terms["since gripper change"]) == (7.0, 0.0)
    tracked.end(answer(505, CLOSED), passes=2)
    assert named(tracked.begin(motion(0.2)))["since gripper change"] == 1.0
    tracked.reset()
    assert named(tracked.begin(motion(0.2)))["since gripper change"] == 40.0


def test_what_a_search_adds():
    tracked = StepTerms(POSE_GROUPS)
    tracked.begin(None)
    tracked.end(answer(495), passes=1)
    entries = matches(similarity=0.95, spread=2)
    terms = named(tracked.search(tracked.begin(motion(0.2)), entries, clearance=90.0))
    assert terms["similarity"] == pytest.approx(0.95) and terms["margin"] == pytest.approx(0.01)
    assert terms["spread"] == pytest.approx(1.79, abs=0.01)
    assert terms["apart"] == 7.0, "the entry's first token is 502"
    assert math.isnan(terms["missed"]) and terms["until gripper change"] == 40.0
    tracked.end(answer(482), passes=2)
    terms = named(tracked.search(tracked.begin(motion(0.2)), entries, clearance=3.0))
    assert (terms["missed"], terms["until gripper change"]) == (20.0, 3.0)
    tracked.end(answer(502), passes=0)
    terms = named(tracked.search(tracked.begin(motion(0.2)), entries, clearance=3.0))
    assert terms["missed"] == 20.0, "a skipped step says nothing of what the model wanted"


def test_answers_without_a_distance_and_of_other_lengths_have_no_terms_of_distance():
    for groups, tokens in (((), answer()), (POSE_GROUPS, answer()[:5])):
        tracked = StepTerms(groups)
        tracked.begin(None)
        tracked.end(answer(), passes=1)
        tracked.begin(None)
        tracked.end(tokens, passes=1)
        terms = named(tracked.search(tracked.begin(None), matches(), clearance=5.0))
        assert math.isnan(terms["apart"]) and math.isnan(terms["change"])


def test_a_search_without_entries_leaves_the_terms():
    tracked = StepTerms(POSE_GROUPS)
    terms = tracked.search(tracked.begin(motion(0.2)), matches(grippers=()), clearance=math.inf)
    assert np.isnan(terms[-len(SEARCHED) :]).all()
