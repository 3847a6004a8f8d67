"""A recording through the node's inputs and decoding, on the clock of the bag."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import support
from support.bags import SECOND, START, image, joint_state, text
from support.replay_bags import (
    IMAGE,
    IMAGE_WRIST,
    INSTRUCTION,
    JOINTS,
    PERIOD,
    TELEMETRY,
    Recording,
    cell,
    compressed,
    telemetry,
)
from support.tiny_vla import INSTRUCTIONS
from support.tree import ROOT

from heisd_ros import families
from heisd_ros.control.policy import make_policy
from heisd_ros.decoding.acceptance import within_tolerance
from heisd_ros.decoding.answer_actions import action_of
from heisd_ros.decoding.types import Source, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper
from heisd_ros.families.ecot.codec import EcotAnswer
from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
    panda_urdf,
)
from heisd_ros.replay.describe import describe
from heisd_ros.replay.run import replay_bag
from heisd_ros.replay.summary import is_wrong, summarise
from heisd_ros.retrieval.manifest import MANIFEST, Manifest
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

families.__path__.append(str(Path(support.__path__[0]) / "families"))

from heisd_ros.families.toy.codec import ToyCodec  # noqa: E402

KEY = "bridge_orig"
WORDS = EcotAnswer(356, 64, frozenset({2}))


@pytest.fixture
def replayed(equipped, tmp_path):
    """Writes a recording, replays it, and returns what the results file would hold."""

    def run(recording, modes=("ar",), remaps=(), instruction=None, storage="mcap", **settings):
        bag = recording.write(tmp_path / f"bag{len(list(tmp_path.iterdir()))}", storage)
        model = {"model.path": str(equipped), "model.threads": 1}
        parameters = from_values(VlaNodeParameters, model | settings)
        came = replay_bag(bag, parameters, modes, dict(remaps), instruction)
        return summarise(came, describe(bag, parameters, list(dict.fromkeys(["ar", *modes]))))

    return run


@pytest.fixture
def skipping(tmp_path):
    """A mode that executes every retrieved action first and verifies it while the arm moves."""
    path = tmp_path / "skipping.yaml"
    path.write_text("propose: retrieval\nskip: {policy: always, shadow_share: 1.0}\n")
    return str(path)


def shifted(recording, change, topic=None):
    """The recording with each entry's (after, message) changed; None leaves it out."""
    entries = []
    for after, name, message in recording.ordered():
        changed = change(after, message) if topic in (None, name) else (after, message)
        if changed is not None:
            entries.append((changed[0], name, changed[1]))
    return Recording(entries)


def at(steps, mode="ar"):
    """When the steps of a mode were taken, control periods since the first message."""
    return np.array(steps[mode]["ms_since_start"]) * 1e6 / PERIOD


def test_storage_and_image_transport_make_no_difference(replayed):
    plain = replayed(cell(6))
    topics = (f"{IMAGE}/compressed", f"{IMAGE_WRIST}/compressed")
    for other in (
        replayed(cell(6), storage="sqlite3"),
        replayed(cell(6, picture=compressed, topics=topics)),
    ):
        assert other["steps"] == plain["steps"] and other["modes"] == plain["modes"]
        assert other["bag"] != plain["bag"]


def test_one_step_a_control_period_on_the_newest_set(replayed):
    """Cameras at 20, 40 and 10 Hz; the model was trained at 20."""
    for factor, steps, superseded in ((1.0, 20, 0), (0.5, 10, 10), (2.0, 20, 0)):
        rescaled = shifted(cell(20), lambda after, message, f=factor: (int(after * f), message))
        for index, (after, topic, message) in enumerate(rescaled.entries):
            if topic != INSTRUCTION:
                stamp = START + after // 100_000 * 100_000  # pictures of one moment share it
                sec, nanosec = divmod(stamp, SECOND)
                message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
                rescaled.entries[index] = (after, topic, message)
        results = replayed(rescaled)
        sets = results["modes"]["ar"]["inputs"]["sets"]
        taken = results["modes"]["ar"]["steps"]
        assert abs(taken - steps) <= 1 and abs(sets.get("superseded", 0) - superseded) <= 1
        assert sets["complete"] == taken + sets.get("superseded", 0)
        assert (np.diff(at(results["steps"])) >= 0.89).all()


def test_deviation_from_telemetry_is_by_the_stamp_of_the_observation(replayed):
    actions = replayed(cell(8))["steps"]["ar"]["action"]
    recording = cell(8)
    for step, action in enumerate(actions):
        after = step * PERIOD + 1_000_000
        moved = np.add(action, [0.25, 0, 0, 0, 0, 0, 0])
        # Late, and with holds between: only the stamp says what it answers.
        recording.add(after + 3 * PERIOD, TELEMETRY, telemetry(START + after, moved))
        recording.add(after + 3 * PERIOD, TELEMETRY, telemetry(START + after, [], hold=True))
    found = replayed(recording)["modes"]["ar"]["deviation"]["recorded"]
    assert found["steps"] == 8 and found["unit"] == "units of the action"
    for axis, numbers in found["axes"].items():
        assert numbers["mean"] == numbers["max"] == pytest.approx(0.25 * (axis == "x"), abs=1e-6)


def test_deviation_from_a_twist_is_in_si_units(replayed):
    results = replayed(cell(8, with_twist=True))
    found = results["modes"]["ar"]["deviation"]["recorded"]
    assert found["steps"] == 8 and found["unit"] == "m/s and rad/s"
    wanted = [0.5 * np.sin(step / 5.0) for step in range(8)]
    ours = np.array(results["steps"]["ar"]["action"])[:, 0] * 0.05 * 20.0
    assert found["axes"]["x"]["max"] == pytest.approx(np.abs(ours - wanted).max(), abs=1e-5)
    assert "gripper" not in found["axes"]


def test_skips_that_the_model_would_not_have_let_pass(replayed, skipping):
    results = replayed(cell(10), [skipping])
    ours, theirs = results["steps"]["skipping"], results["steps"]["ar"]
    wrong = [
        step
        for step, source in enumerate(ours["source"])
        if source == "s" and not within_tolerance(ours["tokens"][step], theirs["tokens"][step])
    ]
    skips = results["modes"]["skipping"]["skips"]
    assert ours["wrong_skips"] == wrong and skips["wrong"] == len(wrong) > 0
    assert skips["executed"] == ours["source"].count("s") < 10  # corrected steps are the model's
    # Verified while the arm moves: the same verdict, said by the decoder itself.
    assert [step for step, agrees in ours["settled"] if not agrees] == wrong
    off = results["modes"]["skipping"]["deviation"]["ar"]["axes"]["x"]
    apart = np.abs(np.array(ours["action"]) - np.array(theirs["action"]))[:, 0]
    assert off["mean"] == pytest.approx(apart.mean(), abs=1e-5)


class Says(DecoderWrapper):
    """Answers with the same tokens at each step, as if it skipped."""

    def __init__(self, decoder, codec, tokens, length=1):
        super().__init__(decoder)
        self.codec, self.tokens, self.length = codec, tokens, length

    def infer(self, observation):
        action = action_of(self.codec, self.tokens)._asdict()
        if self.length > 1:
            action["chunk"] = np.tile(action["action"], (self.length, 1))
        return StepResult(**action, tokens=self.tokens, source=Source.SKIP, reason="",
                          timings_ms={"total": 1.0}, passes=0)  # fmt: skip


@pytest.mark.parametrize(
    ("moved", "length", "wrong"),
    [
        ({}, 1, False),
        ({0: 1}, 1, False),
        ({0: 1, 1: 1, 2: 1}, 1, True),
        ({6: 1}, 1, True),
        ({6: 1}, 3, True),
    ],
)
def test_skips_of_fast_answers_are_judged_by_their_coefficients(
    replayed, monkeypatch, moved, length, wrong
):
    """Whatever their ids: a coefficient is 13 bins of a number, and the gripper's are exact."""

    def load(parameters, vla):
        codec = vla.codec
        numbers = [moved.get(at, 0) * (parameters.decoding.mode != "ar") for at in range(7)]
        text = "".join(chr(number - codec._fast.min_token) for number in numbers)
        ids = codec._fast.tokenizer.encode(text).ids
        said = (5, *(codec.action_ids.start + each for each in ids), min(codec.stop_ids))
        policy = make_policy(parameters, vla)
        many = 1 if parameters.decoding.mode == "ar" else length
        return replace(policy, decoder=Says(policy.decoder, codec, said, many))

    monkeypatch.setattr("heisd_ros.replay.run.make_policy", load)
    model = {"model.path": str(ROOT / "test/data/nora_reference"), "model.unnorm_key": KEY}
    results = replayed(cell(3), ["last_command"], **model)
    skips = results["modes"]["last_command"]["skips"]
    judged = [step for step in range(3) if step % length == 0]  # not later actions of a chunk
    assert (skips["executed"], skips["judged"]) == (3, len(judged))
    assert (skips["not judged"], skips["wrong"]) == (3 - len(judged), len(judged) * wrong)
    assert results["steps"]["last_command"]["wrong_skips"] == judged * wrong
    assert results["modes"]["ar"]["skips"]["wrong"] == 0


def step_of(tokens):
    return SimpleNamespace(record=SimpleNamespace(result=SimpleNamespace(tokens=tokens)))


@pytest.mark.parametrize(
    ("answer", "said", "own", "wrong"),
    [
        (ToyCodec(), (21, 30, 38), (21, 30, 38), False),
        (ToyCodec(), (21, 31, 38), (21, 30, 38), True),  # the next id is another number
        (WORDS, (9, 8, 7, *[210] * 6, 300, 2), (9, 8, 7, *[213] * 6, 300, 2), False),
        (WORDS, (9, 8, 7, *[210] * 6, 301, 2), (9, 8, 7, *[210] * 6, 300, 2), True),
        (WORDS, (), (9, 2), False),  # later actions of a chunk
        (WORDS, (9, 2), (), False),
    ],
)
def test_a_family_says_what_is_near(answer, said, own, wrong):
    assert is_wrong(step_of(said), step_of(own), answer) == wrong


def test_a_gap_holds_for_a_named_reason_and_ends(replayed):
    delayed = shifted(cell(20), lambda t, m: (t, m) if t < 10 * PERIOD else (t + SECOND, m))
    for after, topic, message in delayed.entries:
        if topic != INSTRUCTION and after > SECOND:
            message.header.stamp.sec += 1
    results = replayed(delayed)["modes"]["ar"]
    assert results["holds"]["stale_image"] == 1 and results["steps"] >= 18


def test_what_cannot_be_used_is_counted_by_input_and_reason(replayed):
    recording = cell(40)
    broken = image(START + 4 * PERIOD + 2_000_000, np.zeros((4, 4, 3), np.uint8))
    broken.data = broken.data[:-1]
    recording.add(4 * PERIOD + 2_000_000, IMAGE, broken)
    names = ["elbow"]
    recording.add(5 * PERIOD, JOINTS, joint_state(START, names, [float("nan")]))
    nan = next(m for t, topic, m in recording.entries if topic == JOINTS and t > 25 * PERIOD)
    nan.position[2] = float("nan")
    results = replayed(recording)["modes"]["ar"]
    rejected = results["inputs"]["rejected"]
    assert rejected["agentview"] == {"image has # bytes; accepted: # for # rows of #": 1}
    (reason,) = rejected["joint_states"]
    assert "must be finite" in reason
    assert results["holds"]["bad_image"] == results["holds"]["bad_joint_states"] == 1


def test_a_clock_that_is_set_back_is_counted_as_in_the_node(replayed):
    recording = cell(20)
    for after, topic, message in recording.entries:
        if topic != INSTRUCTION and after > 10 * PERIOD:
            message.header.stamp.sec -= 100
    results = replayed(recording)["modes"]["ar"]
    # Joint states come first and clear the buffer for all.
    assert results["inputs"]["sets"]["clock_jumps"] == 1 and results["steps"] == 20


def test_an_instruction_in_the_bag_or_by_hand(replayed):
    recording = cell(12)
    recording.add(6 * PERIOD, INSTRUCTION, text(INSTRUCTIONS[1]))
    recording.add(8 * PERIOD, INSTRUCTION, text("two\nlines"))
    both = replayed(recording)
    first, second = (replayed(cell(12, words=""), instruction=text) for text in INSTRUCTIONS)
    assert both["modes"]["ar"]["inputs"]["instructions refused"] == 1
    seen = [run["steps"]["ar"]["observation"] for run in (both, first, second)]
    assert seen[0][:6] == seen[1][:6] and seen[0][7:] == seen[2][7:]
    by_hand = replayed(recording, instruction=INSTRUCTIONS[0])
    assert by_hand["steps"]["ar"]["observation"] == seen[1]


def test_an_unknown_instruction_holds_throughout(replayed):
    results = replayed(cell(6, words="make tea"))
    assert results["modes"]["ar"]["steps"] == 0
    assert results["modes"]["ar"]["holds"]["unknown_instruction"] == 1


def test_the_robot_of_the_recording(replayed):
    robot = {
        "robot.source": "topic",
        "robot.tip_frame": PANDA_TIP,
        "robot.base_frame": PANDA_BASE,
        "robot.joint_names": PANDA_JOINTS,
        "robot.gripper_joints": PANDA_FINGER_JOINTS,
    }
    recording = cell(6)
    recording.add(2 * PERIOD, "/robot_description", text(panda_urdf()))
    with_urdf = replayed(recording, **robot)
    plain = replayed(cell(6))
    holds = with_urdf["modes"]["ar"]["holds"]
    assert holds["no_robot_description"] == 1 and with_urdf["modes"]["ar"]["steps"] == 4
    assert with_urdf["steps"]["ar"]["tokens"] == plain["steps"]["ar"]["tokens"][2:]


def test_a_budget_of_time_is_not_kept(replayed):
    """It would make the result depend on the machine."""
    results = replayed(cell(4), **{"model.budget_sec": 1e-9})
    assert results["modes"]["ar"]["steps"] == 4


def test_images_of_two_sizes_end_the_replay_and_what_was_read_counts(replayed):
    recording = cell(8)
    for index, (after, topic, _) in enumerate(recording.entries):
        if topic == IMAGE and after > 5 * PERIOD:
            other = image(START + after - 1000, np.zeros((16, 24, 3), np.uint8))
            recording.entries[index] = (after, topic, other)
    results = replayed(recording)
    assert results["recording"]["problem"] == (
        "images of view agentview are 24 x 16 at 0.25 s, before 32 x 32; accepted: one size"
    )
    assert results["modes"]["ar"]["steps"] == 5


class Chunks(DecoderWrapper):
    """Answers with five actions that say which they are, in x."""

    def infer(self, observation):
        result = super().infer(observation)
        chunk = np.tile(result.action, (5, 1))
        chunk[:, 0] = np.arange(5) / 10
        return replace(result, action=chunk[0], chunk=chunk)


def test_a_chunk_is_executed_step_by_step_and_dropped_by_a_hold(replayed, monkeypatch):
    def load(parameters, vla):
        policy = make_policy(parameters, vla)
        return replace(policy, decoder=Chunks(policy.decoder), horizon=5)

    monkeypatch.setattr("heisd_ros.replay.run.make_policy", load)
    gap = shifted(cell(20), lambda t, m: (t, m) if t < 10 * PERIOD else (t + SECOND, m))
    for after, topic, message in gap.entries:
        if topic != INSTRUCTION and after > SECOND:
            message.header.stamp.sec += 1
    results = replayed(gap, **{"chunk.execute": 4})
    steps = results["steps"]["ar"]
    taken = [round(10 * action[0]) for action in steps["action"]]
    first = taken[: np.flatnonzero(np.diff(at(results["steps"])) > 5)[0] + 1]
    assert first == ([0, 1, 2, 3] * 3)[: len(first)] and len(first) % 4 == 2
    after = taken[len(first) :]
    assert after == ([0, 1, 2, 3] * 5)[: len(after)], "a hold ends a chunk"
    assert [n > 0 for n in steps["passes"]] == [index == 0 for index in taken]
    assert [len(tokens) > 0 for tokens in steps["tokens"]] == [index == 0 for index in taken]
    assert results["modes"]["ar"]["holds"]
    with pytest.raises(ValueError, match=r"'chunk\.execute' is 6; accepted: up to 5"):
        replayed(cell(2), **{"chunk.execute": 6})


def test_what_the_node_runs_is_described_whatever_the_evaluation_asks_for(equipped, tmp_path):
    """A database of another robot, and a checkpoint of OpenVLA's, which names its statistics."""
    bag = cell(3).write(tmp_path / "bag")
    shutil.copytree(equipped / "database", tmp_path / "database")
    manifest = Manifest.read(tmp_path / "database")
    other = replace(manifest, robot="ur5e", database_id="").sealed()
    (tmp_path / "database" / MANIFEST).write_text(other.to_json())
    values = {"model.path": str(equipped), "decoding.database": str(tmp_path / "database")}
    described = describe(bag, from_values(VlaNodeParameters, values), ["ar", "heisd_exact"])
    assert described["database"] == other.database_id
    values = {"model.path": str(ROOT / "test/data/openvla_reference"), "model.unnorm_key": KEY}
    assert describe(bag, from_values(VlaNodeParameters, values), ["ar"])["database"] is None
