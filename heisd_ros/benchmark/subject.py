"""The measured model: the shipped one, or random weights at a real model's shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import Tensor

from heisd_ros.errors import BenchmarkError
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import OpenVLAInputs, VLAModel
from heisd_ros.families.openvla.vla import VLA
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
from heisd_ros.vla.language_config import LanguageConfig

Shape = Literal["openvla-7b", "mini", "shipped"]
FamilyShape = Literal["ecot", "nora", "pi0-fast"]
TEXT_TOKENS = 24
"""Length of a random prompt, BOS included: about that of LIBERO's instructions in OpenVLA."""
SHARD_ENTRIES = 6_837
"""Size of a random shard: 273,465 vectors of 40 tasks (HeiSD, arXiv 2603.17573)."""

_TIMM_IDS = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
_MINI_TOWER = {"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0}
_SPREAD = 0.02  # deviation of random weights, as at the start of training


@dataclass(frozen=True)
class Subject:
    """A model with everything that a step needs.

    Attributes:
        shape: its name.
        weights: where its weights come from, for a reader.
        vla: the model.
        ids: [1, T] a prompt.
        proprio: [1, P], or None.
        shard: what is searched.
        drafter: the drafter.
    """

    shape: Shape
    weights: str
    vla: VLA
    ids: Tensor
    proprio: Tensor | None
    shard: Shard
    drafter: Drafter

    def inputs(self, seed: int) -> OpenVLAInputs:
        """Returns the prompt with pictures of noise, on the device."""
        config, vla = self.vla.config, self.vla
        shape = (1, len(config.views), 6, config.image_size, config.image_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return OpenVLAInputs(noise.to(vla.device, vla.dtype), self.ids, self.proprio)


def load_subject(shape: Shape, device: torch.device, dtype: torch.dtype) -> Subject:
    """Loads or makes a model and its shard and drafter.

    Raises:
        BenchmarkError: the device does not exist.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(f"device {str(device)!r} is not there; accepted here: cpu")
    if shape == "shipped":
        return _shipped(device, dtype)
    config = openvla_config() if shape == "openvla-7b" else mini_config()
    model = random_model(config, device, dtype)
    size = model.answer.max_tokens
    statistics = {"random": ActionStatistics((-1.0,) * size, (1.0,) * size)}
    vla = VLA(model, Tokenizer(BPE()), statistics)
    with torch.device("meta"):
        drafter = Drafter.of(vla).to(dtype)
    fill(drafter, device)
    ids = torch.arange(1, TEXT_TOKENS + 1, device=device).unsqueeze(0)
    weights = f"random at the shapes of {shape}, {_name(dtype)}"
    drafter = drafter.eval().requires_grad_(False)
    return Subject(shape, weights, vla, ids, None, random_shard(config), drafter)


def openvla_config() -> VLAConfig:
    """Returns the config of OpenVLA-7B, as in its ``config.json``."""
    return VLAConfig.from_dict({"timm_model_ids": _TIMM_IDS})


def mini_config() -> VLAConfig:
    """Returns a config with OpenVLA's columns, patches and vocabulary, but few narrow layers."""
    config = VLAConfig.from_dict(
        {"timm_model_ids": _TIMM_IDS, "timm_tiny_kwargs": [_MINI_TOWER] * 2}
    )
    language = LanguageConfig(
        hidden_size=256, intermediate_size=688, num_hidden_layers=8, num_attention_heads=8
    )
    return replace(config, language=language)


def random_model(config: VLAConfig, device: torch.device, dtype: torch.dtype) -> VLAModel:
    """Returns a model with random weights, drawn on the device without a copy on the host."""
    with torch.device("meta"):
        model = VLAModel(config).to(dtype)
    fill(model, device)
    if device.type == "cpu":
        model.arrange_for_cpu()
    return model.requires_grad_(False)


@torch.no_grad()
def fill(module: torch.nn.Module, device: torch.device) -> None:
    """Fills a module: random matrices, norms of one, everything else zero."""
    module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, _SPREAD, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for buffer in module.buffers():
        buffer.zero_()


def random_shard(config: VLAConfig, entries: int = SHARD_ENTRIES) -> Shard:
    """Returns a shard in memory whose entries are noise."""
    rng = np.random.default_rng(0)
    size, kept = len(config.views) * config.vision_width, 64
    columns = {
        name: np.zeros((entries, *column.row(UNNAMED_ANSWER)), column.disk)
        for name, column in COLUMNS.items()
    }
    columns["tokens"] += np.asarray(config.real_vocab_size - 100, columns["tokens"].dtype)
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
    vla = load_checkpoint(folder, device, dtype)
    identity = fingerprint(folder)
    drafter = load_drafter(folder / "drafter", identity, vla)
    shard = next(iter(Database.open(folder / "database", identity)))
    ids = torch.tensor([vla.prompts.encode(shard.instruction)], device=device)
    size = vla.config.proprio_size
    proprio = torch.zeros(1, size, device=device, dtype=dtype) if size else None
    return Subject(
        "shipped", f"the shipped model's, {_name(dtype)}", vla, ids, proprio, shard, drafter
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
