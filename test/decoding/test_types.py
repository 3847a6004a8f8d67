import json
from pathlib import Path

import pytest

from heisd_ros.decoding.types import Source, deciding

ROOT = Path(__file__).resolve().parents[2]


def test_a_source_is_its_name():
    assert Source.LAST_COMMAND == "last_command" and Source("skip") is Source.SKIP
    assert {"skip": 3}[Source.SKIP] == 3
    assert f"{Source.SKIP}" == "skip" and json.dumps(Source.SKIP) == '"skip"'
    assert set(Source) - set(deciding()) == {Source.HOLD, Source.PERSON}


def test_sources_can_be_told_apart():
    for names in ("letter", "colour", "label"):
        assert len({getattr(source, names) for source in Source}) == len(Source)
    assert Source.HOLD.rgb == pytest.approx((213 / 255, 94 / 255, 0.0))


@pytest.mark.parametrize("name", ["msg/StepTelemetry.msg", "action/Execute.action"])
def test_the_messages_name_every_source(name):
    lines = (ROOT / name).read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("string source ")]
    assert [source for source in Source if f'"{source}"' not in line] == []
