"""How long a reasoning may be kept, by a calibration."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from support.references import FamilyReference
from support.skipping import calibration as of_skipping
from support.skipping import tried

from heisd_ros.decoding.acceptance import acts_alike
from heisd_ros.decoding.assembly import Assembly
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Zone
from heisd_ros.decoding.calibrated_path import FILE
from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.reasoning_calibration import (
    ReasoningCalibration,
    path_of_keeping,
    scale_of,
)
from heisd_ros.decoding.settings import ReasoningSettings
from heisd_ros.decoding.thinking import Thinking
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import CalibrationError, ModeError
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.families.ecot.codec import EcotAnswer
from heisd_ros.kinematics.bounds_file import BOUNDS_FILE
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.vla.checkpoint_files import fingerprint

REFERENCE = FamilyReference("ecot")
TASK = "put the spoon on the towel"
FAST = Zone(True, "fast")


def calibration(**changes):
    values = {
        "steps": (1, 2, 2),
        "boundary": (0.6, 0.4, 0.2),
        "chosen": 2,
        "risk": 0.05,
        "criterion": "disagreement",
        "rule": "each_setting",
        "tried": (tried(),) * 3,
        "mode": "heisd_reason",
        "suite": "libero_spatial",
        "episodes": 100,
        "model_fingerprint": "model-a",
        "created": "2026-11-29T00:00:00+00:00",
    }
    return ReasoningCalibration(**(values | changes))


@pytest.mark.parametrize("chosen", [None, 1])
def test_what_is_written_is_read_and_is_none_of_skipping(tmp_path, chosen):
    written = calibration(chosen=chosen)
    written.save(tmp_path)
    assert ReasoningCalibration.load(tmp_path, "model-a") == written
    with pytest.raises(CalibrationError, match=r"part is 'reasoning'; accepted: 'skip'.*DATABASE"):
        Calibration.load(tmp_path, "database-a", "model-a")
    with pytest.raises(CalibrationError, match=r"of the model model-a, .*heisd calibrate CHECKP"):
        ReasoningCalibration.load(tmp_path, "model-b")
    of_skipping().save(tmp_path)
    with pytest.raises(CalibrationError, match=r"part is 'skip'; accepted: 'reasoning'"):
        ReasoningCalibration.load(tmp_path, "model-a")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": ()}, "0 numbers of steps"),
        ({"boundary": (0.5, 0.4)}, "2 boundaries"),
        ({"tried": (tried(),) * 4}, "4 measurements"),
        ({"steps": (2, 1, 3)}, "steps .* fall"),
        ({"steps": (0, 1, 3)}, "from 1 on"),
        ({"boundary": (0.2, 0.4, 0.4)}, "boundaries rise"),
        ({"chosen": 3}, "chosen setting 3 is outside the path of 3"),
        ({"criterion": "excess"}, "accepted: 'disagreement', 'failure'"),
    ],
)
def test_values_must_fit_together(changes, problem):
    with pytest.raises(CalibrationError, match=problem):
        calibration(**changes)


@pytest.mark.parametrize("name", ["freeze", "heisd_reason"])
def test_the_path_of_a_mode_is_one_and_holds_its_published_steps(name):
    mode = load_mode(name)
    steps, boundary = path_of_keeping(mode)
    found = calibration(steps=steps, boundary=boundary, tried=(), chosen=None)
    assert mode.reasoning.steps in steps and found.length == len(steps)
    # The loosest boundary can still be left by slow motion.
    assert (found.at(len(steps) - 1).limit(mode) is None) == (name == "freeze")
    settings = mode.decisive()
    bound = replace(found, settings=settings)
    assert bound.fits(mode, None)
    assert not bound.fits(replace(mode, reasoning=replace(mode.reasoning, clearance=9)), None)


def test_the_guarantee_is_of_kept_reasonings():
    said = calibration(tasks={"easy": 0.0, "hard": 0.5}).guarantee
    assert "the action behind a fresh reasoning, of its steps that kept one" in said
    assert "30% of the steps kept a reasoning" in said and "1 of 2 tasks" in said
    assert "skip" not in said and "database" not in said
    assert "no reasoning is kept" in calibration(chosen=None).guarantee


WORDS = EcotAnswer(356, 64, frozenset({2}))


def answer(action=200, gripper=300, word=50):
    return (word, 51, *(action,) * 6, gripper, 2)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (answer(word=60), True),
        ((61, 62, 63, *answer(action=210)), True),
        (answer(action=211), False),
        (answer(gripper=301), False),
        ((50, 51, 2), False),
    ],
)
def test_actions_are_compared_whatever_words_are_around_them(other, alike):
    assert acts_alike(answer(), other, WORDS) == alike


def thinking(found, **settings):
    class Codec(EcotAnswer):
        horizon, dimensions = 1, 7

        def decode(self, tokens):
            return [[0.0] * 7]

        def text(self, tokens):
            return "words"

        def kept(self, tokens, again):
            return tuple(tokens[:2])

    values = ReasoningSettings(**{"keep": "motion", "clearance": 0, "steps": 4, **settings})
    limit = None if found is None else found.limit(load_mode("heisd_reason"))
    return Thinking(values, Codec(356, 64, frozenset({2})), found, limit)


def kept_in(subject, values, task=TASK):
    """Which of the steps, at values of the metric, kept the reasoning."""
    seen = []
    for value in values:
        motion = MetricSample(value, 0.1, 0.1, 0.1, "paper", True, "velocity")
        kept = subject.decide(task, FAST, motion=motion).kept
        subject.note(answer(), kept)
        seen.append(bool(kept))
    return seen


def test_the_chosen_setting_says_how_often_in_a_row_and_above_which_metric():
    values = [0.3] * 7
    assert kept_in(thinking(calibration()), values) == [False, True, True] * 2 + [False]
    assert kept_in(thinking(calibration(chosen=1)), values) == [False] * 7
    assert kept_in(thinking(calibration(chosen=0)), [0.7] * 4) == [False, True, False, True]
    assert kept_in(thinking(None), values) == [False, *[True] * 4, False, True]
    assert "without a calibration" in thinking(None).warning
    assert not thinking(calibration()).warning and not thinking(None, keep="never").warning


def test_nothing_is_kept_where_no_setting_or_task_passed():
    none = thinking(calibration(chosen=None))
    assert kept_in(none, [0.9] * 3) == [False] * 3
    assert "no calibrated setting keeps the risk of 5.0%" in none.warning
    gated = calibration(tasks={TASK: 0.5, "other": 0.0})
    assert kept_in(thinking(gated), [0.9] * 3) == [False] * 3
    assert kept_in(thinking(gated), [0.9] * 3, "other") == [False, True, True]


def test_a_shadow_check_that_disagrees_is_followed_by_thinking_and_by_an_alarm():
    subject = thinking(calibration(risk=0.3, tried=(tried(disagreement=0.3),) * 3))
    seen = []
    for _ in range(12):
        kept = kept_in(subject, [0.9] * 2)
        if kept[-1]:
            subject.observe_shadow(False)
        seen.append(kept_in(subject, [0.9])[0])
        subject.reset()
    assert not any(seen)
    assert kept_in(subject, [0.9] * 3) == [False] * 3
    assert "shadow-checked steps left the tolerance, calibrated were 30.0%" in subject.warning
    calm = thinking(calibration())
    for _ in range(12):
        kept_in(calm, [0.9] * 2)
        calm.observe_shadow(True)
        calm.reset()
    assert not calm.warning


def test_the_alarm_of_a_task_ends_the_keeping_in_that_task_alone():
    subject = thinking(calibration(risk=0.5, tried=(tried(disagreement=0.5),) * 3))
    for _ in range(12):
        for task, agreed in ((TASK, False), ("other", True), ("third", True)):
            if kept_in(subject, [0.9] * 2, task)[-1]:
                subject.observe_shadow(agreed)
            subject.reset()
    assert kept_in(subject, [0.9] * 2) == [False] * 2
    assert kept_in(subject, [0.9] * 2, "other") == [False, True]
    assert f"no reasoning in {TASK!r} is kept until" in subject.warning


def test_a_kept_step_is_decoded_in_full_while_the_arm_moves():
    model, mode = load_checkpoint(REFERENCE.folder), load_mode("freeze")
    mode = replace(mode, reasoning=replace(mode.reasoning, shadow_share=1.0))
    decoder, plain = Assembly(REFERENCE.folder).decoder(model, mode), AutoregressiveDecoder(model)
    for frame in ("ep0", "ep1", "ep2"):
        seen = Observation((REFERENCE.image(f"image_{frame}.png"),), TASK)
        result = decoder.infer(seen)
        settled = decoder.settle()
        assert (settled is None) == (result.source != "kept")
        if settled is not None:
            alike = acts_alike(result.tokens, plain.infer(seen).tokens, model.codec)
            assert settled.agrees == alike and settled.ms > 0


def test_it_lies_beside_the_checkpoint_and_is_of_one_mode_and_scale(tmp_path):
    folder = tmp_path / "ecot"
    shutil.copytree(REFERENCE.folder, folder)
    model, mode = load_checkpoint(folder), load_mode("heisd_reason")
    assembly = Assembly(folder)
    assert "without a calibration" in assembly.decoder(model, mode).warning()
    made = calibration(
        steps=(1, 1, 1),
        settings=mode.decisive(),
        scale=scale_of(mode, assembly.bounds(mode)),
        model_fingerprint=fingerprint(folder),
    )
    made.save(folder)
    assert assembly.calibration(mode) == made
    assert assembly.boundary(mode) == made.boundary[made.chosen]
    decoder = assembly.decoder(model, mode)
    motion = MetricSample(0.9, 0.1, 0.1, 0.1, "paper", True, "velocity")
    seen = Observation((REFERENCE.image("image_ep0.png"),), TASK, None, motion)
    assert [str(decoder.infer(seen).source) for _ in range(3)] == ["tags", "kept", "last_command"]
    assert not decoder.warning()
    # Another mode keeps its published default and says so.
    assert assembly.calibration(load_mode("freeze")) is None
    assert "without a calibration" in assembly.decoder(model, load_mode("freeze")).warning()
    with pytest.raises(CalibrationError, match="of other settings than the mode's"):
        assembly.decoder(model, load_mode("freeze"), calibration=made)
    bounds = folder / BOUNDS_FILE
    bounds.write_text(assembly.bounds(mode).to_json().replace("0.25", "0.75"))
    assert Assembly(folder).calibration(mode) is None
    assert Assembly(folder).boundary(mode) == Assembly(folder).bounds(mode).boundary
    values = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(values | {"model_fingerprint": "model-b"}))
    with pytest.raises(CalibrationError, match="rebuilt or replaced"):
        Assembly(folder).check(mode)


def test_a_boundary_that_cannot_be_left_is_refused():
    mode = load_mode("heisd_reason")
    wide = replace(mode, boundary=replace(mode.boundary, hysteresis=0.2))
    with pytest.raises(ModeError, match=r"boundary\.hysteresis is 0\.2"):
        calibration().limit(wide)
