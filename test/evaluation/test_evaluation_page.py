import base64
import json
import re
from xml.etree import ElementTree

import matplotlib
import pytest
from support.evaluations import MODES, made_up_results
from support.pages import Page

from heisd_ros.evaluation.evaluation_page import save_plot, write_report


@pytest.fixture(scope="module")
def data():
    """What a results file holds after a finished run."""
    ladder = {"ablation_hybrid": ((0, 0.5, 0.5), 0.8), "ablation_skip": ((0.4, 0.2, 0.4), 0.8)}
    results = made_up_results({**MODES, **ladder})
    return json.loads(json.dumps({**results.finish(), "episodes": results.episodes}))


@pytest.fixture(scope="module")
def page(tmp_path_factory, data):
    """The page about a finished run."""
    return page_of(tmp_path_factory.mktemp("page"), {"eval.json": data})


def tables_of(data, **changes):
    """The data without what pictures are drawn of, which takes the longest."""
    modes = {name: {**mode, "versus": None} for name, mode in data["modes"].items()}
    return {**data, "modes": modes, "episodes": [], **changes}


def page_of(tmp_path, results, **options):
    write_report(results, tmp_path / "report.html", **options)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_page_holds_every_table_and_picture(page, data):
    assert [title for title, _ in page.images] == [
        "Success against speedup",
        "Success by task",
        "Latency",
        "End-effector path by source",
        "Kinematic metric over time",
        "Ablation",
    ]
    columns = [
        "success (95%)",
        "speedup, medians (95%)",
        "speedup, means (95%)",
        "p50 ms",
        "p95 ms",
    ]
    columns += [
        "p99 ms",
        "acceptance length",
        "skip rate",
        "passes a step before it acts",
        "jerk m/s³",
    ]
    columns += ["gripper flips", "steps an episode", "with checks in motion, s", "distance m"]
    columns += ["s to finish, where solved", "speedup, episodes (95%)", "won, lost against ar"]
    assert set(columns) <= set(page.cells)
    assert set(data["modes"]) <= set(page.cells)


def test_the_page_needs_nothing_from_elsewhere(page):
    for _, source in page.images:
        kind, content = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        picture = ElementTree.fromstring(base64.b64decode(content))
        assert picture.tag.endswith("svg")


def test_numbers_of_the_file_stand_in_the_table(page, data):
    heisd = data["modes"]["heisd"]
    assert any(cell.startswith(f"{heisd['successes']}/4") for cell in page.cells)
    speedup = heisd["versus"]["speedup_median"]
    wanted = f"{speedup['value']:.2f}x{speedup['low']:.2f} to {speedup['high']:.2f}"
    assert wanted in page.cells


def test_a_file_that_was_written_before_these_numbers_gives_the_same_page(tmp_path, data, page):
    old = json.loads(json.dumps(data))
    for mode in old["modes"].values():
        for name in ("compute_per_episode", "distance", "seconds_to_finish"):
            del mode[name]
        if mode.get("versus"):
            del mode["versus"]["speedup_episode"]
    again = page_of(tmp_path, {"eval.json": old})
    assert (again.words, again.images) == (page.words, page.images)


def test_the_page_says_whether_the_machine_was_idle(tmp_path, data):
    for loads, said in (
        ([0.1, 0.2], "machine idle"),
        ([0.1, 3.0], "machine NOT idle"),
        ([], "not"),
    ):
        page = page_of(tmp_path, {"eval.json": tables_of(data, load_before=loads)})
        assert said in page.words


def test_a_stopped_run_is_compared_all_the_same_and_gives_the_same_page(tmp_path, data, page):
    stopped = json.loads(json.dumps(data))
    for mode in stopped["modes"].values():
        mode.pop("versus", None)
    again = page_of(tmp_path, {"eval.json": stopped})
    assert (again.words, again.images) == (page.words, page.images)


def test_a_summary_without_episodes_has_tables_and_no_episode_pictures(tmp_path, data):
    page = page_of(tmp_path, {"eval.json": {**data, "episodes": []}})
    assert [title for title, _ in page.images] == ["Success against speedup", "Ablation"]


def test_another_base_can_be_chosen(tmp_path, data):
    page = page_of(tmp_path, {"eval.json": tables_of(data)}, base="spec_vla")
    assert "points over spec_vla (95%)" in page.cells


@pytest.mark.parametrize("name", ["heisd", "heisd_compiled", "spec_vla"])
def test_our_mode_is_marked_compiled_or_not(tmp_path, data, name):
    modes = {"ar": data["modes"]["ar"], name: data["modes"]["heisd"]}
    path = tmp_path / "report.html"
    write_report({"eval.json": tables_of({**data, "modes": modes})}, path)
    assert ('class="ours"' in path.read_text(encoding="utf-8")) == (name != "spec_vla")


def test_one_mode_alone_has_a_page_that_says_that_there_are_no_speedups(tmp_path):
    results = made_up_results({"heisd": MODES["heisd"]})
    page = page_of(tmp_path, {"eval.json": {**results.finish(), "episodes": results.episodes}})
    assert "Mode ar was not run here" in page.words
    titles = [title for title, _ in page.images]
    assert "Latency" in titles and "Success against speedup" not in titles


def test_several_files_get_an_overview_in_the_papers_form(tmp_path, data):
    files = {"a.json": {**data, "episodes": []}, "b.json": tables_of(data, suite="libero_goal")}
    page = page_of(tmp_path, files)
    assert "Overview" in page.headings
    assert any(re.fullmatch(r"\d+\.\d / \d+\.\d\dx / \d\.\d\d", cell) for cell in page.cells)


def test_the_guarantee_stands_where_its_number_is_shown(tmp_path, data):
    calibration = {"guarantee": "This is about disagreement, not about failing <the task>."}
    page = page_of(tmp_path, {"eval.json": tables_of(data, calibration=calibration)})
    assert "not about failing <the task>." in page.words


def test_names_are_text_and_never_markup(tmp_path, data):
    modes = {"<b>bold": {**data["modes"]["spec_vla"], "versus": None}}
    page = page_of(tmp_path, {"<i>.json": tables_of(data, modes=modes)})
    assert "<b>bold" in page.cells and "<i>.json" in page.words


def test_a_run_without_a_finished_episode_is_refused(tmp_path, data):
    modes = {"ar": {"episodes": 0, "successes": 0, "steps": 0}}
    with pytest.raises(ValueError, match=r"eval\.json holds no finished episode"):
        write_report({"eval.json": {**data, "modes": modes, "episodes": []}}, tmp_path / "r.html")


def test_the_plot_is_a_file_of_its_own(tmp_path, data):
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        save_plot(data, tmp_path / "plot.svg")
    drawn = "".join(ElementTree.parse(tmp_path / "plot.svg").getroot().itertext())
    assert "heisd" in drawn and "ablation" not in drawn


def test_a_plot_without_its_base_names_the_modes(tmp_path, data):
    with pytest.raises(ValueError, match=r"mode 'eager' was not run; accepted: one of .*'heisd'"):
        save_plot(data, tmp_path / "plot.png", "eager")


def test_a_predictor_is_shown_with_what_came_true(tmp_path, data):
    rows = [row for row in data["episodes"] if row["mode"] in ("ar", "heisd")]
    said = [
        {**row, "chance": [0.5] * row["steps"]} if row["mode"] == "heisd" else row for row in rows
    ]
    modes = {name: data["modes"][name] for name in ("ar", "heisd")}
    page = page_of(tmp_path, {"eval.json": {**data, "modes": modes, "episodes": said}})
    assert "Reliability of the predictor" in [title for title, _ in page.images]


def test_kept_reasonings_are_shown_where_there_are_any(tmp_path, data):
    assert "kept a reasoning" not in page_of(tmp_path, {"eval.json": tables_of(data)}).cells
    kept = json.loads(json.dumps({**data, "episodes": []}))
    kept["modes"]["heisd"]["sources"]["kept"] = 0.22
    page = page_of(tmp_path, {"eval.json": kept})
    assert {"kept a reasoning", "22%"} <= set(page.cells)
