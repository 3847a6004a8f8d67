"""The journal: whole after any crash, one user at a time, one model's."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fleet import layout

from heisd_ros.errors import GrowthError
from heisd_ros.fleet.journal import FILE, SENT, Journal

PAYLOADS = [b"first", b"second" * 40, b"third"]


def filled(folder, payloads=PAYLOADS):
    with Journal(folder, layout()) as journal:
        for payload in payloads:
            journal.append(payload)
    return folder / FILE


def ends(folder):
    """Where each record ends, that of the layout first."""
    with Journal(folder, layout()) as journal:
        return [journal.begin, *(place for place, _ in journal.read(journal.begin))]


def contents(folder):
    with Journal(folder, layout()) as journal:
        return [payload for _, payload in journal.read(journal.begin)]


def test_what_was_appended_is_read_in_another_process(tmp_path):
    filled(tmp_path)
    assert contents(tmp_path) == PAYLOADS


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0.0, 1.0), zeros=st.integers(0, 200))
def test_after_a_crash_at_any_byte_whole_records_are_there_and_more_can_follow(
    tmp_path_factory, share, zeros
):
    folder = tmp_path_factory.mktemp("torn")
    path = filled(folder)
    whole = path.read_bytes()
    kept = round(share * len(whole))
    # A file may have its length before its data, but one record at a time is written.
    end = next((end for end in ends(folder) if end >= kept), kept)
    path.write_bytes(whole[:kept] + bytes(min(zeros, end - kept)))
    with Journal(folder, layout()) as journal:
        found = [payload for _, payload in journal.read(journal.begin)]
        assert found == PAYLOADS[: len(found)] and journal.records == len(found)
        journal.append(b"after")
    assert contents(folder) == [*found, b"after"]
    if kept == len(whole):
        assert len(found) == len(PAYLOADS)


def test_a_torn_record_is_told_and_its_bytes_are_kept(tmp_path):
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-2])
    with Journal(tmp_path, layout()) as journal:
        assert journal.records == 2 and journal.torn_bytes == 8 + len(b"third") - 2
    (torn,) = tmp_path.glob("torn-*")
    assert torn.read_bytes().endswith(b"thi")


def test_damage_before_the_end_is_named_and_nothing_is_cut_off(tmp_path):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"secondsecond")] ^= 1
    path.write_bytes(data)
    with pytest.raises(GrowthError, match=r"damaged at byte .*the 1 episodes before are whole"):
        Journal(tmp_path, layout())
    assert path.read_bytes() == data


def test_the_journal_of_another_model_is_refused_by_name(tmp_path):
    filled(tmp_path)
    with pytest.raises(GrowthError, match="model_fingerprint 'aaaaaaaaaaaa', not 'cccccccccccc'"):
        Journal(tmp_path, layout(model="c" * 64))
    assert contents(tmp_path) == PAYLOADS


def test_two_processes_do_not_share_one(tmp_path):
    with Journal(tmp_path, layout()), pytest.raises(GrowthError, match="in use"):
        Journal(tmp_path, layout())
    assert contents(tmp_path) == []


@pytest.mark.parametrize("data", [b"some text", b"some text that is longer than a header of ours"])
def test_another_file_is_left_alone(tmp_path, data):
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(GrowthError, match="no journal"):
        Journal(tmp_path, layout())
    assert (tmp_path / FILE).read_bytes() == data


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    write = os.pwrite

    def half(file, data, place):
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2], place)

    with Journal(tmp_path, layout()) as journal:
        journal.append(b"first")
        monkeypatch.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            journal.append(b"second" * 40)
        monkeypatch.undo()
        journal.append(b"third")
    assert contents(tmp_path) == [b"first", b"third"]


def test_what_a_receiver_has_is_remembered_and_may_be_forgotten(tmp_path):
    filled(tmp_path)
    with Journal(tmp_path, layout()) as journal:
        places = [place for place, _ in journal.read(journal.begin)]
        assert journal.sent("server") == journal.begin
        journal.mark_sent("server", places[1])
        assert journal.sent("server") == places[1] and journal.sent("other") == journal.begin
        assert [payload for _, payload in journal.read(places[1])] == [b"third"]
    for text in ("", "[1]", '{"server": "x"}', '{"server": 1000000}'):
        (tmp_path / SENT).write_text(text)
        with Journal(tmp_path, layout()) as journal:
            assert journal.sent("server") == journal.begin
