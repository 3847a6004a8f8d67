"""YAML in the dialect of ROS; what rcl itself makes of scalars is in nodes/test_parameter_files."""

from __future__ import annotations

import time

import pytest
import yaml

from heisd_ros.files.ros_yaml import parse_yaml, read_yaml


def test_mappings_lists_and_scalars():
    text = "a: {b: [1, 2.0, x, 'y', on]}\nc:\n- |-\n  two\n  lines\n- \n? d\n: 0x10\n"
    assert parse_yaml(text) == {
        "a": {"b": [1, 2.0, "x", "y", True]},
        "c": ["two\nlines", None],
        "d": 16,
    }
    assert parse_yaml("") is None and parse_yaml("# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "^line 3: the key 'a' stands twice; accepted: once$"),
        ("a:\n  b: 1\n  'b': 2\n", "^line 3: the key 'b' stands twice"),
        ("a: &x 1\nb: *x\n", r"^line 2: the alias \*x; accepted: its value"),
        ("a: &x [*x]\n", r"^line 1: the alias \*x"),
        ("a: &x {}\nb:\n  <<: *x\n", r"^line 3: the alias \*x"),
        ("a: 1\n---\nb: 2\n", "^line 2: a second document; accepted: one$"),
        ("[1, 2\n", "^line 2: did not find expected"),
        ("a: b: c\n", "^line 1: mapping values are not allowed"),
        ("? [1]\n: 2\n", "^line 1: a key that is no text"),
        ("? {}\n: 2\n", "^line 1: a key that is no text"),
        ("'': 2\n", "^line 1: a key that is no text"),
        ('a: "b\\0c"\n', "^line 1: 'b.x00c' holds a zero byte"),
        ("a: \x07\n", "control characters are not allowed|special characters are not allowed"),
        ("\tb: 1\n", "^line 1: "),
        ("a: " + "[" * 40 + "]" * 40, "^line 1: nested too deeply; accepted: up to 32 levels$"),
        ("a: " + "[" * 100_000, "^line 1: "),
        ("a: " + "{a: " * 100_000, "^line 1: "),
        ("a: !!binary =\n---\n", "^line 2: a second document"),
    ],
)
def test_what_is_refused_is_said_with_its_line(text, message):
    begin = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200
    assert time.monotonic() - begin < 2.0


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_with_and_without_the_library_in_c(monkeypatch, loader):
    if loader == "SafeLoader":
        monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse_yaml("a: [y, 2e-2, 'n', 010]") == {"a": [True, 0.02, "n", 8]}
    for text in ("a: [1", "a: *b", "a: 1\na: 2", "a: " + "[" * 5000):
        with pytest.raises(ValueError):
            parse_yaml(text)


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['false']", "!!set {a, b}", "!x {a: 1}"]
)
def test_tags_make_no_objects(text):
    assert type(parse_yaml(f"a: {text}")["a"]) in (list, dict)


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [" + "1, " * 400_000 + "1]")
    with pytest.raises(ValueError, match=r"a\.yaml has .* bytes; accepted: up to 1048576"):
        read_yaml(tmp_path / "a.yaml")
