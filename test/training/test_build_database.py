"""From files of demonstrations to a database that opens and answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.episodes import episode
from support.references import FamilyReference
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.decoding.answer_actions import answer_of
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import DatabaseError, DemonstrationError, UnknownInstructionError
from heisd_ros.families.checkpoint import load_checkpoint as load_any
from heisd_ros.families.checkpoint import preparation
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.trainable import Corpus
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricSample, Trajectory
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import AnswerSize
from heisd_ros.training.build_database import build_database, metric_bounds
from heisd_ros.training.dataset import action_chunks, episode_proprio
from heisd_ros.training.encode_frames import read_frames
from heisd_ros.vla.checkpoint_files import fingerprint

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
RATE_HZ = 20.0
ECOT = FamilyReference("ecot").folder
MOTION = MetricSample(0.9, 0.1, 0.1, 0.1, "paper", True, "velocity")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def vla(checkpoint):
    return load_checkpoint(checkpoint)


def recording(instruction, state, steps=10, seed=0, **changes):
    return episode(steps=steps, seed=seed, instruction=instruction, init_state=state, **changes)


def write(folder, name, *episodes):
    writer = LiberoWriter(folder / f"{name}_demo.hdf5", episodes[0].instruction, "x.bddl", {})
    for seed, recorded in enumerate(episodes):
        writer.add(recorded, seed, np.zeros((len(recorded), 4)), "")


@pytest.fixture
def demonstrations(tmp_path):
    """Two folders with the same two tasks; states 30 and above are for others."""
    for number, folder in enumerate((tmp_path / "demos", tmp_path / "dagger")):
        for task, instruction in enumerate(INSTRUCTIONS):
            seed = 10 * number + 3 * task
            write(
                folder,
                f"task{task}",
                recording(instruction, 3, seed=seed),
                recording(instruction, 29, steps=8, seed=seed + 1),
                recording(instruction, 30, seed=seed + 2),
            )
    return [tmp_path / "demos", tmp_path / "dagger"]


def build(vla, demonstrations, folder, **options):
    sources = open_sources(demonstrations, Reading())
    return build_database(vla, "f" * 64, sources, folder, RATE_HZ, **options)


def test_a_database_holds_what_was_demonstrated_and_what_the_model_says(
    vla, demonstrations, tmp_path
):
    seen = []
    manifest = build(
        vla, demonstrations, tmp_path / "db", batch_size=4, on_frames=lambda *row: seen.append(row)
    )
    assert seen == [(done, 72) for done in (10, 18, 28, 36, 46, 54, 64, 72)]
    database = Database.open(tmp_path / "db", "f" * 64, robot="panda")
    assert database.manifest == manifest
    assert (manifest.control_rate_hz, manifest.statistics_key) == (RATE_HZ, "test")
    features = manifest.features
    assert (features.views, features.towers) == (("agentview", "wrist"), (16, 16))
    assert features.size == 64
    assert [(shard.instruction, len(shard)) for shard in database] == [
        (instruction, 36) for instruction in INSTRUCTIONS
    ]
    for number, recorded in (
        (0, recording(INSTRUCTIONS[0], 3, seed=0)),
        (7, recording(INSTRUCTIONS[1], 29, steps=8, seed=14)),
    ):
        frames = read_frames(vla, recorded, episode_proprio(recorded, ARM), 10)
        shard, _ = database.shard_for(recorded.instruction)
        for step in range(len(recorded)):
            matches = shard.search(frames.keys[step], 1)
            assert (matches.episodes[0], matches.steps[0]) == (number, 2 * step)
            np.testing.assert_array_equal(matches.tokens[0], frames.tokens[step])
            np.testing.assert_allclose(matches.actions[0], recorded.actions[step], rtol=1e-6)


def test_a_model_of_another_family_fills_it_with_its_own_answers(tmp_path):
    write(tmp_path / "demos", "task0", recording(INSTRUCTIONS[0], 3, steps=4))
    ecot = load_any(ECOT, convention=DataConvention(views=("agentview",)), max_tokens=12)
    build(ecot, [tmp_path / "demos"], tmp_path / "db")
    database = Database.open(tmp_path / "db", "f" * 64)
    recorded = recording(INSTRUCTIONS[0], 3, steps=4)
    decoder = AutoregressiveDecoder(ecot)
    answers = [
        decoder.infer(Observation((picture,), recorded.instruction)).tokens
        for picture in recorded.images["agentview"]
    ]
    assert database.manifest.answer == AnswerSize(max(map(len, answers)), 7)
    assert database.manifest.statistics_key == ecot.statistics_key != ""
    (shard,) = database
    assert [answer_of(row) for row in shard.columns["tokens"]] == answers
    # The nearest frame of the first frame is itself, whose answer then passes at once.
    for name in ("rsd", "heisd_exact"):
        mode = load_mode(name)
        few = replace(mode, retrieval=replace(mode.retrieval, k=1))
        result = build_decoder(ecot, few, database=database).infer(
            Observation((recorded.images["agentview"][0],), recorded.instruction, None, MOTION)
        )
        assert result.tokens == answers[0]
    assert result.passes < 4


def test_chunks_are_of_control_steps_not_of_recorded_ones(vla, tmp_path):
    recorded = recording(INSTRUCTIONS[0], 3, steps=5)
    write(tmp_path / "demos", "task0", recorded)
    chunks = action_chunks(recorded, 4)
    state = episode_proprio(recorded, ARM)
    corpus = Corpus(INSTRUCTIONS, state, recorded.actions, (), chunks)
    chunked = preparation("pi0fast").prepare(corpus, vla, 0).vla
    build(chunked, [tmp_path / "demos"], tmp_path / "db")
    (shard,) = Database.open(tmp_path / "db", "f" * 64)
    np.testing.assert_allclose(shard.columns["actions"], chunks.reshape(5, -1), rtol=1e-6)


def test_actions_of_another_size_are_refused(tmp_path, vla, demonstrations, monkeypatch):
    monkeypatch.setattr(type(vla.codec), "dimensions", 8)
    with pytest.raises(DatabaseError, match="actions have 7 numbers, the model's 8"):
        build(vla, demonstrations, tmp_path / "db")


def test_every_folder_adds_to_the_same_shards(vla, demonstrations, tmp_path):
    manifest = build(vla, demonstrations, tmp_path / "db")
    assert [(shard.episodes, shard.entries) for shard in manifest.shards] == [(4, 36)] * 2
    assert manifest.provenance["states"] == "0-29"
    assert manifest.provenance["demonstrations"] == {
        f"{folder}/task{task}_demo.hdf5": {"episodes": 2, "frames": 18, "numbers": numbers}
        for (folder, task), numbers in zip(
            ((folder, task) for folder in ("demos", "dagger") for task in (0, 1)),
            ("0-1", "2-3", "4-5", "6-7"),
            strict=True,
        )
    }
    assert str(tmp_path) not in manifest.to_json()


def test_states_choose_the_episodes(vla, demonstrations, tmp_path):
    manifest = build(vla, demonstrations, tmp_path / "db", states={3, 30, 31})
    assert manifest.entries == 2 * 2 * 20
    assert manifest.provenance["states"] == "3,30-31"


def test_episodes_that_name_no_state_are_taken(vla, tmp_path):
    write(tmp_path / "libero", "a", recording(INSTRUCTIONS[0], None))
    assert build(vla, [tmp_path / "libero"], tmp_path / "db").entries == 10


def test_no_episode_of_these_states_is_an_error(vla, demonstrations, tmp_path):
    with pytest.raises(DatabaseError, match=r"no episode of the initial states 5-7,9; record more"):
        build(vla, demonstrations, tmp_path / "db", states=[9, 5, 6, 7])
    assert not (tmp_path / "db").exists()


def test_no_files_and_other_tasks_are_errors(vla, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DemonstrationError, match="heisd demos"):
        build(vla, [tmp_path / "none"], tmp_path / "db")
    write(tmp_path / "other", "a", recording("dance", 0))
    with pytest.raises(UnknownInstructionError, match="dance"):
        build(vla, [tmp_path / "other"], tmp_path / "db")


def test_a_folder_of_something_else_is_refused_before_the_work(vla, demonstrations, tmp_path):
    with pytest.raises(DatabaseError, match="something else than a database"):
        build(vla, demonstrations, tmp_path, on_frames=lambda *row: pytest.fail("too late"))


def test_a_model_with_other_proprioception_is_refused(demonstrations, tmp_path):
    vla = load_checkpoint(save_tiny_checkpoint(tmp_path / "model", proprio_size=3))
    with pytest.raises(DatabaseError, match="takes 3 numbers of proprioception"):
        build(vla, demonstrations, tmp_path / "db")


def test_a_model_without_proprioception_builds_too(demonstrations, tmp_path):
    vla = load_checkpoint(save_tiny_checkpoint(tmp_path / "model", proprio_size=0))
    assert build(vla, demonstrations, tmp_path / "db").entries == 72


def test_features_that_are_not_finite_name_their_episode(checkpoint, demonstrations, tmp_path):
    vla = load_checkpoint(checkpoint)
    next(vla.model.vision_backbone.parameters()).fill_(float("nan"))
    with pytest.raises(DatabaseError, match=r"episode 0, 'pick up the bowl': keys of entries"):
        build(vla, demonstrations, tmp_path / "db")


def test_the_fingerprint_is_the_checkpoints(checkpoint, vla, demonstrations, tmp_path):
    sources = open_sources(demonstrations, Reading())
    build_database(vla, fingerprint(checkpoint), sources, tmp_path / "db", RATE_HZ)
    Database.open(tmp_path / "db", fingerprint(checkpoint))


def test_bounds_of_every_kind_come_from_the_demonstrations(vla, demonstrations, tmp_path):
    build(vla, demonstrations, tmp_path / "db")
    database = Database.open(tmp_path / "db", "f" * 64)
    for kind in ("paper", "legacy", "speed"):
        assert database.bounds(kind).settings.kind == kind
        assert 0.0 <= database.bounds(kind).boundary <= 1.0


def test_kinds_whose_window_nobody_fills_have_no_bounds(vla, tmp_path):
    short = Trajectory(np.eye(6, 3), np.arange(6) / RATE_HZ)
    assert sorted(metric_bounds([short])) == ["legacy", "speed"]
    assert metric_bounds([]) == {}
    write(tmp_path / "libero", "a", recording(INSTRUCTIONS[0], 0, joint_velocities=None))
    assert build(vla, [tmp_path / "libero"], tmp_path / "db").bounds == {}
