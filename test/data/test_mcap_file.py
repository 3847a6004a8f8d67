"""mcap files of every writer are whole, whatever they leave out; only lost bytes are damage."""

from __future__ import annotations

import random

import pytest
from mcap.writer import CompressionType, IndexType
from support.bags import SECOND, START, text
from support.mcaps import write_mcap

from heisd_ros.data.bag import Bag
from heisd_ros.errors import BagError

COUNT = 200
INDEXES = [kind for kind in IndexType if kind is not IndexType.ALL]


def spoken(count=COUNT):
    noise = random.Random(1)
    return [
        ("/words", START + n * SECOND // 20, text(f"{n} {noise.randbytes(150).hex()}"))
        for n in range(count)
    ]


def heard(bag, *span):
    return [int(m.message.data.split()[0]) for m in bag.messages(["/words"], *span)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"profile": ""},
        {"use_chunking": False},
        {"use_statistics": False},
        {"repeat_channels": False},
        {"repeat_schemas": False},
        {"repeat_channels": False, "repeat_schemas": False, "use_statistics": False},
        {"use_summary_offsets": False},
        {"index_types": IndexType.NONE},
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.LZ4},
        *({"index_types": IndexType.ALL & ~kind} for kind in INDEXES),
        *({"foreign": (kind,)} for kind in ("json", "protobuf", "schemaless")),
        {"foreign": ("json", "schemaless")},
        {"foreign": ("schemaless", "protobuf"), "use_statistics": False},
    ],
    ids=str,
)
def test_a_whole_file_is_read_whole(tmp_path, options):
    path = write_mcap(tmp_path / "x.mcap", spoken(), **{"chunk_size": 4000} | options)
    with Bag(path) as bag:
        assert bag.topics == {"/words": "std_msgs/msg/String"}
        assert heard(bag) == list(range(COUNT))
        assert heard(bag, START + SECOND, START + 2 * SECOND) == list(range(20, 40))
        assert bag.damage == ""
        left_out = [remark.split()[2] for remark in bag.remarks]
        assert left_out == sorted(f"/other/{kind}" for kind in options.get("foreign", ()))


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}, {"use_statistics": False}])
def test_messages_come_in_order_of_time_whatever_that_of_the_file(tmp_path, options):
    messages = spoken()
    random.Random(0).shuffle(messages)
    with Bag(write_mcap(tmp_path / "x.mcap", messages, chunk_size=4000, **options)) as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.damage == ""


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_file_without_its_end_is_read_to_where_its_bytes_end(tmp_path, options, zeros):
    path = write_mcap(tmp_path / "x.mcap", spoken(), chunk_size=4000, **options)
    size, before = path.stat().st_size, -1
    for tenth in range(1, 9):
        cut = tmp_path / f"{tenth}.mcap"
        cut.write_bytes(path.read_bytes()[: size * tenth // 10] + bytes(5000 if zeros else 0))
        with Bag(cut) as bag:
            found = heard(bag)
            assert f"{tenth}.mcap is cut off or damaged" in bag.damage
        assert found == list(range(len(found))) and len(found) > before
        before = len(found)


def test_a_chunk_with_a_wrong_checksum_is_damage(tmp_path):
    options = {"compression": CompressionType.NONE, "use_statistics": False}
    path = write_mcap(tmp_path / "x.mcap", spoken(), chunk_size=4000, **options)
    content = bytearray(path.read_bytes())
    content[content.index(b"150 ") + 4] ^= 1
    path.write_bytes(content)
    with Bag(path) as bag:
        assert heard(bag) == list(range(len(heard(bag)))) and 130 < len(heard(bag)) < 150
        assert "the checksum of a chunk is wrong" in bag.damage


def test_asking_for_a_foreign_topic_says_what_it_is_in(tmp_path):
    path = write_mcap(tmp_path / "x.mcap", spoken(3), foreign=("json", "schemaless"))
    with Bag(path) as bag:
        for topic, encoding in (("/other/json", "json"), ("/other/schemaless", "schemaless")):
            with pytest.raises(BagError, match=rf"{topic} is in {encoding}; accepted: ROS 2"):
                bag.messages([topic])


def test_a_recording_of_ros_1_is_refused_by_name(tmp_path):
    path = write_mcap(tmp_path / "x.mcap", spoken(3), profile="ros1", encoding="ros1")
    with Bag(path) as bag, pytest.raises(BagError, match="/words is in ros1; accepted: ROS 2"):
        bag.messages(["/words"])


def test_messages_that_are_not_of_their_type_are_left_out_and_counted(tmp_path):
    messages = spoken(5)
    path = write_mcap(tmp_path / "x.mcap", messages, use_chunking=False)
    whole = path.read_bytes()
    length = len(messages[2][2].data) + 1
    place = whole.index(length.to_bytes(4, "little") + b"2 ")
    path.write_bytes(whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :])
    with Bag(path) as bag:
        assert heard(bag) == [0, 1, 3, 4]
        assert bag.damage == ""
        assert bag.unreadable == {"/words: message cannot be decoded": 1}


@pytest.mark.parametrize("claimed", [2**62, 900_000_000])
def test_a_record_that_claims_too_much_is_not_read_into_memory(tmp_path, claimed):
    path = write_mcap(tmp_path / "x.mcap", spoken(), use_chunking=False, use_statistics=False)
    content = bytearray(path.read_bytes())
    place = content.index(b"\x05", len(content) // 2)
    while content[place + 1 : place + 9][2:] != bytes(6):  # an opcode, and a small length
        place = content.index(b"\x05", place + 1)
    content[place + 1 : place + 9] = claimed.to_bytes(8, "little")
    path.write_bytes(content)
    with path.open("ab") as file:
        file.truncate(1 << 40)  # sparse: the claim is covered by the file's size
    with Bag(path) as bag:
        assert 0 < len(heard(bag)) < COUNT
        assert "is cut off or damaged" in bag.damage
