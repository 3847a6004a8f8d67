import dataclasses
import os
from itertools import pairwise

import pytest
from support.small_models import small_vla

from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.modes import MOST_BASES, load_decoder, load_mode, mode_names
from heisd_ros.decoding.settings import ModeSettings, SkipSettings
from heisd_ros.errors import DatabaseError, DrafterError, ModeError

TEN = {
    "ar", "retrieval_only", "rsd", "dsd", "spec_vla", "heisd_paper", "heisd_release",
    "speed_switch", "random_skip", "heisd",
}  # fmt: skip


def test_the_ten_modes_and_variants_are_there():
    assert set(mode_names()) >= TEN


@pytest.mark.parametrize("name", mode_names())
def test_every_mode_is_readable_and_says_what_it_is(name):
    assert load_mode(name).description


def test_the_lossless_modes_neither_relax_nor_skip():
    for name in ("ar", "rsd", "dsd", "last_command", "heisd_exact"):
        mode = load_mode(name)
        assert mode.skip.policy == "never"
        by_drafter_rule = mode.drafts or mode.propose == "last_command"
        rules = [mode.retrieval.accept] * mode.retrieves + [mode.drafter.accept] * by_drafter_rule
        assert set(rules) <= {"exact"}


def test_heisd_skips_short_runs_and_corrects():
    """Ten skips in a row, and drafts executed as they were, each lost a task of ten."""
    ours = load_mode("heisd")
    assert ours.correct and ours.redraft
    assert ours.drafter.accept == "exact", "in slow motion nothing is relaxed"
    assert ours.skip == SkipSettings(
        policy="calibrated", max_consecutive=2, clearance=4, speed=0.12, once=True, agree=30,
        shadow_share=0.2,
    )  # fmt: skip


def test_baselines_of_heisd_differ_from_it_in_one_thing():
    names = ("heisd", "speed_switch", "random_skip", "heisd_act_first")
    ours, speed, random, act_first = (
        dataclasses.replace(load_mode(name), description="") for name in names
    )
    # A calibration is of one mode, so the others take its thresholds as hand-set ones.
    by_hand = dataclasses.replace(ours.skip, policy="threshold", similarity=0.78, dispersion=58.8)
    assert speed.boundary.metric == "speed"
    assert speed == dataclasses.replace(ours, boundary=speed.boundary, skip=by_hand)
    assert act_first == dataclasses.replace(ours, skip=dataclasses.replace(by_hand, act_first=True))
    assert random.skip.policy == "random" and random.boundary == ours.boundary
    # What may skip at any speed has to search at any speed.
    assert random.retrieval == dataclasses.replace(ours.retrieval, speed=0.0)
    assert speed.drafter == random.drafter == ours.drafter
    predicted = dataclasses.replace(load_mode("heisd_predicted"), description="")
    assert predicted.predicted and predicted.skip.policy == "predicted"
    assert predicted == dataclasses.replace(ours, boundary=predicted.boundary, skip=predicted.skip)
    assert dataclasses.replace(predicted.skip, chance=by_hand.chance) == dataclasses.replace(
        by_hand, policy="predicted"
    ), "it keeps to the same rules, besides those that are about how near entries are"
    held = dataclasses.replace(load_mode("hold_last"), description="")
    assert held.skip.policy == "hold" and held == dataclasses.replace(ours, skip=held.skip)


def test_a_rung_of_the_ablation_differs_from_the_one_below_in_its_name_alone():
    rungs = [load_mode(name) for name in mode_names() if name.startswith("ablation_")]
    assert len(rungs) == 5
    parts = ("propose", "one_pass", "correct", "redraft", "drafter", "boundary", "skip")
    changed = [
        {part for part in (*parts, "retrieval") if getattr(a, part) != getattr(b, part)}
        for a, b in pairwise(rungs)
    ]
    assert changed == [{"skip"}, {"retrieval"}, {"one_pass"}, {"retrieval"}]
    relaxed = dataclasses.replace(rungs[1].retrieval, accept="sequence_relaxed", cross=True)
    assert rungs[2].retrieval == relaxed
    assert rungs[4].retrieval == dataclasses.replace(relaxed, payload="own")


def test_a_mode_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("propose: drafter\ndrafter: {depth: 2}\n")
    assert load_mode(str(path)).drafter.depth == 2


def test_a_mode_says_only_in_what_it_differs_from_its_base(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: heisd\nskip: {clearance: 9}\n")
    ours, mine = load_mode("heisd"), load_mode(str(path))
    assert mine == dataclasses.replace(ours, skip=dataclasses.replace(ours.skip, clearance=9))
    further = tmp_path / "further.yaml"
    further.write_text(f"base: {path}\nredraft: false\n")
    assert load_mode(str(further)) == dataclasses.replace(mine, redraft=False)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("fast", "mine.yaml: unknown mode 'fast'; accepted: "),
        ("{}/mine.yaml", "mine.yaml is, through others, its own base"),
        ("[heisd]", "unknown mode"),
    ],
)
def test_a_base_that_cannot_be_is_named(tmp_path, base, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {base.format(tmp_path)}\n")
    with pytest.raises(ModeError, match=message):
        load_mode(str(path))


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(
        ModeError,
        match=r"unknown mode 'fast'; accepted: ablation_1_.* ar, dsd, .*'_compiled' behind it",
    ):
        load_mode("fast")
    with pytest.raises(ModeError, match="unknown mode 'fast_compiled'"):
        load_mode("fast_compiled")


def test_every_mode_has_a_compiled_form_of_the_same_settings(tmp_path):
    for name in mode_names():
        plain, compiled = load_mode(name), load_mode(f"{name}_compiled")
        assert plain.engine == "auto"
        assert compiled == dataclasses.replace(plain, engine="compiled")
    path = tmp_path / "mine.yaml"
    path.write_text("base: heisd_compiled\nredraft: false\n")
    assert load_mode(str(path)) == dataclasses.replace(load_mode("heisd_compiled"), redraft=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("propose: [", "not readable YAML"),
        ("- 1", "a mode must be a mapping"),
        ("propose: magic", "mine.yaml: propose is 'magic'; accepted: 'none'"),
    ],
)
def test_a_file_that_is_no_mode_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ModeError, match=message):
        load_mode(str(path))


def test_ar_is_the_plain_loop():
    assert isinstance(build_decoder(small_vla(), load_mode("ar")), AutoregressiveDecoder)


@pytest.mark.parametrize(
    ("propose", "message"), [("retrieval", "heisd db build"), ("drafter", "heisd train drafter")]
)
def test_a_missing_part_names_the_command_that_makes_it(propose, message):
    with pytest.raises(ModeError, match=message):
        build_decoder(small_vla(), ModeSettings(propose=propose))


def test_more_entries_than_there_are_fail_when_the_mode_is_loaded(tmp_path):
    from support.tiny_parts import save_tiny_parts
    from support.tiny_vla import save_tiny_checkpoint

    from heisd_ros.families.openvla.checkpoint import load_checkpoint

    folder = save_tiny_checkpoint(tmp_path)
    save_tiny_parts(folder)
    mode = ModeSettings.from_dict({"propose": "retrieval", "retrieval": {"k": 64}})
    with pytest.raises(DatabaseError, match=r"k is 64"):
        load_decoder(load_checkpoint(folder), mode, folder)


@pytest.mark.parametrize(("name", "error"), [("rsd", DatabaseError), ("dsd", DrafterError)])
def test_parts_are_looked_for_beside_the_model(name, error, tmp_path):
    from support.tiny_vla import save_tiny_checkpoint

    from heisd_ros.families.openvla.checkpoint import load_checkpoint

    folder = save_tiny_checkpoint(tmp_path)
    with pytest.raises(error, match=str(tmp_path)):
        load_decoder(load_checkpoint(folder), load_mode(name), folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: " + "x" * 5000, "unknown mode 'xx.*; accepted: .* or a path to a YAML file"),
        ("base: 5", "unknown mode '5'"),
        ("redraft: true\nredraft: false\n", "line 2: the key 'redraft' stands twice"),
        ("skip: &a {rate: 0.1}\nretrieval: *a\n", r"line 2: the alias \*a"),
        ("skip: {rate: 1e999}", "skip.rate is '1e999'; accepted: a finite number"),
        ("skip: {clearance: 4.0}", "skip.clearance is 4.0; accepted: a whole number"),
        ("skip:", "skip is None; accepted: a mapping"),
    ],
)
def test_a_value_that_no_mode_has_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ModeError, match=message) as error:
        load_mode(str(path))
    assert str(error.value).count(str(path)) == 1 and len(str(error.value)) < 600


def test_a_base_through_a_link_and_a_long_row_of_bases_end(tmp_path):
    (tmp_path / "a.yaml").write_text(f"base: {tmp_path}/b.yaml\n")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    with pytest.raises(ModeError, match="through others, its own base"):
        load_mode(str(tmp_path / "b.yaml"))
    for i in range(12):
        (tmp_path / f"m{i}.yaml").write_text(f"base: {tmp_path}/m{i + 1}.yaml\n")
    with pytest.raises(ModeError, match=f"accepted: {MOST_BASES}"):
        load_mode(str(tmp_path / "m0.yaml"))


def test_a_mode_that_is_no_plain_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, message in (("pipe", "it is a pipe"), ("nowhere", "is missing")):
        with pytest.raises(ModeError, match=rf"{name}\.yaml.* {message}"):
            load_mode(str(tmp_path / f"{name}.yaml"))
