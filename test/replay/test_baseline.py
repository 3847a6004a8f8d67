"""A replay against an earlier one: what moved is named, and nothing else."""

from __future__ import annotations

import copy
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.replay_bags import cell
from support.tree import ROOT

from heisd_ros.errors import ReplayError
from heisd_ros.replay.baseline import (
    TOLERANCES,
    check_comparable,
    compare,
    read_baseline,
    read_tolerances,
)
from heisd_ros.replay.describe import describe
from heisd_ros.replay.run import replay_bag
from heisd_ros.replay.summary import RESULTS, summarise, write
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters


@pytest.fixture(scope="module")
def results(equipped, tmp_path_factory):
    bag = cell(10, with_telemetry=True).write(tmp_path_factory.mktemp("baseline") / "bag")
    parameters = from_values(VlaNodeParameters, {"model.path": str(equipped), "model.threads": 1})
    replayed = replay_bag(bag, parameters, ["heisd"], {})
    return summarise(replayed, describe(bag, parameters, ["ar", "heisd"]))


def moved(results, change, tolerances=TOLERANCES):
    """What moved from a changed copy, which is the baseline, to the results."""
    baseline = copy.deepcopy(results)
    change(baseline)
    return [str(figure) for figure in compare(results, baseline, tolerances)]


def test_a_file_that_was_written_reads_back_and_nothing_moved(results, tmp_path):
    write(tmp_path / RESULTS, results)
    assert read_baseline(tmp_path) == read_baseline(tmp_path / RESULTS) == results
    assert check_comparable(results, results) == [] == moved(results, lambda data: None)


def changed(*keys, to):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            changed("modes", "heisd", "acceptance_length", to=7.0),
            "heisd: acceptance length was 7, is 6.3 (tolerance 0.1)",
        ),
        (
            changed("modes", "heisd", "acceptance_length", to=None),
            "heisd: acceptance length was none, is 6.3 (tolerance 0.1)",
        ),
        (
            changed("modes", "ar", "passes_per_step", to=6.5),
            "ar: passes a step was 6.5, is 7 (tolerance 0.1)",
        ),
        (
            changed("modes", "ar", "holds", "stale_image", to=2),
            "ar: holds for stale_image was 2, is 0 (tolerance 0)",
        ),
        (
            changed("modes", "ar", "inputs", "rejected", to={"wrist": {"bad": 3}}),
            "ar: rejected from wrist (bad) was 3, is 0 (tolerance 0)",
        ),
        (
            changed("modes", "heisd", "deviation", "ar", "axes", "rx", "p95", to=0.5),
            "heisd: deviation from ar, rx, p95 was 0.5, is 0 (tolerance 0.01)",
        ),
        (
            changed("modes", "heisd", "skips", "wrong", to=1),
            "heisd: wrong skips, share of steps was 0.1, is 0 (tolerance 0.01)",
        ),
        (
            changed("steps", "heisd", "tokens", 3, to=[1] * 7),
            "heisd: share of steps with other tokens was 0, is 0.1 (tolerance 0.02)",
        ),
        (
            changed("steps", "ar", "observation", 0, to="other"),
            "ar: share of steps with other observations was 0, is 0.1 (tolerance 0)",
        ),
    ],
)
def test_what_moved_is_named_with_both_values_and_alone(results, change, line):
    assert moved(results, change) == [line]


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_figure_moves_exactly_if_it_is_further_off_than_its_tolerance(results, by, tolerance):
    length = results["modes"]["heisd"]["acceptance_length"]
    change = changed("modes", "heisd", "acceptance_length", to=length + by)
    lines = moved(results, change, {**TOLERANCES, "acceptance": tolerance})
    assert bool(lines) == (abs(length - (length + by)) > tolerance)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (changed("bag", to="0" * 64), "the baseline is of bag 000000000000; accepted: "),
        (changed("model", to="1" * 64), "the baseline is of model 111111111111; accepted: "),
        (lambda data: data["modes"].pop("heisd"), "the baseline lacks mode heisd; accepted: "),
    ],
)
def test_a_baseline_of_something_else_is_refused(results, change, line):
    baseline = copy.deepcopy(results)
    change(baseline)
    with pytest.raises(ReplayError, match=line):
        check_comparable(results, baseline)


def test_what_may_be_the_change_that_is_looked_at_is_said(results):
    baseline = copy.deepcopy(results)
    baseline["database"] = "other"
    baseline["modes"]["heisd"]["settings"]["redraft"] ^= True
    assert check_comparable(results, baseline) == [
        "database is another than the baseline's",
        "settings of mode heisd are others than the baseline's",
    ]


NO_REPLAY = ["", "[]", "{}", '{"kind": "eval", "format": 1}', "{", "[" * 100_000]
NO_REPLAY += ['{"kind": "replay", "format": 1}', '{"kind": "replay", "format": 1, "bag": "x"}']


@pytest.mark.parametrize("text", NO_REPLAY)
def test_a_file_that_is_no_replay_is_refused(tmp_path, text):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(ReplayError, match=f"baseline .*{RESULTS}"):
        read_baseline(tmp_path)


def test_tolerances_are_read_by_name():
    assert read_tolerances(["tokens=0.5"]) == {**TOLERANCES, "tokens": 0.5}
    for wrong in ("tokens", "tokens=", "tokens=-1", "tokens=nan", "speed=1"):
        with pytest.raises(ReplayError, match=r"accepted: NAME=VALUE, a number from 0 up, of "):
            read_tolerances([wrong])


def test_the_documented_defaults_are_those_in_force():
    text = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    for name, value in TOLERANCES.items():
        assert f"| `{name}` | {value:g} |" in text, name


def test_the_results_are_json_without_a_clock(results):
    assert json.loads(json.dumps(results)) == results
    assert not {"ms", "step_ms", "parts_ms"} & {*results["modes"]["ar"], *results["steps"]["ar"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["modes"]["ar"].pop("deviation"),
        lambda data: data["modes"]["ar"].update(steps="many"),
        lambda data: data["steps"].pop("heisd"),
        lambda data: data["steps"]["ar"].update(tokens=3),
        lambda data: data.update(modes=[]),
        lambda data: data.pop("seed"),
        lambda data: data.update(bag=5),
        lambda data: data["modes"]["ar"]["deviation"].update(other={"axes": {"x": {"p50": 1.0}}}),
    ],
)
def test_a_replay_that_lacks_what_is_compared_is_refused(results, tmp_path, change):
    damaged = copy.deepcopy(results)
    change(damaged)
    (tmp_path / RESULTS).write_text(json.dumps(damaged))
    with pytest.raises(ReplayError, match="is damaged"):
        read_baseline(tmp_path)


def test_a_pipe_in_the_place_of_a_baseline_is_refused(tmp_path):
    os.mkfifo(tmp_path / RESULTS)
    with pytest.raises(ReplayError, match="a pipe"):
        read_baseline(tmp_path)
