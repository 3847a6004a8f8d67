"""Messages hold numbers and texts, and nothing else gets through."""

from __future__ import annotations

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.errors import MessageError
from heisd_ros.serving.messages import MAX_BYTES, pack, unpack


def array(**changes):
    """An array as it is written, with changes."""
    good = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2]} | changes
    return msgpack.packb({"a": {key.encode(): value for key, value in good.items()}})


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", "bool", ">i4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_arrays_come_back_as_they_were(dtype, shape):
    sent = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    got = unpack(pack({"a": sent}))["a"]
    assert got.dtype == sent.dtype and got.shape == shape and (got == sent).all()
    assert got.flags.writeable


def test_numbers_and_texts_come_back():
    sent = {"a": 1, "b": -2.5, "c": "ä", "d": None, "e": True, "f": [1, "x"], "g": {"h": {}}}
    assert unpack(pack(sent)) == sent
    got = unpack(pack({"a": np.float32(0.5), "b": np.int64(-3)}))
    assert got == {"a": 0.5, "b": -3} and got["a"].dtype == np.float32


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array("x"), 1j, {1, 2}])
def test_what_is_no_number_is_not_sent(value):
    with pytest.raises(MessageError):
        pack({"a": value})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (array(dtype="|O"), "dtype is '|O'"),
        (array(dtype="O8"), "dtype"),
        (array(dtype="V8"), "dtype"),
        (array(dtype="<c8"), "dtype"),
        (array(dtype="<U2"), "dtype"),
        (array(dtype="i4,f4"), "dtype"),
        (array(dtype="(2,)f4"), "dtype"),
        (array(dtype=7), "dtype"),
        (array(shape=[3]), "shape"),
        (array(shape=[-2]), "shape"),
        (array(shape=[True, 2]), "shape"),
        (array(shape=[1] * 9 + [2]), "shape"),
        (array(shape="2"), "shape"),
        (array(data="12345678"), "data"),
        (array(shape=[0, 2**62, 2**62], data=b""), "message"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"}}), "number"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}), "uint8"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "extension"),
        (msgpack.packb([1, 2]), "mapping"),
        (msgpack.packb({"a": 1})[:-1], "not a msgpack"),
        (b"", "not a msgpack"),
        (b"\x81\xa1a\xa2\xff\xfe", "not a msgpack"),
        (b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0", "not a msgpack"),
        (msgpack.packb({"a": [0] * 5000}), "not a msgpack"),
        (msgpack.packb({"a": [[[]] * 4000] * 5}), "more than 16384 values"),
        (msgpack.packb({"a": [[{}] * 4000] * 5}), "more than 16384 values"),
        (bytes(MAX_BYTES + 1), "accepted: up to"),
    ],
)
def test_what_is_no_message_is_named(data, words):
    with pytest.raises(MessageError, match=words.replace("|", r"\|")):
        unpack(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise_the_named_error(data):
    with contextlib.suppress(MessageError):
        assert isinstance(unpack(data), dict)
