import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.predictors import PREDICTED, fit, predictor

from heisd_ros.decoding.assembly import Assembly
from heisd_ros.decoding.modes import load_decoder, load_mode
from heisd_ros.decoding.predictor import CHANCES, FILE, Predictor, bound_settings
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.terms import TERMS
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import PredictorError
from heisd_ros.evaluation.starts import CALIBRATION_STATES
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.models import shipped_model

MODE = ModeSettings.from_dict(PREDICTED)


def terms(**known):
    return np.array([known.get(name.replace(" ", "_"), math.nan) for name in TERMS])


def test_a_chance_is_the_logistic_of_its_terms_and_says_which_weigh():
    chance = fit(0.5, speed=-2.0, similarity=3.0, missed=0.1)
    log_odds = 0.5 - 2.0 * 0.4 + 3.0 * 0.9
    found = terms(speed=0.4, similarity=0.9)
    assert chance(found) == pytest.approx(1.0 / (1.0 + math.exp(-log_odds)))
    assert chance.explain(found) == "similarity +2.7, speed -0.8"
    assert chance(terms()) == pytest.approx(1.0 / (1.0 + math.exp(-0.5))), "missing: the mean"


def test_what_a_step_is_expected_to_take():
    found = predictor()
    assert found.cost("retrieval", 1.0) == 5.0 + 2 * 4.0
    assert found.cost("last_command", 0.25) == 5.0 + (0.25 * 2 + 0.75 * 4) * 4.0
    assert found.cost("drafter", 0.0) == 5.0 + 4 * 4.0 + 2.0


def test_it_comes_back_from_its_file_as_it_was(tmp_path):
    found = predictor(chances={"skip": fit(0.1, speed=0.2, since_gripper_change=1 / 3)})
    found.save(tmp_path)
    assert Predictor.load(tmp_path) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(format=2), "format is 2; accepted: 1"),
        (lambda values: values["chances"].pop("drafter"), "chances of ['drafter'] are missing"),
        (lambda values: values["passes"].pop("retrieval"), "passes of ['retrieval'] are missing"),
        (
            lambda values: values["chances"]["skip"].update(
                terms=["pressure"], mean=[0], scale=[1], weights=[1]
            ),
            "terms ['pressure'] are unknown; accepted: F, ",
        ),
        (lambda values: values["chances"]["skip"].update(mean=[1.0]), "0 terms have 1 means"),
        (lambda values: values["costs"].update(language=-1), "costs.language is -1"),
        (lambda values: values["chances"]["skip"].update(offset="1"), "offset is '1'"),
        (lambda values: values.pop("model_fingerprint"), "model_fingerprint is missing"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, change, message):
    path = predictor().save(tmp_path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(PredictorError, match=re.escape(message)) as refused:
        Predictor.load(tmp_path)
    assert str(path) in str(refused.value) and "heisd calibrate" in str(refused.value)


def test_no_file_and_one_that_is_no_json_are_refused(tmp_path):
    with pytest.raises(PredictorError, match=r"no predictor .*predictor\.json; run `heisd"):
        Predictor.load(tmp_path)
    (tmp_path / "predictor.json").write_text("{")
    with pytest.raises(PredictorError, match=r"predictor\.json"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("part", ["database", "model", "drafter"])
def test_it_is_refused_beside_other_parts(part):
    parts = {"database": "database-a", "model": "model-a", "drafter": "drafter-a"}
    predictor().check(*parts.values(), MODE)
    with pytest.raises(PredictorError, match=f"{part} in use is 'another'"):
        predictor().check(*(parts | {part: "another"}).values(), MODE)


def test_it_binds_what_decides_how_drafts_fare_and_not_how_often_is_skipped():
    parts = ("database-a", "model-a", "drafter-a")
    skips = replace(MODE, skip=replace(MODE.skip, policy="predicted", chance=0.7, speed=0.2))
    predictor().check(*parts, skips)
    with pytest.raises(PredictorError, match=r"retrieval\.k is 4, fitted was 5"):
        predictor().check(*parts, replace(MODE, retrieval=replace(MODE.retrieval, k=4)))
    with pytest.raises(PredictorError, match=r"skip\.agree is 9, fitted was 0"):
        predictor().check(*parts, replace(MODE, skip=replace(MODE.skip, agree=9)))
    assert bound_settings(MODE)["boundary.kind"] == "predicted"


def test_every_chance_is_needed():
    with pytest.raises(PredictorError, match="skip before the search"):
        predictor(chances={}).__class__(
            **{
                **vars(predictor()),
                "chances": {name: fit() for name in CHANCES if "skip" not in name},
            }
        )


def test_the_shipped_predictor_is_of_the_shipped_parts_and_saw_no_evaluation_state():
    assembly, mode = Assembly(shipped_model()), load_mode("heisd_predicted")
    found = assembly.predictor(mode)
    assert found is not None
    assert {state for _, state, _ in found.starts} <= set(CALIBRATION_STATES)
    assert len({task for task, *_ in found.starts}) == 10
    assert found.costs.skip < found.cost("retrieval", 1.0)
    assert assembly.predictor(load_mode("heisd")) is None


def test_a_mode_is_refused_before_the_model_is_loaded_if_its_predictor_does_not_fit(tmp_path):
    folder = tmp_path / "database"
    shutil.copytree(shipped_model() / "database", folder)
    mode = load_mode("heisd_predicted")
    other = replace(mode, retrieval=replace(mode.retrieval, k=4))
    with pytest.raises(PredictorError, match=r"retrieval\.k is 4"):
        Assembly(shipped_model(), str(folder)).check(other)
    (folder / FILE).unlink()
    with pytest.raises(PredictorError, match="no predictor"):
        Assembly(shipped_model(), str(folder)).check(mode)
    Assembly(shipped_model(), str(folder)).check(load_mode("heisd"))


def test_the_shipped_mode_decodes_by_the_shipped_predictor():
    folder = shipped_model()
    vla = load_checkpoint(folder)
    decoder, bounds = load_decoder(vla, load_mode("heisd_predicted"), folder)
    assert bounds is not None and bounds.settings.kind == "paper"
    rng = np.random.default_rng(0)
    instruction = Assembly(folder).database.manifest.shards[0].instruction
    for speed in (0.3, 0.3, 0.02):
        images = tuple(rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in vla.config.views)
        proprio = np.zeros(vla.config.proprio_size, np.float32)
        motion = MetricSample(0.5, 0.1, 0.2, speed, "paper", True, "velocity")
        result = decoder.infer(Observation(images, instruction, proprio, motion))
        assert "predicted: " in result.reason and 0.0 <= result.chance <= 1.0
        assert len(result.tokens) == 7 and np.isfinite(result.action).all()
    assert decoder.warning() == ""
