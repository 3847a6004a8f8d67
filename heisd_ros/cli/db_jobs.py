"""What `heisd db` runs a model on, here or in the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heisd_ros.cli.reading import description_of, reading_of

if TYPE_CHECKING:
    from heisd_ros.data.source import Item, Source
    from heisd_ros.training.build_journal import Record
    from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class BuildJob:
    """All that a worker needs for the episodes of a build; every path is the same on its machine.

    Attributes:
        model: Checkpoint folder.
        demonstrations: Where the demonstrations are.
        states: Initial states whose episodes are taken.
        every: Take every n-th recorded frame.
        batch_size: Frames at a time.
        only: Marks of which an episode has one; none: every episode.
    """

    model: str
    suite: str
    protocol: str
    unnorm_key: str
    dtype: str
    demonstrations: tuple[Path, ...]
    params: Path | None
    features: Path | None
    urdf: Path | None
    states: frozenset[int]
    every: int
    batch_size: int
    only: tuple[str, ...] = ()


_prepared: dict[BuildJob, tuple[TokenModel, float, list[Item]]] = {}
"""What a worker has loaded, by what it was asked for."""


def numbered_record(job: BuildJob, number: int) -> tuple[int, Record]:
    """Runs the model over one episode; returns its number and what goes into the journal."""
    from heisd_ros.training.build_database import record_of
    from heisd_ros.training.selection import choose_items

    if job not in _prepared:
        vla, _, rate_hz = load_model(job.model, job.suite, job.protocol, job.unnorm_key, job.dtype)
        sources = open_demonstrations(
            job.demonstrations, job.params, job.features, job.urdf, rate_hz, job.only
        )
        _prepared[job] = vla, rate_hz, list(choose_items(sources, job.states))
    vla, rate_hz, items = _prepared[job]
    record = record_of(vla, items[number], number, rate_hz, job.every, job.batch_size)
    return number, record


def load_model(
    model: str, suite: str, protocol: str, unnorm_key: str, dtype: str
) -> tuple[TokenModel, str, float]:
    """Loads a model by name or folder; also returns its fingerprint and its control rate, Hz."""
    import torch

    from heisd_ros.models import find_model
    from heisd_ros.sim.protocol import load_for_suite, load_protocol
    from heisd_ros.sim.scene import CONTROL_RATE_HZ
    from heisd_ros.vla.checkpoint_files import fingerprint

    checkpoint = find_model(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vla = load_for_suite(
        checkpoint,
        suite,
        load_protocol(protocol, checkpoint),
        device=device,
        dtype=dtype,
        unnorm_key=unnorm_key,
    )
    return vla, fingerprint(checkpoint), float(vla.spec.control_rate_hz or CONTROL_RATE_HZ)


def read_as(
    model: str,
    protocol: str,
    dtype: str,
    params: Path | None,
    features: Path | None,
    urdf: Path | None,
) -> dict[str, str]:
    """What decides what an episode gives, beside its recording; see `build_database`."""
    from heisd_ros.errors import DemonstrationError
    from heisd_ros.files.bounded import read_text
    from heisd_ros.models import find_model
    from heisd_ros.robot.robot_file import read_cell_file
    from heisd_ros.sim.protocol import load_protocol

    files = {"params": params, "features": features, "urdf": urdf}
    texts = {n: "" if f is None else read_text(f, DemonstrationError) for n, f in files.items()}
    if params is not None:  # which may name the file of the URDF
        texts["urdf"] = description_of(read_cell_file(params), urdf) or ""
    return {
        "dtype": dtype,
        "protocol": repr(load_protocol(protocol, find_model(model))),
        **texts,
    }


def open_demonstrations(
    paths: Sequence[Path],
    params: Path | None,
    features: Path | None,
    urdf: Path | None,
    rate_hz: float,
    only: Sequence[str] = (),
) -> list[Source]:
    """Opens the sources of demonstrations; the arguments are those of the command."""
    from heisd_ros.data.marked_source import only_marked
    from heisd_ros.data.open_sources import open_sources

    sources = open_sources(list(paths), reading_of(params, features, urdf, rate_hz))
    return only_marked(sources, only)
