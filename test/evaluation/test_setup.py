import json

import pytest
from support.tiny_vla import save_tiny_checkpoint

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.errors import CheckpointError, DatabaseError, DrafterError, ModeError
from heisd_ros.evaluation.setup import Parts, Setup, mode_name
from heisd_ros.evaluation.side_by_side import SideBySide
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.vla.checkpoint_files import fingerprint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


def setup_of(checkpoint, *modes, **changes):
    folders = {"database": str(checkpoint / "database"), "drafter": str(checkpoint / "drafter")}
    return Setup("libero_spatial", str(checkpoint), modes, **{**folders, **changes})


def test_a_mode_is_named_after_its_file():
    assert mode_name("heisd") == "heisd"
    assert mode_name("somewhere/ablation_skip.yaml") == "ablation_skip"


def test_the_plain_mode_needs_nothing_beside_the_model(checkpoint):
    parts = Parts(setup_of(checkpoint, "ar"))
    assert parts.database is None and parts.calibration is None
    assert parts.bounds(parts.modes["ar"]) is None
    (decoder,) = parts.decoders(load_checkpoint(checkpoint)).values()
    assert isinstance(decoder, AutoregressiveDecoder)


def test_a_mode_of_ones_own_is_read_from_its_file(checkpoint, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("description: my own\npropose: none\n")
    parts = Parts(setup_of(checkpoint, "ar", str(own)))
    assert list(parts.modes) == ["ar", "mine"]
    assert parts.modes["mine"].description == "my own"


def test_the_description_holds_contents_and_no_paths(checkpoint):
    described = Parts(setup_of(checkpoint, "ar", seed=3, max_steps=9)).describe()
    assert described["model"] == fingerprint(checkpoint)
    assert (described["suite"], described["seed"], described["max_steps"]) == (
        "libero_spatial",
        3,
        9,
    )
    assert described["database"] is described["drafter"] is described["calibration"] is None
    assert described["modes"]["ar"]["settings"]["propose"] == "none"
    assert str(checkpoint) not in json.dumps(described)


def test_no_mode_a_repeated_one_and_an_unknown_one_are_refused(checkpoint, tmp_path):
    with pytest.raises(ModeError, match="at least one"):
        Parts(setup_of(checkpoint))
    with pytest.raises(ModeError, match="each name once"):
        Parts(setup_of(checkpoint, "ar", str(tmp_path / "ar.yaml")))
    with pytest.raises(ModeError, match="unknown mode 'warp'"):
        Parts(setup_of(checkpoint, "ar", "warp"))


def test_missing_parts_are_refused_before_anything_runs(checkpoint, tmp_path):
    with pytest.raises(DatabaseError, match="heisd db build"):
        Parts(setup_of(checkpoint, "ar", "rsd"))
    with pytest.raises(DrafterError, match="heisd train drafter"):
        SideBySide.load(Parts(setup_of(checkpoint, "ar", "dsd")))
    with pytest.raises(CheckpointError):
        Parts(Setup("libero_spatial", str(tmp_path / "none"), ("ar",), "", ""))


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"unnorm_key": "test"}])
def test_the_description_tells_what_is_not_as_usual(checkpoint, change):
    usual = Parts(setup_of(checkpoint, "ar")).describe()
    assert not change.keys() & usual.keys()
    assert Parts(setup_of(checkpoint, "ar", **change)).describe() == {**usual, **change}
