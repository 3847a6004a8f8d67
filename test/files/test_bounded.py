"""Files that are not plain text or JSON are refused at once, by name, in one line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.errors import HeisdError
from heisd_ros.files import bounded
from heisd_ros.files.bounded import (
    expanded,
    naming,
    one_line,
    parse_json,
    read_json,
    read_object,
    read_text,
    shown,
)


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is missing"),
        (Path.mkdir, "it is a folder; accepted: a file"),
        (pipe, "it is a pipe, a socket or a device; accepted: a file"),
        (endless, "it is a pipe, a socket or a device; accepted: a file"),
        (loop, "cannot be read: "),
        (sparse, "has 1099511627776 bytes; accepted: up to"),
        (lambda path: path.write_bytes(b"abc\xff"), r"no UTF-8 text \(byte 0xff at 3\)"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
    ],
)
def test_what_cannot_be_read_is_named_at_once(tmp_path, make, message):
    path = tmp_path / "file.json"
    make(path)
    begin = time.monotonic()
    for read in (read_text, read_json, read_object):
        with pytest.raises(HeisdError, match=rf"file\.json.* {message}") as error:
            read(path, HeisdError)
        assert "\n" not in str(error.value)
    assert time.monotonic() - begin < 1.0


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "x/" * 3000])
def test_a_name_that_no_file_can_have_is_a_short_message(name):
    with pytest.raises(HeisdError) as error:
        read_text(Path(name), HeisdError)
    assert len(str(error.value)) < 300 or "missing" in str(error.value)


def test_a_file_that_grows_beyond_its_size_is_read_no_further():
    with pytest.raises(ValueError, match="has more than 10 bytes; accepted: up to 10"):
        read_text(Path("/proc/self/status"), most=10)


def test_links_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf{}")
    (tmp_path / "b").symlink_to("a")
    assert read_object(tmp_path / "b") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; accepted: JSON"),
        (" \n", "it is empty; accepted: JSON"),
        ("{", "it is no JSON: .*line 1"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        ("[" * 100_000, "up to 64 nested levels"),
        ("[" * 65 + "]" * 65, "up to 64 nested levels"),
        ('{"a":' * 900 + "1" + "}" * 900, "up to 64 nested levels"),
        ("[" + "1," * 1_000_001, "up to 1000000 values"),
        ("1" * 10_000, "it holds inf; accepted: a JSON object"),
        ("[1]", r"it holds \[1\]; accepted: a JSON object"),
        ("null", "it holds None; accepted: a JSON object"),
    ],
)
def test_json_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(HeisdError, match=rf"a\.json is damaged: .*{message}") as error:
        read_object(tmp_path / "a.json", HeisdError)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_json_is_read_as_json_reads_it(tmp_path):
    value = {"a": [1, 2.5, None, True, "ü\n"], "deep": json.loads("[" * 60 + "]" * 60)}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def test_the_largest_files_that_are_read_fit_in_a_gibibyte(tmp_path):
    """Beside its text a value takes at most the room of a small object of Python."""
    assert bounded.MOST_BYTES * 4 + bounded.MOST_VALUES * (sys.getsizeof({"": 0}) + 64) < 1 << 30


def test_a_message_shows_any_value_briefly_and_names_the_file_once():
    assert shown("x" * 10**6).count("x") < 100 and shown([[[[1]]]] * 9999)
    assert shown("a\nb") == r"'a\nb'" and len(shown({i: "y" * 999 for i in range(999)})) < 999
    assert naming(Path("a.yaml"), "no key") == "a.yaml: no key"
    assert naming(Path("a.yaml"), "a.yaml is missing") == "a.yaml is missing"


def test_an_unknown_user_has_no_home():
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert expanded("~/a") == Path.home() / "a"


def test_whole_numbers_are_exact_as_far_as_arrays_hold_them():
    numbers = [2**63 - 1, -(2**63), 1764409259123456789]
    assert parse_json(json.dumps(numbers), "the text") == numbers
    assert parse_json(f"[{2**63}]", "the text") == [2.0**63]


@given(st.text(), st.integers(4, 40))
def test_foreign_text_becomes_one_line_that_can_be_sent(text, most):
    line = one_line(text, most)
    assert len(line) <= most and line.isprintable() and line == " ".join(line.split())
    line.encode()  # no surrogates
    if text.isprintable() and text == " ".join(text.split()) and len(text) <= most:
        assert line == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\x00c\x1b[31md\u202ee\ud800f", "a b c [31md e f"),
        ("x" * 5_000_000, "x" * 13 + "..."),
        (" " * 100 + "late", "..."),
        ("", ""),
    ],
)
def test_hostile_text_as_one_line(text, line):
    assert one_line(text, 16) == line
