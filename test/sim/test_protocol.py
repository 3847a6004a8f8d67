"""Protocols: OpenVLA's as it is published, ours, and files of the user."""

from __future__ import annotations

import shutil

import pytest
import yaml
from support.tiny_vla import save_tiny_checkpoint
from support.tree import ROOT

from heisd_ros.errors import ProtocolError, UnknownStatisticsError
from heisd_ros.models import shipped_model
from heisd_ros.sim.protocol import MAX_STEPS, Protocol, load_for_suite, load_protocol
from heisd_ros.sim.scene import SETTLE_STEPS

REFERENCE = ROOT / "test" / "data" / "openvla_reference"


def test_openvla_s_own_as_published():
    """openvla c8f03f4, experiments/robot/libero/run_libero_eval.py."""
    protocol = load_protocol("openvla_libero")
    steps = ("libero_spatial", 220), ("libero_object", 280), ("libero_goal", 300)
    assert protocol.max_steps == dict(steps, libero_10=520, libero_90=400)
    assert {**protocol.max_steps, "heisd_curves": 300} == MAX_STEPS
    assert (protocol.wait_steps, protocol.image_size) == (10, 256)
    assert protocol.states() == range(50) and protocol.states(3) == range(3)
    assert not protocol.reduced_rendering
    images = protocol.data.images
    assert (images.mirror, images.jpeg_quality, images.resize, images.crop_area) == (
        True,
        95,
        224,
        0.9,
    )
    assert protocol.data.gripper == (1.0, 0.0) and protocol.data.views == ("agentview",)


def test_a_checkpoint_of_openvla_s_layout_brings_it_and_ours_does_not():
    assert load_protocol("", REFERENCE).name == "openvla_libero"
    ours = load_protocol("", shipped_model())
    assert ours == load_protocol("heisd") == Protocol()
    assert ours.states() == range(40, 50) and ours.wait_steps == SETTLE_STEPS


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (["libero_goal", "libero_goal_no_noops"], "", "libero_goal"),
        (["bridge", "libero_goal_no_noops"], "", "libero_goal_no_noops"),
        (["bridge", "libero_goal"], "bridge", "bridge"),
    ],
)
def test_statistics_by_suite(names, asked, expected):
    protocol = load_protocol("openvla_libero")
    assert protocol.statistics_key("libero_goal", names, asked) == expected


def test_statistics_of_another_suite_are_not_guessed():
    with pytest.raises(
        UnknownStatisticsError, match=r"no statistics 'libero_10' or 'libero_10_no_n"
    ):
        load_protocol("openvla_libero").statistics_key("libero_10", ["libero_goal"])
    with pytest.raises(UnknownStatisticsError, match=r"'bridge_orig', 'tiny_nomask'.*--unnorm-key"):
        load_for_suite(REFERENCE, "libero_goal", load_protocol("", REFERENCE))


def test_a_model_is_loaded_with_its_convention():
    protocol = load_protocol("", REFERENCE)
    vla = load_for_suite(REFERENCE, "libero_goal", protocol, unnorm_key="tiny_nomask")
    assert vla.config.views == ("agentview",) and vla.statistics_key == "tiny_nomask"
    assert vla.convention is protocol.data


def test_a_model_of_ours_is_loaded_as_ever(tmp_path):
    folder = save_tiny_checkpoint(tmp_path)
    vla = load_for_suite(folder, "libero_goal", load_protocol("", folder))
    assert vla.config.views == ("agentview", "wrist") and vla.convention.gripper is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"evaluation": {"wait": 3}},
            "unknown key evaluation.wait; accepted: statistics",
        ),
        ({"evaluation": {"wait_steps": -1}}, "wait_steps is -1"),
        (
            {"evaluation": {"max_steps": {"libero_goal": 0}}},
            r"max_steps\.libero_goal is 0; accepted: 1 to 100000",
        ),
        ({"evaluation": {"reduced_rendering": "no"}}, "reduced_rendering is 'no'"),
        ({"data": {"images": {"crop_area": 2}}}, "crop_area is 2"),
        ({"data": {"views": 3}}, "data.views is 3; accepted: a list"),
        (
            {"data": {"gripper": {"open": "x", "closed": 1.0}}},
            "gripper.open is 'x'; accepted",
        ),
        ({"evaluation": {"image_size": 10**6}}, "image_size is 1000000; accepted: 1 to 4096"),
        ({"evaluation": {"wait_steps": 10**9}}, "wait_steps is 1000000000; accepted: 0 to 100000"),
        ({"evaluation": {"max_steps": [1]}}, r"max_steps is \[1\]; accepted: a mapping"),
        ({"evaluation": {"statistics": ["{suite:>99999999}"]}}, "statistics .* has braces; accep"),
        (
            {"evaluation": {"statistics": ["{suite.x}"]}},
            "evaluation: statistics .* has braces",
        ),
        ({"date": {}}, "unknown key date; accepted: description, data, evaluation"),
        ([1], r"the content is \[1\]; accepted: a mapping"),
    ],
)
def test_a_malformed_file_is_one_clear_line(tmp_path, change, message):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(change))
    with pytest.raises(ProtocolError, match=message):
        load_protocol(str(tmp_path / "own.yaml"))


def test_an_unknown_name_and_too_many_episodes():
    with pytest.raises(
        ProtocolError, match="unknown protocol 'warp'; accepted: heisd, openvla_lib"
    ):
        load_protocol("warp")
    with pytest.raises(ProtocolError, match="51 episodes of a task; up to 50"):
        load_protocol("openvla_libero").states(51)


def test_a_file_of_one_s_own(tmp_path):
    shutil.copy(ROOT / "config" / "protocols" / "openvla_libero.yaml", tmp_path / "mine.yaml")
    mine = load_protocol(str(tmp_path / "mine.yaml"))
    assert mine.name == "mine" and mine.data == load_protocol("openvla_libero").data
