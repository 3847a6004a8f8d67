from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import replace

import pytest
from support.skipping import calibration, tried

from heisd_ros.decoding.calibration import FILE, FORMAT, Calibration
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.settings import BoundarySettings, ModeSettings, SkipSettings
from heisd_ros.errors import CalibrationError
from heisd_ros.models import shipped_model


def load(folder, database="database-a", model="model-a"):
    return Calibration.load(folder, database, model)


@pytest.mark.parametrize("chosen", [None, 0, 2])
def test_what_is_written_is_read(tmp_path, chosen):
    written = calibration(chosen=chosen)
    assert written.save(tmp_path) == tmp_path / FILE
    assert load(tmp_path) == written
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize(
    ("used", "what"),
    [({"database": "database-b"}, "the database database-a"), ({"model": "model-b"}, "model")],
)
def test_one_of_something_else_is_refused(tmp_path, used, what):
    calibration().save(tmp_path)
    with pytest.raises(CalibrationError, match=what) as error:
        load(tmp_path, **used)
    assert "heisd calibrate" in str(error.value) and "rebuilt or replaced" in str(error.value)


def test_a_missing_one_names_the_command(tmp_path):
    with pytest.raises(CalibrationError, match=r"no calibration .*heisd calibrate"):
        load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace(f'"format": {FORMAT}', '"format": 99'),
        lambda text: text.replace('"risk"', '"rusk"'),
        lambda text: text.replace('"success_rate"', '"succes_rate"'),
        lambda text: text.replace("0.98", '"near"'),
        lambda text: text.replace("0.98", "0.1"),
        lambda text: text.replace('"risk": 0.05', '"risk": "low"'),
    ],
)
def test_a_damaged_one_names_file_and_fix(tmp_path, damage):
    path = calibration().save(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(CalibrationError, match=r"calibration\.json.*heisd calibrate"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"similarity": ()}, "0 similarities"),
        ({"dispersion": (1.0, 5.0)}, "2 dispersions"),
        ({"tried": (tried(),) * 4}, "4 measurements"),
        ({"similarity": (0.8, 0.9, 0.7)}, "do not fall"),
        ({"dispersion": (5.0, 1.0, 20.0)}, "do not rise"),
        ({"similarity": (0.9, 0.8, float("nan"))}, "finite"),
        ({"chosen": 3}, "chosen setting 3 is outside the path of 3"),
        ({"chosen": True}, "chosen is True; accepted"),
        ({"risk": 1.0}, "risk is 1.0; accepted: below 1"),
        ({"rule": "hope"}, "rule is 'hope'; accepted: '"),
        ({"criterion": "luck"}, "criterion is 'luck'; accepted: '"),
        ({"k": 0}, "k is 0; accepted: 1 or more"),
        ({"speed": float("nan")}, "speed is nan; accepted: a finite number"),
        ({"clearance": -1}, "clearance is -1; accepted: 0 or more"),
        ({"runs": (1, 2)}, "runs .* are not 3 rising numbers"),
        ({"runs": (1, 2, 2)}, "runs .* are not 3 rising numbers"),
        ({"runs": (0, 1, 2)}, "from 1 on"),
        ({"delta": 0.0}, "delta is 0.0; accepted: above 0"),
    ],
)
def test_values_must_fit_together(changes, problem):
    with pytest.raises(CalibrationError, match=problem):
        calibration(**changes)


def test_the_guarantee_says_what_is_proved_and_what_not_and_stands_in_the_file(tmp_path):
    found = calibration(tried=(tried(loss=0.02, bound=0.04),) * 3)
    said = found.guarantee
    assert "over calibrations like this one and over all tasks together, is at most 5.0%" in said
    assert "4.0% with one lost episode added, which is compared to the risk and bounds" in said
    assert "Not proved: the loss at this one calibration, of one task" in said
    assert "if no episode's loss falls from a setting to a looser one" in said
    assert "not about failing the task" in said
    assert json.loads(found.save(tmp_path).read_text())["guarantee"] == said
    assert "nothing is skipped" in calibration(chosen=None).guarantee
    of_failures = calibration(criterion="failure", rule="path_maximum").guarantee
    assert "(fail the task)" in of_failures and "not about disagreement" in of_failures
    assert "looser one" not in of_failures
    lost = calibration(tasks={"easy": 0.0, "hard": 0.5}).guarantee
    assert "1 of 2 tasks lost more than the risk" in lost


MODE = ModeSettings.from_dict({"propose": "hybrid", "skip": {"policy": "calibrated"}})
OTHERS = {
    "retrieval.payload": {"retrieval": {"payload": "demonstrated"}},
    "retrieval.k": {"retrieval": {"k": 4}},
    "correct": {"correct": True},
    "redraft": {"redraft": True},
    "one_pass": {"one_pass": False},
    "boundary.metric": {"boundary": {"metric": "speed"}},
    "boundary.hysteresis": {"boundary": {"hysteresis": 0.01}},
    "drafter.accept": {"drafter": {"accept": "exact"}},
    "skip.max_consecutive": {"skip": {"policy": "calibrated", "max_consecutive": 1}},
    "skip.once": {"skip": {"policy": "calibrated", "once": True}},
    "skip.shadow_share": {"skip": {"policy": "calibrated", "shadow_share": 0.0}},
}


@pytest.mark.parametrize(("name", "values"), OTHERS.items())
def test_a_calibration_is_of_one_mode_in_every_setting(name, values):
    found = calibration(settings=MODE.decisive())
    found.check_mode(dataclasses.replace(MODE, description="the same in other words"))
    other = ModeSettings.from_dict(
        {"propose": "hybrid", "skip": {"policy": "calibrated"}, **values}
    )
    used, own = other.decisive()[name], MODE.decisive()[name]
    with pytest.raises(CalibrationError, match="heisd calibrate") as error:
        found.check_mode(other)
    assert f"{name} is {used!r}, calibrated was {own!r}" in str(error.value)
    assert calibration(settings=other.decisive()).mode_hash != found.mode_hash


def test_a_path_of_runs_binds_every_setting_but_the_run():
    mode = load_mode("heisd")
    path = calibration(runs=(1, 2, 3), settings=mode.decisive())
    longer = replace(mode, skip=replace(mode.skip, max_consecutive=9))
    path.check_mode(longer)
    with pytest.raises(CalibrationError, match=r"skip\.clearance is 5"):
        path.check_mode(replace(longer, skip=replace(longer.skip, clearance=5)))
    with pytest.raises(CalibrationError, match=r"skip\.max_consecutive is 9"):
        replace(path, runs=()).check_mode(longer)


def test_pairs_say_what_is_proved_of_which_run_and_with_how_many_pairs():
    pairs = tried(loss=-0.01, bound=0.021, episodes=300, won=9, lost=6, skip_rate=0.41)
    values = {"criterion": "excess", "runs": (1, 2, 3), "chosen": 1, "tried": (pairs,) * 3}
    path = calibration(**values, risk=0.05, episodes=300)
    for words in (
        "fixed sequence over 1, 2, 3 skips in a row",
        "with at most 2 skips in a row the mode fails less than 5 points more often",
        "at most 10%",
        "300 pairs from the same starts, 9 solved by the mode alone and 6 by the plain loop alone",
        "an excess of -1.0 points, below 2.1 with 90% confidence",
        "Not proved: anything of one task",
    ):
        assert words in path.guarantee
    assert "Proved" not in replace(path, chosen=None).guarantee


def test_every_setting_of_a_mode_is_bound():
    leaves = {"propose", "one_pass", "correct", "redraft"}
    for part in ("retrieval", "drafter", "boundary", "skip"):
        leaves |= {f"{part}.{f.name}" for f in dataclasses.fields(getattr(MODE, part))}
    assert set(MODE.decisive()) == leaves - {"boundary.kind", "skip.chance"}
    predicted = replace(
        MODE, boundary=BoundarySettings(kind="predicted"), skip=SkipSettings(policy="predicted")
    )
    assert set(predicted.decisive()) == leaves - {"boundary.hysteresis"}


def test_the_shipped_modes_without_a_predictor_have_the_settings_that_were_calibrated():
    """The hash of the settings binds a calibration, so a new setting must not change it."""
    folder = shipped_model() / "database"
    values = json.loads((folder / FILE).read_text())
    shipped = Calibration.load(folder, values["database_id"], values["model_fingerprint"])
    shipped.check_mode(load_mode("heisd"))
    recorded = load_mode("heisd").recorded()
    assert "kind" not in recorded["boundary"] and "chance" not in recorded["skip"]


def test_settings_that_were_edited_by_hand_are_refused(tmp_path):
    path = calibration(settings=MODE.decisive()).save(tmp_path)
    path.write_text(path.read_text().replace('"correct": false', '"correct": true'))
    with pytest.raises(CalibrationError, match="mode_hash"):
        load(tmp_path)


def test_a_task_that_lost_more_than_the_risk_or_was_not_run_is_not_skipped_in():
    found = calibration(tasks={"easy": 0.05, "hard": 0.125})
    assert [found.allows(task) for task in ("easy", "hard", "new")] == [True, False, False]
    assert calibration().allows("new")


def test_what_was_measured_is_that_of_the_chosen_setting():
    rows = tuple(tried(loss=loss) for loss in (0.01, 0.02, 0.03))
    assert calibration(tried=rows, chosen=1).measured == rows[1]
    assert calibration(tried=rows, chosen=None).measured is None
    assert calibration(tried=()).at(1).measured is None


def test_drift_is_measured_from_the_worse_of_risk_and_what_was():
    assert calibration().drift_limit == 0.05
    assert calibration(tried=(tried(disagreement=0.08),) * 3).drift_limit == 0.08


def test_where_failures_were_counted_drift_is_more_disagreement_than_there_was():
    def limit(**changes):
        return calibration(criterion="failure", tried=(tried(**changes),) * 3).drift_limit

    measured = {"disagreement": 0.3, "episode_disagreement": 0.4, "episodes": 99}
    assert limit(**measured) == pytest.approx(0.406)
    assert limit(**measured | {"disagreement": 0.5}) == 0.5
    assert limit(**measured | {"disagreement": 1.0}) < 1.0
    assert calibration(criterion="failure", chosen=None).drift_limit == 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(tried=5), "tried is 5; accepted: a list"),
        (lambda v: v["tried"][0].update(episodes=None), r"tried\[0\]\.episodes is None; accepted"),
        (
            lambda v: v["tried"][0].update(episodes=2**31),
            "no more run than planned",
        ),
        (lambda v: v.update(episodes=2**31), "accepted: 1 to 1000000"),
        (lambda v: v.update(created=3), "created is 3; accepted: a text"),
        (lambda v: v.update(speed=float("nan")), "speed is nan; accepted: a finite number"),
        (
            lambda v: v.update(similarity=["x"]),
            r"similarity\[0\] is 'x'; accepted: a finite",
        ),
        (lambda v: v.pop("mode"), "mode is missing"),
        (lambda v: v.update(mode=[]), r"mode is \[\]; accepted: a text"),
    ],
)
def test_a_value_that_no_calibration_has_is_named(tmp_path, change, message):
    path = calibration().save(tmp_path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match=rf"calibration\.json.*{message}") as error:
        load(tmp_path)
    assert "heisd calibrate" in str(error.value) and "\n" not in str(error.value)


def test_one_that_is_no_plain_file_is_named(tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(CalibrationError, match=r"calibration\.json cannot be read: it is a pipe"):
        load(tmp_path)
