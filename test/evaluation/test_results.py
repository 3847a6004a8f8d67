import json

import pytest
from support.evaluations import MODES, made_up_results

from heisd_ros.evaluation.results import Results, read_results


@pytest.fixture(scope="module")
def whole():
    return made_up_results()


@pytest.fixture
def begun(whole, tmp_path):
    """The first group of episodes, in a file."""
    results = Results(whole.header, tmp_path / "out" / "eval.json")
    results.add(whole.episodes[: len(MODES)])
    return results


def test_the_file_holds_what_the_issue_asks_for(whole, begun):
    begun.add(whole.episodes[len(MODES) :])
    begun.finish()
    data = json.loads(begun.path.read_text())
    assert {"suite", "seed", "model", "machine", "modes"} <= data.keys()
    assert list(data["modes"]) == list(MODES)
    for mode in data["modes"].values():
        assert mode["episodes"] == 4 and 0 <= mode["successes"] <= 4
        assert set(mode["step_ms"]) == {"p50", "p95", "p99", "mean"}
        assert {"steps", "acceptance_length", "skip_rate", "passes_per_step"} <= mode.keys()
        assert {"gripper_flips", "jerk"} <= mode.keys()
    assert "versus" not in data["modes"]["ar"]
    assert data["modes"]["heisd"]["versus"]["base"] == "ar"
    assert len(data["episodes"]) == 4 * len(MODES)


def test_a_run_goes_on_from_its_file(whole, begun):
    again = Results.resume(whole.header, begun.path)
    assert again.done == {(0, 40, 0)}
    again.add(whole.episodes[len(MODES) :])
    assert Results.resume(whole.header, begun.path).done == {
        (task, state, 0) for task in (0, 1) for state in (40, 41)
    }


def test_each_part_of_a_run_says_what_else_the_machine_had_to_do(whole, tmp_path):
    path = tmp_path / "eval.json"
    for load in (0.123, 2.0):
        Results.resume(whole.header, path, load).add([])
    assert read_results(path)["load_before"] == [0.12, 2.0]


def test_going_on_ends_where_going_through_ends(whole, begun):
    again = Results.resume(whole.header, begun.path)
    again.add(whole.episodes[len(MODES) :])
    assert again.finish() == json.loads(json.dumps(whole.finish()))


def test_a_run_begins_where_there_is_no_file(whole, tmp_path):
    assert Results.resume(whole.header, tmp_path / "new.json").episodes == []
    assert Results.resume(whole.header, None).episodes == []


def test_nothing_but_the_file_is_left(begun):
    assert [path.name for path in begun.path.parent.iterdir()] == ["eval.json"]


@pytest.mark.parametrize("name", ["suite", "seed", "model", "machine"])
def test_another_experiment_is_refused(whole, begun, name):
    with pytest.raises(ValueError, match=rf"begun with {name} .*new --json file"):
        Results.resume({**whole.header, name: "another"}, begun.path)


@pytest.mark.parametrize("name", ["draw", "chunk", "protocol", "dtype"])
def test_what_only_one_of_the_parts_says_is_another_experiment(whole, begun, name):
    with pytest.raises(ValueError, match=rf"begun with {name} None, now it is 'more'"):
        Results.resume({**whole.header, name: "more"}, begun.path)
    more = Results({**whole.header, name: "more"}, begun.path)
    more.add(begun.episodes)
    with pytest.raises(ValueError, match=rf"begun with {name} 'more', now it is None"):
        Results.resume(whole.header, begun.path)


def test_other_modes_are_refused(whole, begun):
    modes = {name: whole.header["modes"][name] for name in ("ar", "heisd")}
    with pytest.raises(ValueError, match="now they are ar,heisd"):
        Results.resume({**whole.header, "modes": modes}, begun.path)


def test_changed_settings_of_a_mode_are_refused(whole, begun):
    modes = dict(whole.header["modes"])
    modes["heisd"] = {**modes["heisd"], "settings": {"redraft": True}}
    with pytest.raises(ValueError, match="settings of mode 'heisd' changed"):
        Results.resume({**whole.header, "modes": modes}, begun.path)


def test_settings_may_hold_what_json_writes_otherwise(whole, tmp_path):
    header = {**whole.header, "modes": {"ar": {"settings": {"pair": (1, 2)}}}}
    results = Results(header, tmp_path / "eval.json")
    results.add([])
    assert Results.resume(header, results.path).episodes == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "accepted: a JSON object"),
        ('{"suite": "libero_spatial", "mode": "ar", "episodes": []}', "format None; accepted: 1"),
        ('{"format": 1, "suite": "libero_spatial"}', "lacks seed, model, machine, modes"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    path = tmp_path / "eval.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json"):
        read_results(tmp_path / "none.json")


def test_a_summary_without_episodes_can_be_read(begun):
    data = json.loads(begun.path.read_text())
    del data["episodes"]
    begun.path.write_text(json.dumps(data))
    assert read_results(begun.path)["episodes"] == []
