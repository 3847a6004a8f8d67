"""Conversion of a database of the previous format to the current one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from heisd_ros.errors import DatabaseError
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.retrieval.database import check_files
from heisd_ros.retrieval.manifest import FORMAT, MANIFEST, Manifest, damaged, digest

DROPPED = ("joints", "lookahead", "margins", "positions")
"""Columns of format 1 that were never read."""


def convert_database(folder: Path) -> Manifest:
    """Converts a database of format 1 to the current format, in place.

    What searches read stays the same byte for byte, and so do the id and the calibration that is
    bound to it. If the process is killed at any moment, a database of one of the formats is left.

    Returns:
        the new manifest.

    Raises:
        DatabaseError: it is damaged, of another format, or cannot be written.
    """
    values = read_object(folder / MANIFEST, damaged)
    if values.get("format") != 1:
        raise DatabaseError(f"{folder} has format {shown(values.get('format'))}; accepted: 1")
    # In format 1 the id was the checksum.
    if values.get("database_id") != digest(values, ("created", "database_id")):
        raise damaged(f"{folder / MANIFEST} was changed after it was written")
    values["format"] = FORMAT
    old = Manifest.checked(folder, {**values, "checksum": digest(values)})
    check_files(folder, old)
    gone = {name for name in old.files if PurePosixPath(name).stem in DROPPED}
    files = {name: hashed for name, hashed in old.files.items() if name not in gone}
    new = replace(old, files=files).sealed()
    try:
        replace_text(folder / MANIFEST, new.to_json())
        for name in gone:
            (folder / name).unlink()
    except OSError as error:
        raise DatabaseError(f"{folder} cannot be written: {error.strerror or error}") from error
    return new
