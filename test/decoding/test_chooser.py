from dataclasses import replace

import pytest
from support.predictors import COSTS, fit, predictor
from support.skipping import matches

from heisd_ros.decoding.chooser import Chooser, acceptance_rule
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Source
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.vla.action_codec import POSE_GROUPS

ALL = (Source.RETRIEVAL, Source.LAST_COMMAND, Source.DRAFTER)
ANSWER = (500,) * 7
SURE, NEVER = fit(40.0), fit(-40.0)


def motion(speed=0.3):
    return MetricSample(0.5, 0.1, 0.2, speed, "paper", True, "velocity")


def chooser(chances=None, sources=ALL, started=True, **changes):
    found = Chooser(predictor(chances=chances, **changes), POSE_GROUPS, sources)
    if started:
        found.end(ANSWER, passes=2)
    return found


@pytest.mark.parametrize(
    ("sure", "source"),
    [
        ("last_command", Source.LAST_COMMAND),
        ("drafter", Source.DRAFTER),
        ("retrieval before the search", Source.RETRIEVAL),
    ],
)
def test_the_draft_that_passes_is_chosen(sure, source):
    names = ("last_command", "drafter", "retrieval before the search")
    chances = {name: SURE if name == sure else NEVER for name in names}
    choice = chooser(chances).begin(motion(), search=True, skip=False)
    assert (choice.source, choice.chance) == (source, pytest.approx(1.0))


def test_of_equal_chances_the_cheaper_way_is_chosen():
    """The drafter and a search cost extra."""
    assert chooser().begin(motion(), search=True, skip=False).source == Source.LAST_COMMAND
    dear = replace(COSTS, search=9.0, drafter=0.0)
    found = chooser({"drafter": fit(0.1)}, costs=dear)
    assert found.begin(motion(), search=True, skip=False).source == Source.DRAFTER


def test_a_likely_skip_makes_a_search_worth_its_time_where_skipping_is_allowed():
    chances = {"last_command": SURE, "skip before the search": SURE}
    found = chooser(chances)
    assert found.begin(motion(), search=True, skip=True).source == Source.RETRIEVAL
    assert found.begin(motion(), search=True, skip=False).source == Source.LAST_COMMAND


def test_costs_are_weighed_against_chances():
    """A search of 1 ms is worth it if it saves more than a quarter of a pass of 4 ms."""
    for log_odds, source in ((0.2, Source.LAST_COMMAND), (0.8, Source.RETRIEVAL)):
        chances = {"retrieval before the search": fit(log_odds), "drafter": NEVER}
        assert chooser(chances).begin(motion(), search=True, skip=False).source == source


def test_after_the_search_the_entries_count():
    chances = {
        "retrieval before the search": SURE,
        "retrieval": fit(0.0, missed=-1.0),
        "last_command": fit(-1.0),
        "drafter": NEVER,
    }
    found = chooser(chances)
    for _ in range(2):
        assert found.begin(motion(), search=True, skip=False).source == Source.RETRIEVAL
        found.search(matches(), clearance=20.0)
        choice = found.after_search()
        found.end((400, *ANSWER[1:]), passes=2)
    assert choice.source == Source.LAST_COMMAND, "the entry missed by a hundred bins before"
    assert "missed" not in choice.reason and "retrieval" in choice.reason


def test_the_chance_of_a_harmless_skip_follows_the_entries():
    found = chooser({"skip": fit(-1.0, similarity=4.0)})
    found.begin(motion(), search=True, skip=True)
    chance, because = found.search(matches(similarity=0.95), clearance=20.0)
    assert chance == pytest.approx(0.943, abs=0.001) and because == "similarity +3.8"


def test_what_there_is_not_is_not_chosen():
    first = chooser(started=False)
    assert first.begin(motion(), search=False, skip=False).source == Source.DRAFTER
    assert chooser(started=False, sources=()).begin(None, False, False).source == "autoregressive"
    assert chooser(sources=ALL[:2]).begin(None, False, False).source == Source.LAST_COMMAND
    found = chooser()
    found.reset()
    assert found.begin(motion(), search=False, skip=False).source == Source.DRAFTER


def test_the_reason_names_times_and_terms():
    found = chooser({"last_command": fit(0.0, speed=5.0)})
    reason = found.begin(motion(0.4), search=False, skip=False).reason
    assert reason == (
        "predicted: last_command 14.0 ms, passes with 0.88 [speed +2.0]; drafter 19.0"
    )


def test_the_rule_follows_the_speed_and_an_unknown_one_is_slow():
    mode = ModeSettings.from_dict(
        {
            "propose": "hybrid",
            "boundary": {"kind": "predicted"},
            "retrieval": {"speed": 0.12, "last": True, "accept": "sequence_relaxed"},
            "drafter": {"accept": "exact"},
        }
    )
    rules = [acceptance_rule(mode, motion(v)) for v in (0.12, 0.11, float("nan"))]
    assert rules == ["sequence_relaxed", "exact", "exact"]
    assert acceptance_rule(mode, None) == "exact"
