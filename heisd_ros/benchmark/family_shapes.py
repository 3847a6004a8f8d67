"""Time of the passes of other model families: random weights at the shapes of published models.

What an answer costs follows from its passes: the plain loop takes one for each token, an accepted
draft saves as many as it has tokens. On a machine without room or time for all layers, two depths
are measured, and each pass is extrapolated along a straight line.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heisd_ros.benchmark.decode import Settings, device_name
from heisd_ros.benchmark.machine import busy, peak_memory_gib
from heisd_ros.benchmark.subject import FamilyShape, fill
from heisd_ros.benchmark.timing import WARM_UPS, Case, measure
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.errors import BenchmarkError
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.engine import Engine, PlainEngine, Prompt

DRAFT = 16
"""Tokens of the draft that a pass verifies."""
ACCEPTED = (2, 4, 8)
"""Tokens that a pass gains, for which the time of an answer is computed."""
NOTES = (
    "Weights are random: what passes cost is measured, not what they accept.",
    "An answer is vision, prefill and its passes; a pass that verifies a draft has one token and "
    f"{DRAFT} drafted ones.",
)


@dataclass(frozen=True)
class Stages:
    """A network and the inputs of its parts.

    Attributes:
        vision: Runs the vision tower on noise.
        engine: Runs the decoder's passes.
        prompt: A prompt of the usual length.
    """

    vision: Callable[[], Tensor]
    engine: Engine
    prompt: Prompt


Make = Callable[[int, int, torch.device, torch.dtype], Stages]


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        layers: Layers of its decoder.
        tokens: Tokens of a typical answer.
        make: Makes its stages, given layers, tokens, device and number format.
    """

    layers: int
    tokens: int
    make: Make


class _Counted:
    """An `AnswerFormat` of so many tokens, none of which mean anything."""

    counted = True
    groups: tuple[range, ...] = ()
    action_ids = range(0)

    def __init__(self, tokens: int) -> None:
        self.max_tokens = tokens

    def finished(self, tokens: Sequence[int]) -> bool:
        return len(tokens) >= self.max_tokens

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        return 0 if token == greedy else None


@torch.inference_mode()
def run(
    shape: FamilyShape, settings: Settings, layers: int = 0, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measures the passes of a family.

    Args:
        shape: The family.
        settings: Device, number format and rounds.
        layers: Layers of the decoder; twice as many are measured too, and all are extrapolated from
            both. 0: all.
        say: Called with progress messages.

    Returns:
        The JSON's content.

    Raises:
        BenchmarkError: Half the layers or more are asked for, or an option is of other shapes.
    """
    if settings.compiler or settings.int8 or settings.evaluation:
        raise BenchmarkError(f"--compile, --int8 and --from-eval are not for the shape {shape}")
    whole, columns = PUBLISHED[shape], 0
    if not 0 <= 2 * layers < whole.layers:
        raise BenchmarkError(f"{layers} layers; accepted: 0 (all) to {(whole.layers - 1) // 2}")
    depths = (layers, 2 * layers) if layers else (whole.layers,)
    measured = {}
    for depth in depths:
        say(f"{depth} of {whole.layers} layers")
        stages = whole.make(depth, whole.tokens, settings.device, settings.dtype)
        columns = len(stages.prompt.columns[0])
        measured[depth] = _passes(stages, settings)
        del stages
        gc.collect()
    ms = measured[depths[-1]]
    if layers:
        few, more = measured[depths[0]], measured[depths[-1]]
        rest = (whole.layers - depths[-1]) / layers
        ms = {name: more[name] + rest * (more[name] - few[name]) for name in more}
    return {
        "shape": shape,
        "device": device_name(settings.device),
        "dtype": str(settings.dtype).removeprefix("torch."),
        "weights": "random",
        "layers": whole.layers,
        "measured_layers": list(depths),
        "prompt_columns": columns,
        "tokens": whole.tokens,
        "busy": busy(),
        "peak_memory_gib": peak_memory_gib(settings.device),
        "torch": torch.__version__,
        "measured_ms": {str(depth): _rounded(own) for depth, own in measured.items()},
        "ms": _rounded(ms),
        "answer_ms": _rounded(_answers(ms, whole.tokens)),
        "notes": list(NOTES),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Formats a result as lines of text."""
    depths = " and ".join(map(str, result["measured_layers"]))
    more = "" if len(result["measured_layers"]) == 1 else ", extrapolated"
    return [
        f"{result['device']}; {result['shape']}: random weights, {result['dtype']}; {depths} of "
        f"{result['layers']} layers{more}; {result['prompt_columns']} columns; {result['busy']}",
        *(f"{name:42s}{value:12.2f} ms" for name, value in result["ms"].items()),
        *(f"{name:42s}{value:12.2f} ms" for name, value in result["answer_ms"].items()),
        *result["notes"],
    ]


def _passes(stages: Stages, settings: Settings) -> dict[str, float]:
    """Returns the median time of each part, ms."""
    chain = DraftTree.from_chains([range(1, DRAFT + 1)])
    room = 2 * (settings.rounds + WARM_UPS) + DRAFT
    sequence, _ = stages.engine.start(stages.prompt, None, room)

    def verify() -> None:
        sequence.extend(1, chain)
        sequence.keep([])

    cases = [
        Case("vision", stages.vision, step=False),
        Case("prefill", lambda: stages.engine.start(stages.prompt), step=False),
        Case("prefill with a draft", lambda: stages.engine.start(stages.prompt, chain), step=False),
    ]
    times = measure(cases, settings.device, settings.rounds, settings.clock)
    # Each pass adds a column, so both kinds take turns on one sequence.
    passes = [
        Case("one token", lambda: sequence.extend(1), step=False),
        Case("one token with a draft", verify, step=False),
    ]
    times |= measure(passes, settings.device, settings.rounds, settings.clock)
    return {name: float(np.median(values)) for name, values in times.items()}


def _answers(ms: dict[str, float], tokens: int) -> dict[str, float]:
    """Returns the time of an answer by the plain loop and with drafts, ms."""
    begin = ms["vision"] + ms["prefill"]
    found = {f"answer of {tokens} tokens, plain loop": begin + (tokens - 1) * ms["one token"]}
    for gained in ACCEPTED:
        passes = -(-tokens // gained) - 1
        found[f"answer, {gained} tokens a pass"] = (
            ms["vision"] + ms["prefill with a draft"] + passes * ms["one token with a draft"]
        )
    return found


def _rounded(ms: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in ms.items()}


def _noise(*shape: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def _ecot(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Stages:
    """Makes ECoT-7B: SigLIP and Vicuna-7B."""
    from heisd_ros.families.ecot.config import EcotConfig
    from heisd_ros.families.ecot.network import EcotNetwork
    from heisd_ros.families.openvla.tower_config import timm_tower
    from heisd_ros.vla.language_config import LanguageConfig

    language = LanguageConfig(num_hidden_layers=layers)
    tower = timm_tower("vit_so400m_patch14_siglip_224", {}, 224, {})
    config = EcotConfig(tower, language)
    with torch.device("meta"):
        network = EcotNetwork(config, _Counted(tokens)).to(dtype)
    fill(network, device)
    if device.type == "cpu":
        network.arrange_for_cpu()
    columns = tower.tokens + 70  # Vicuna's system prompt, and an instruction
    pixels = _noise(1, 3, 224, 224, device=device, dtype=dtype)
    prompt = Prompt(_noise(1, columns, language.hidden_size, device=device, dtype=dtype))
    vision = network.requires_grad_(False).eval().vision_backbone
    return Stages(lambda: vision(pixels), PlainEngine(network), prompt)


def _nora(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Stages:
    """Makes NORA: Qwen2.5-VL-3B, one picture of 224 pixels."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from heisd_ros.families.nora.preprocessing import rope_positions

    width, grid, text, image = 2048, 16, 40, 151655
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 16,
            "num_key_value_heads": 2, "intermediate_size": 11008, "vocab_size": 153713,
            "max_position_embeddings": 32768,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420,
            "out_hidden_size": width, "fullatt_block_indexes": [7, 15, 23, 31],
        },
        tie_word_embeddings=True,
    )  # fmt: skip
    network = _library(Qwen2_5_VLForConditionalGeneration, config, device, dtype)
    patches = _noise(grid * grid, 1176, device=device, dtype=dtype)
    sizes = torch.tensor([[1, grid, grid]], device=device)
    ids = [*range(text // 2), *[image] * (grid // 2) ** 2, *range(text // 2)]
    positions, following = rope_positions(ids, image, grid // 2)
    columns = _noise(1, len(ids), width, device=device, dtype=dtype)
    prompt = Prompt(columns, positions=positions.to(device), next_position=following)
    visual = network.model.visual
    return Stages(
        lambda: visual(patches, grid_thw=sizes).pooler_output, _engine(network, tokens), prompt
    )


def _pi0_fast(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Stages:
    """Makes pi0-FAST: PaliGemma of 3B, two cameras."""
    from transformers import PaliGemmaForConditionalGeneration

    from heisd_ros.families.pi0fast.checkpoint import library_config
    from heisd_ros.families.pi0fast.config import Pi0FastConfig, TextSizes

    cameras, text = ("base", "wrist"), 60
    config = Pi0FastConfig(cameras, 8, 7, 10, 224, text=TextSizes(depth=layers))
    library = library_config(config, 257152)
    network = _library(PaliGemmaForConditionalGeneration, library, device, dtype)
    pixels = _noise(len(cameras), 3, 224, 224, device=device, dtype=dtype)
    columns = len(cameras) * (224 // config.vision.patch_size) ** 2 + text
    every = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    prompt = Prompt(_noise(1, columns, config.text.width, device=device, dtype=dtype), mask=every)
    tower = network.model.vision_tower
    return Stages(lambda: tower(pixels).last_hidden_state, _engine(network, tokens), prompt)


def _library(kind: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Makes a network of the library with random weights."""
    with torch.device("meta"):
        network = kind(config).to(dtype)
    fill(network, device)
    return network.requires_grad_(False).eval()


def _engine(network: Any, tokens: int) -> Engine:
    from heisd_ros.vla.transformers_engine import TransformersEngine

    answer: AnswerFormat = _Counted(tokens)
    return TransformersEngine(network.model.language_model, network.lm_head, answer=answer)


PUBLISHED: dict[FamilyShape, Published] = {
    "ecot": Published(32, 120, _ecot),
    "nora": Published(36, 10, _nora),
    "pi0-fast": Published(18, 30, _pi0_fast),
}
