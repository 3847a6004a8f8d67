"""Finds the files of a rosbag2 recording and opens each, complete or truncated."""

from __future__ import annotations

import reprlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from zstandard import ZstdDecompressor

from heisd_ros.data.mcap_file import McapFile
from heisd_ros.data.sqlite_file import SqliteFile, with_journal
from heisd_ros.data.storage import Storage
from heisd_ros.data.text_files import inside, one_line, read_yaml
from heisd_ros.errors import BagError

FOREVER = 2**63 - 1
"""Later than any message, ns."""
METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".db3")
_ZSTD = ".zstd"
ROOM, RATIO = 1 << 30, 200
"""Limits of a decompressed file: bytes, and the ratio to its compressed size."""
_ACCEPTED = f"a rosbag2 folder or a file *{', *'.join(SUFFIXES)}, *{_ZSTD} of these"


@dataclass(frozen=True)
class Layout:
    """The files of a recording.

    Attributes:
        files: The storage files, in order of time if that is known.
        unordered: Why the order is not known; empty if it is.
        custom: What the recorder noted besides the messages.
        missing: Files that metadata.yaml names but that do not exist.
        unnamed: Storage files that exist but that metadata.yaml does not name.
    """

    files: list[Path]
    unordered: str = ""
    custom: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)


def is_storage(path: Path) -> bool:
    """Whether a path is a storage file by its name, compressed as a whole or not."""
    return path.name.removesuffix(_ZSTD).endswith(SUFFIXES) and path.is_file()


def layout_of(path: Path) -> Layout:
    """Finds the storage files of a bag.

    Args:
        path: A rosbag2 folder or one storage file.

    Raises:
        BagError: There is none, or metadata.yaml is malformed or names files outside the folder.
    """
    if is_storage(path):
        return Layout([path])
    if not path.is_dir():
        what = "is no bag" if path.exists() else "does not exist"
        raise BagError(f"{path} {what}; accepted: {_ACCEPTED}")
    place = path / METADATA
    unordered = f"{place} is missing"
    if place.is_file():
        try:
            return _from_metadata(path, read_yaml(place)["rosbag2_bagfile_information"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unordered = f"{place} is no rosbag2 metadata: {type(error).__name__}: {one_line(error)}"
    found = sorted(file for file in path.iterdir() if is_storage(file))
    # A recorder killed during compression leaves the file and a partial compressed copy.
    files = [f for f in found if f.suffix != _ZSTD or f.with_name(f.stem) not in found]
    if not files:
        raise BagError(f"{path} is no bag: it has no file; accepted: {_ACCEPTED}; {unordered}")
    return Layout(files, unordered)


def _from_metadata(folder: Path, values: dict[str, Any]) -> Layout:
    """Reads the values of metadata.yaml; raises on a missing key or a value of another kind."""
    place = folder / METADATA
    names = list(dict.fromkeys(values["relative_file_paths"]))
    mode, scheme = values.get("compression_mode") or "", values.get("compression_format") or ""
    custom = values.get("custom_data") or {}
    if mode.lower() in ("file", "message") and scheme != "zstd":
        raise BagError(f"{place}: compression_format is {reprlib.repr(scheme)}; accepted: 'zstd'")
    if not isinstance(custom, dict) or not all(isinstance(v, str) for v in custom.values()):
        raise BagError(f"{place}: custom_data is {reprlib.repr(custom)}; accepted: texts by name")
    files, missing = [], []
    for name in names:
        if not isinstance(name, str) or not inside(name):
            raise BagError(
                f"{place} names {reprlib.repr(name)}; accepted: files inside the bag's folder"
            )
        # Before its version 4 the bag's own folder was part of a path.
        found = [f for f in (folder / name, folder / PurePosixPath(name).name) if f.is_file()]
        if found:
            files.append(found[0])
        else:
            missing.append(name)
    if not files:
        raise BagError(f"{place} names {names}, of which no file is there")
    unnamed = [f.name for f in sorted(folder.iterdir()) if is_storage(f) and f not in files]
    return Layout(files, custom=custom, missing=missing, unnamed=unnamed)


def unpack(file: Path, stack: ExitStack) -> tuple[Path, str]:
    """Decompresses a storage file; returns its path and, if it ends early, why.

    Args:
        file: As in the bag.
        stack: Removes the unpacked file when it is closed.

    Raises:
        OSError: It cannot be read, or there is no room to unpack it.
    """
    folder = stack.enter_context(TemporaryDirectory())
    target, damage = Path(folder) / file.name.removesuffix(_ZSTD), ""
    with file.open("rb") as packed, target.open("wb") as plain:
        try:
            room = ROOM + RATIO * file.stat().st_size
            stream = ZstdDecompressor().stream_reader(packed)
            while block := stream.read(1 << 20):
                room -= plain.write(block)
                if room < 0:
                    raise BagError(f"they are more than {RATIO} times as many; accepted: fewer")
        except Exception as error:  # zstd raises errors of its own; what came before is kept
            if isinstance(error, OSError):
                raise
            damage = f"compressed data are not read to their end ({error})"
    return target, damage


def open_storage(file: Path, stack: ExitStack) -> tuple[Storage, str]:
    """Opens one storage file, compressed or not, truncated or not.

    Args:
        file: As in the bag.
        stack: Removes what is unpacked when it is closed.

    Returns:
        The file, and a remark about it that means no loss; empty if there is none.

    Raises:
        BagError: Nothing of it can be read.
    """
    remark, cut = "", ""
    try:
        plain = file
        if file.suffix == _ZSTD:
            plain, cut = unpack(file, stack)
        if plain.suffix == ".mcap":
            storage: Storage = McapFile(plain)
        else:
            whole = with_journal(plain, stack)
            if whole != plain:
                remark = (
                    f"{file.name}: its recorder was killed; what lay in its journal is read too"
                )
            storage = SqliteFile(whole)
    except Exception as error:  # the libraries' errors on damage are of many kinds
        raise BagError(f"{file} cannot be read as a bag: {cut or one_line(error)}") from error
    storage.damage = cut or storage.damage
    if not storage.connections and storage.damage:
        raise BagError(f"{file} cannot be read as a bag: {storage.damage}")
    return storage, remark
