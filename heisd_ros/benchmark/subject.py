"""The measured model: the shipped one, or random weights at a real model's shapes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from heisd_ros.errors import BenchmarkError
from heisd_ros.families.checkpoint import load_checkpoint, modules_of
from heisd_ros.families.shapes import Shape, TimedModel, Whole, fill
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.database import Database, Shard
from heisd_ros.retrieval.entries import COLUMNS
from heisd_ros.retrieval.index import Index
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.quantiser import Quantiser
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.drafter import Drafter, load_drafter
from heisd_ros.vla.token_model import ModelInputs

SHIPPED = "shipped"
SHARD_ENTRIES = 6_837
"""Size of a random shard: 273,465 vectors of 40 tasks (HeiSD, arXiv 2603.17573)."""


@dataclass(frozen=True)
class Subject:
    """A model with everything that a step needs.

    Attributes:
        shape: its name.
        weights: where its weights come from, for a reader.
        vla: the model.
        inputs: gives the prompt with pictures of noise, on the device, for a seed.
        shard: what is searched.
        drafter: the drafter.
    """

    shape: str
    weights: str
    vla: TimedModel
    inputs: Callable[[int], ModelInputs]
    shard: Shard
    drafter: Drafter


def known_shapes() -> dict[str, Shape]:
    """Returns the shapes that the families offer, by name."""
    modules = map(importlib.import_module, modules_of("shapes").values())
    return {name: shape for module in modules for name, shape in module.SHAPES.items()}


def load_subject(shape: str, device: torch.device, dtype: torch.dtype) -> Subject:
    """Loads or makes a model and its shard and drafter.

    Raises:
        BenchmarkError: the device does not exist, or there is no such shape.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(f"device {str(device)!r} is not there; accepted here: cpu")
    if shape == SHIPPED:
        return _shipped(device, dtype)
    whole = {name: own for name, own in known_shapes().items() if isinstance(own, Whole)}
    if shape not in whole:
        raise BenchmarkError(
            f"no whole steps of {shape!r}; accepted: {SHIPPED}, {', '.join(whole)}"
        )
    vla, inputs = whole[shape].make(device, dtype)
    with torch.device("meta"):
        drafter = Drafter.of(vla).to(dtype)
    fill(drafter, device)
    with torch.inference_mode():
        key = vla.retrieval_key(vla.with_engine("plain").features(inputs(0)))
    weights = f"random at the shapes of {shape}, {_name(dtype)}"
    drafter = drafter.eval().requires_grad_(False)
    shard = random_shard(len(key), vla.codec.action_ids[-100])
    return Subject(shape, weights, vla, inputs, shard, drafter)


def random_shard(size: int, token: int, entries: int = SHARD_ENTRIES) -> Shard:
    """Returns a shard in memory whose keys are noise of a size, and whose tokens are all one."""
    rng = np.random.default_rng(0)
    kept = 64
    columns = {
        name: np.zeros((entries, *column.row(UNNAMED_ANSWER)), column.disk)
        for name, column in COLUMNS.items()
    }
    columns["tokens"] += np.asarray(token, columns["tokens"].dtype)
    codes = rng.integers(0, 256, (entries, size), dtype=np.uint8)
    spread = np.float32(size**-0.5)
    quantiser = Quantiser.of(np.full(size, -spread), np.full(size, spread))
    components = rng.normal(size=(kept, size)).astype(np.float32) * spread
    projection = Projection(np.zeros(size, np.float32), components)
    coordinates = projection(quantiser.decode(codes)).astype(np.float16)
    space = KeySpace(projection, quantiser)
    lengths = quantiser.lengths(codes).astype(np.float32)
    index = Index.exact(coordinates)
    return Shard("noise", columns, codes, lengths, coordinates, space, index)


def _shipped(device: torch.device, dtype: torch.dtype) -> Subject:
    folder = shipped_model()
    vla = cast(TimedModel, load_checkpoint(folder, device, dtype))
    identity = fingerprint(folder)
    drafter = load_drafter(folder / "drafter", identity, vla)
    shard = next(iter(Database.open(folder / "database", identity)))
    side, size = vla.spec.image_size, vla.spec.proprio_size

    def inputs(seed: int) -> ModelInputs:
        shape = (len(vla.spec.views), side, side, 3)
        images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        return vla.encode([*images], shard.instruction, np.zeros(size) if size else None)

    weights = f"the shipped model's, {_name(dtype)}"
    return Subject(SHIPPED, weights, vla, inputs, shard, drafter)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
