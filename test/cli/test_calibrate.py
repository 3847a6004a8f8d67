"""`heisd calibrate` with a real database and made-up episodes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support.evaluations import made_up_results
from support.fake_scene import KinematicScene
from support.probed import ROW, table
from support.references import FamilyReference
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.tree import ROOT
from typer.testing import CliRunner

from heisd_ros.cli import calibrate, calibrate_predictor
from heisd_ros.cli.main import app
from heisd_ros.decoding import reasoning_calibration
from heisd_ros.decoding.assembly import Assembly
from heisd_ros.decoding.calibration import FILE, Calibration
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.predictor import FILE as PREDICTOR
from heisd_ros.decoding.predictor import Predictor
from heisd_ros.decoding.reasoning_calibration import MEASURED, ReasoningCalibration
from heisd_ros.evaluation import calibration_rig, predictor_rig
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.evaluation.calibration_run import FILE as RUN
from heisd_ros.evaluation.predictor_steps import FILE as PROBED
from heisd_ros.retrieval.entries import COLUMNS, Entries
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER, FeatureLayout, Manifest
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.writer import write_database
from heisd_ros.vla.checkpoint_files import fingerprint

ECOT = ROOT / "test" / "data" / "ecot_reference"
SIZE, EPISODES, FRAMES = 6, 4, 5


def entries(seed):
    rng = np.random.default_rng(seed)
    number = EPISODES * FRAMES
    keys = rng.normal(size=(number, SIZE)).astype(np.float32)
    columns = {
        name: rng.normal(size=(number, *column.row(UNNAMED_ANSWER)))
        for name, column in COLUMNS.items()
    }
    columns["tokens"] = rng.integers(264, 520, (number, 7))
    columns["episodes"] = np.repeat(np.arange(EPISODES), FRAMES)
    columns["steps"] = np.tile(np.arange(FRAMES), EPISODES)
    return Entries(keys=keys / np.linalg.norm(keys, axis=1, keepdims=True), **columns)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


def make_database(folder, model, states="0-29"):
    projection = Projection(np.zeros(SIZE, np.float32), np.eye(SIZE, dtype=np.float32))
    description = Manifest(
        model_fingerprint=fingerprint(model),
        statistics_key="test",
        robot="panda",
        control_rate_hz=20.0,
        features=FeatureLayout(views=("agentview",), towers=(SIZE,), size=SIZE, kept=SIZE),
        provenance={"states": states},
    )
    shards = {text: entries(seed) for seed, text in enumerate(INSTRUCTIONS)}
    return write_database(folder, description, shards, projection)


@pytest.fixture
def world(tmp_path, model, monkeypatch):
    """A database, and episodes that lose more the looser the setting is; run in this process."""
    ran = []
    manifest = make_database(tmp_path / "database", model)

    def episode(place, candidate, setting, number, start):
        ran.append((setting, start.task_index, start.init_state))
        runs = getattr(candidate, "runs", ())
        lost = (number % 2 == 0 and setting == 2) if runs else False
        return setting, number, EpisodeLoss((setting + 1) * 10, setting, 50, 100, not lost)

    def run_jobs(function, jobs, label, workers):
        return (function(*job) for job in jobs)

    monkeypatch.setattr(calibration_rig, "run_episode_of", episode)
    monkeypatch.setattr(calibrate, "run_jobs", run_jobs)

    class World:
        folder = tmp_path / "database"
        database = manifest
        episodes = ran

        def call(self, *options):
            words = [self.folder, "--model", model, "--task", 0, "--task", 1, *options]
            return CliRunner().invoke(calibrate.app, [str(word) for word in words])

    return World()


def test_the_result_lies_in_the_database_and_is_what_the_walk_gives(world, model):
    # Losses of the three settings: 0, 1/20 and 2/30.
    result = world.call(
        "--risk", 0.1, "--episodes", 30, "--level", 0.5, "--level", 0.8, "--level", 1
    )
    assert result.exit_code == 0, result.output
    found = Calibration.load(world.folder, world.database.database_id, fingerprint(model))
    assert (found.chosen, found.risk, found.episodes) == (2, 0.1, 30)
    assert [tried.loss for tried in found.tried] == pytest.approx([0, 1 / 20, 2 / 30])
    assert (found.mode, found.suite, found.k) == ("heisd", "libero_spatial", 5)
    said = " ".join(result.output.split())
    assert "tolerance around the VLA's own action" in said and FILE in result.output
    assert found.settings == load_mode("heisd").decisive()
    assert found.starts[:3] == ((0, 32, 0), (1, 32, 0), (0, 33, 0)) and len(found.starts) == 30
    assert len(set(found.starts)) == 30, "each start is used once"
    assert sorted(found.tasks.values()) == pytest.approx([2 / 30] * 2)
    assert all("black bowl" in task for task in found.tasks)
    assert "3 *" in result.output
    assert len(world.episodes) == 90
    assert {(task, state) for _, task, state in world.episodes} == {
        (task, state) for task in (0, 1) for state in range(32, 40)
    }


def test_starts_are_drawn_fresh_by_a_seed_and_each_is_used_once(world, model):
    options = ("--risk", 0.1, "--episodes", 30, "--level", 1, "--draw")
    drawn = []
    for seed in (3, 4):
        assert world.call(*options, seed).exit_code == 0
        found = Calibration.load(world.folder, world.database.database_id, fingerprint(model))
        drawn.append(set(found.starts))
        assert all(variation > 0 for _, _, variation in found.starts)
        (world.folder / RUN).unlink()
    assert [len(starts) for starts in drawn] == [30, 30] and not drawn[0] & drawn[1]
    world.call(*options, 3)
    assert "another provenance" in world.call(*options, 4).output.replace("│", " ")


def test_a_second_call_runs_nothing_again(world):
    options = ("--risk", 0.1, "--episodes", 30, "--level", 0.5, "--level", 1)
    world.call(*options)
    before = len(world.episodes)
    assert world.call(*options).exit_code == 0
    assert len(world.episodes) == before
    (world.folder / RUN).unlink()
    world.call(*options)
    assert len(world.episodes) == 2 * before


def test_the_first_failure_ends_the_walk(world):
    result = world.call("--risk", 0.05, "--episodes", 60, "--level", 0.5, "--level", 0.8)
    assert "1 *" in result.output
    # (sum + 1) / 61 exceeds 5% once 42 episodes of the second setting have lost 1/20.
    assert len(world.episodes) == 60 + 42


def test_an_excess_is_shown_by_pairs_along_run_lengths(world, model):
    """Three in a row fail half of the pairs, which ends the walk; two were shown."""
    options = ("--criterion", "excess", "--draw", 3, "--episodes", 80)
    result = world.call(*options)
    assert result.exit_code == 0, result.output
    found = Calibration.load(world.folder, world.database.database_id, fingerprint(model))
    assert (found.chosen, found.runs, found.delta) == (1, (1, 2, 3, 5, 10), 0.1)
    assert [(row.episodes, row.lost) for row in found.tried] == [(80, 0), (80, 0), (80, 40)]
    assert len(set(found.starts)) == 80 and all(variation for *_, variation in found.starts)
    assert [setting for setting, *_ in world.episodes].count(-1) == 80, "the plain loop ran once"
    assert "at most 2 skips in a row" in found.guarantee and "80 pairs" in found.guarantee
    assert found.longest_run(found.chosen, 10) == 2
    before = len(world.episodes)
    assert world.call(*options).exit_code == 0
    assert len(world.episodes) == before, "a finished run is resumed"
    found.check_mode(load_mode("heisd"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--criterion", "excess"), "--draw SEED"),
        (("--criterion", "excess", "--draw", "1", "--episodes", "50"), "at least 68"),
        (("--run", "3"), "criterion excess alone"),
        (("--criterion", "excess", "--draw", "1", "--run", "3", "--run", "2"), "rising"),
        (("--episodes", "18"), "at least 19"),
        (("--risk", "1.5"), "between 0 and 1"),
        (("--mode", "ar"), "nothing to calibrate"),
        (("--mode", "hasty"), "unknown mode"),
        (("--level", "0.9", "--level", "0.5"), "levels"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_says_why(world, options, problem):
    result = world.call(*options)
    assert result.exit_code == 2
    # The terminal breaks lines within a box.
    assert problem in " ".join(result.output.replace("│", " ").split())
    assert not world.episodes


def test_a_run_in_another_number_format_is_another_run(world):
    assert world.call().exit_code == 0
    result = world.call("--dtype", "bfloat16")
    assert result.exit_code == 2
    assert "another" in " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def reasoning(world, tmp_path):
    """The world with the checkpoint of a model that reasons in the place of its database."""
    world.folder = tmp_path / "ecot"
    shutil.copytree(ECOT, world.folder)
    world.call = lambda *options: CliRunner().invoke(
        calibrate.app, [str(word) for word in (world.folder, "--task", 0, "--task", 1, *options)]
    )
    return world


def test_how_long_reasonings_are_kept_is_chosen_and_lies_beside_the_checkpoint(reasoning):
    # Losses of the settings: 0, 1/20, 2/30; the bound of the last is the first above 9%.
    options = ("--mode", "heisd_reason", "--risk", 0.09, "--episodes", 30)
    result = reasoning.call(*options)
    assert result.exit_code == 0, result.output
    folder, mode = reasoning.folder, load_mode("heisd_reason")
    found = ReasoningCalibration.load(folder, fingerprint(folder))
    measured = [setting / (10 * setting + 10) for setting in range(len(MEASURED))]
    within = [(30 * loss + 1) / 31 <= 0.09 for loss in measured]
    assert found.chosen == within.index(False) - 1
    assert (found.steps, found.boundary) == tuple(zip(*MEASURED, strict=True))
    assert found == Assembly(folder).calibration(mode), "the decoder of the mode finds it"
    said = " ".join(result.output.replace("│", " ").split())
    assert "the action behind a fresh reasoning" in said and "F >=" in said
    before = len(reasoning.episodes)
    assert reasoning.call(*options).exit_code == 0 and len(reasoning.episodes) == before
    assert Assembly(folder).calibration(load_mode("freeze")) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--criterion", "excess", "--draw", 1), "are of skipping, and mode 'freeze'"),
        (("--level", 0.5), "are of skipping, and mode 'freeze'"),
        (("--model", "elsewhere"), "lies beside its checkpoint; accepted:"),
        (("--mode", "heisd"), "heisd db build` makes one"),
    ],
)
def test_what_is_of_skipping_is_refused_for_reasonings(reasoning, options, problem):
    result = reasoning.call("--mode", "freeze", *options)
    assert result.exit_code == 2 and not reasoning.episodes
    assert problem in " ".join(result.output.replace("│", " ").split())


class Table(KinematicScene):
    """The fake scene as one of LIBERO with the reference's pictures; solved after three steps."""

    suite, task_index = "libero_spatial", 0

    def __init__(self):
        super().__init__(goal_steps=3)
        self.instruction = "put the spoon on the towel"

    def images(self):
        return {"agentview": FamilyReference("ecot").image(f"image_ep{len(self.actions)}.png")}


def test_a_kept_step_of_an_episode_is_decoded_in_full_in_shadow(monkeypatch, tmp_path):
    """A tiny model that reasons, from its checkpoint to the file that its mode then uses."""
    folder, protocol = tmp_path / "ecot", tmp_path / "protocol.yaml"
    shutil.copytree(ECOT, folder)
    protocol.write_text("data: {views: [agentview]}\n")
    monkeypatch.setattr(reasoning_calibration, "COUNTED", (1, 2))
    monkeypatch.setattr(calibration_rig, "make_scene", lambda *_: Table())
    monkeypatch.setattr(calibrate, "run_jobs", lambda f, jobs, *_: (f(*job) for job in jobs))
    words = [folder, "--mode", "freeze", "--task", 0, "--episodes", 1, "--risk", 0.9,
             "--protocol", protocol, "--unnorm-key", "bridge_orig"]  # fmt: skip
    result = CliRunner().invoke(calibrate.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    found = Assembly(folder).calibration(load_mode("freeze"))
    assert [row.skip_rate for row in found.tried] == pytest.approx([1 / 3, 2 / 3])
    assert found.chosen == sum(row.bound <= 0.9 for row in found.tried) - 1
    assert {row.success_rate for row in found.tried} == {1.0}


def test_a_database_of_the_states_to_calibrate_with_is_refused(world, model):
    make_database(world.folder, model, states="0-33")
    result = world.call()
    assert result.exit_code == 2 and "[32, 33]" in result.output


def test_a_mode_that_executes_demonstrations_is_calibrated_on_their_tokens(world, tmp_path):
    mode = tmp_path / "own.yaml"
    mode.write_text(
        "propose: retrieval\nretrieval: {payload: demonstrated}\nskip: {policy: calibrated}\n"
    )
    spreads = []
    for name in ("heisd", str(mode)):
        assert world.call("--mode", name, "--risk", 0.2, "--episodes", 19).exit_code == 0
        spreads.append((world.folder / FILE).read_text().split('"dispersion"')[1][:60])
        (world.folder / RUN).unlink()
    assert spreads[0] != spreads[1]
    assert '"mode": "own"' in (world.folder / FILE).read_text()


@pytest.fixture
def probed(world, monkeypatch):
    """Episodes of made-up steps at which every way was tried."""
    columns, episode = table(episodes=12, each=40)
    times = {"source": "llrl" * 10, "passes": [1, 2, 2, 2] * 10, "ms": [9.0, 13.0, 14.0, 13.0] * 10}

    def probe(place, number, start):
        world.episodes.append(start)
        row = {**ROW, **times, "task_index": start.task_index, "init_state": start.init_state}
        steps = columns[episode == number].tolist()
        return number, row, [[None if x != x else x for x in step] for step in steps]

    monkeypatch.setattr(predictor_rig, "probe_of", probe)
    monkeypatch.setattr(calibrate_predictor, "run_jobs", calibrate.run_jobs)
    return world


FIT = ("--criterion", "predictor", "--mode", "heisd_predicted", "--episodes")


def test_a_predictor_is_fitted_and_bound_to_what_it_is_of(probed, model):
    result = probed.call(*FIT, 12)
    assert result.exit_code == 0, result.output
    found = Predictor.load(probed.folder)
    mode = load_mode("heisd_predicted")
    found.check(probed.database.database_id, fingerprint(model), None, mode)
    assert (found.costs.step, found.costs.language) == pytest.approx((5.0, 4.0))
    assert found.starts[:3] == ((0, 32, 0), (1, 32, 0), (0, 33, 0)) and len(found.starts) == 12
    said = " ".join(result.output.split())
    assert PREDICTOR in said and "each pass 4.0" in said and "last_command" in said
    assert len(probed.episodes) == 12
    assert probed.call(*FIT, 12).exit_code == 0 and len(probed.episodes) == 12, "it is resumed"


def test_a_predictor_takes_its_costs_from_a_results_file(probed, tmp_path):
    results = made_up_results()
    for row in results.episodes:
        row["passes"] = [1 + i % 2 for i in range(row["steps"])]
        row["source"] = "l" * row["steps"]
        row["ms"] = [20.0 + 5.0 * passes for passes in row["passes"]]
    path = tmp_path / "eval.json"
    path.write_text(json.dumps({**results.finish(), "episodes": results.episodes}))
    result = probed.call(*FIT, 12, "--costs", path)
    assert result.exit_code == 0, result.output
    assert Predictor.load(probed.folder).costs.language == pytest.approx(5.0)
    path.write_text("{}")
    assert probed.call(*FIT, 12, "--costs", path).exit_code == 2


def test_what_choosing_would_save_is_said_of_the_steps_of_a_fit(probed, tmp_path):
    probed.call(*FIT, 12)
    file, out = probed.folder / PROBED, tmp_path / "out" / "ablation.json"
    ran = CliRunner().invoke(app, ["predictor", str(file), "--json", str(out)])
    assert ran.exit_code == 0, ran.output
    found = json.loads(out.read_text())
    assert found["episodes"] == 12 and found["steps"] == 480
    assert "without any kinematic term" in found["auc"]
    assert "always retrieval" in found["modelled"]
    file.write_text(json.dumps({"run": {}, "episodes": {}}))
    ran = CliRunner().invoke(app, ["predictor", str(file)])
    assert ran.exit_code == 2 and "other columns" in " ".join(ran.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*FIT[:2], "--mode", "heisd", "--episodes", 12), "there is nothing to fit"),
        ((*FIT, 4), "at least 5 episodes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(probed, options, message):
    result = probed.call(*options)
    assert result.exit_code == 2 and message in " ".join(result.output.replace("│", "").split())


def test_a_database_that_holds_the_states_of_the_fit_is_refused(probed, model, tmp_path):
    probed.folder = tmp_path / "other"
    make_database(probed.folder, model, states="0-35")
    result = probed.call(*FIT, 12)
    assert result.exit_code == 2 and "which are to calibrate with" in result.output
