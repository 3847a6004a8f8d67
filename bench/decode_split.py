"""Where a control step's time goes: medians in milliseconds for each part, at 1 and 2 threads.

    python bench/decode_split.py                    # a small model with random weights
    python bench/decode_split.py --checkpoint DIR   # a checkpoint folder

`step` is one decode pass of one token, `total` a whole autoregressive step of the decoder, image
preprocessing included. Other work on the machine disturbs all of them; the quickest decile stands
beside the median to show by how much.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.language_config import LanguageConfig

INSTRUCTION = "pick up the black bowl next to the plate and place it on the plate"


def random_vla(layers: int, hidden: int) -> VLA:
    """A model of the size that ships, with random weights."""
    prompt = "{instruction}\n"
    tower = TowerConfig(
        image_size=128, patch_size=16, stem="conv", final_norm=True, pixel_shuffle=4
    )
    config = VLAConfig(
        towers=(tower, tower),
        language=LanguageConfig(
            vocab_size=1032,
            hidden_size=hidden,
            intermediate_size=8 * hidden // 3,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            max_position_embeddings=256,
        ),
        pad_to_multiple_of=8,
        pad_token_id=1024,
        projector_width=512,
        views=("agentview", "wrist"),
        proprio_size=7,
        prompt=prompt,
    )
    model = VLAModel(config).initialise().requires_grad_(False)
    model.arrange_for_cpu()
    tokenizer = train_tokenizer([INSTRUCTION], 1024, prompt=prompt)
    return VLA(model, tokenizer, {"random": ActionStatistics((-1.0,) * 7, (1.0,) * 7)})


@torch.inference_mode()
def measure(vla: VLA, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every part, `repeats` times."""
    config, model = vla.config, vla.model
    rng = np.random.default_rng(0)
    size = config.image_size
    images = tuple(rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in config.views)
    proprio = np.zeros(config.proprio_size, np.float32) if config.proprio_size else None
    instruction = config.instructions[0] if config.instructions else INSTRUCTION
    decoder = AutoregressiveDecoder(vla)
    laps: dict[str, list[float]] = {}

    def lap(name: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = function()
        if vla.device.type == "cuda":
            torch.cuda.synchronize()
        laps.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
        return result

    for _ in range(repeats + 5):
        inputs = lap("preprocess", lambda: vla.encode(images, instruction, proprio))
        features = lap("vision", lambda: model.vision_features(inputs.pixels))
        projected = lap("project", lambda: model.project(features))
        embeds = model.embed(inputs.ids, projected, inputs.proprio)
        prefill = lap("prefill", lambda: model.prefill(embeds))
        token = prefill.logits.argmax(-1, keepdim=True)
        for _ in range(6):
            logits = lap("step", lambda: model.decode(token, prefill.cache))
            token = logits.argmax(-1, keepdim=True)
        lap("total", lambda: decoder.infer(Observation(images, instruction, proprio)))
    return {name: times[len(times) * 5 // (repeats + 5) :] for name, times in laps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", help="folder to load instead of random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=12, help="of the random model")
    parser.add_argument("--hidden", type=int, default=192, help="of the random model")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    if arguments.checkpoint:
        vla = load_checkpoint(arguments.checkpoint, device=arguments.device)
    else:
        vla = random_vla(arguments.layers, arguments.hidden)
        vla.model.to(arguments.device)
    parameters = sum(p.numel() for p in vla.model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, {vla.config.visual_tokens} visual tokens")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        laps = measure(vla, arguments.repeats)
        print(f"{threads} thread(s), ms: median (quickest decile)")
        for name, times in laps.items():
            print(f"  {name:10s} {np.median(times):8.2f} ({np.percentile(times, 10):.2f})")


if __name__ == "__main__":
    main()
