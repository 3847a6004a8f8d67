"""Peak host memory while a checkpoint of OpenVLA-7B's shape is loaded.

    python bench/load_memory.py --layers 32 --json F     # 15 GB on disk, as much memory on a CPU
    python bench/load_memory.py --layers 2 4 --json F    # the same tensors, fewer decoder layers

Random bfloat16 weights with all of OpenVLA-7B's names are written to shards and loaded by a fresh
process, which reports the largest resident memory that the kernel saw of it, mapped files included.
What is left after the model itself and the largest shard is what loading costs. Every tensor has
OpenVLA-7B's own size whatever the number of layers; the folder is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.vla.checkpoint_files import INDEX

GIB = 2**30
SPARE_GIB = 2.0
CONFIG = {
    "model_type": "openvla",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "norm_stats": {"random": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7}}},
}


def write_checkpoint(folder: Path, layers: int, shard_bytes: int) -> None:
    config = {**CONFIG, "text_config": {"vocab_size": 32064, "num_hidden_layers": layers}}
    (folder / "config.json").write_text(json.dumps(config))
    train_tokenizer(["pick up the bowl"], 520).save(str(folder / "tokenizer.json"))
    with torch.device("meta"):
        state = VLAModel(VLAConfig.from_dict(config)).state_dict()
    index: dict[str, str] = {}
    for number, names in enumerate(shards(state, shard_bytes)):
        name = f"model-{number:05d}.safetensors"
        tensors = {n: torch.empty(state[n].shape, dtype=torch.bfloat16).normal_() for n in names}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(names, name)
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))


def shards(state: dict[str, torch.Tensor], limit: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, tensor in state.items():
        more = 2 * tensor.numel()
        if names and size + more > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    yield names


def load(folder: Path, device: str) -> dict[str, Any]:
    """In the fresh process: bytes of the model and resident memory in GiB."""
    torch.set_num_threads(1)
    before = peak_resident()
    vla = load_checkpoint(folder, device, torch.bfloat16)
    model = sum(p.numel() * p.element_size() for p in vla.model.parameters())
    peak = peak_resident()
    return {
        "model_gib": model / GIB,
        "interpreter_gib": before / GIB,
        "peak_resident_gib": peak / GIB,
    }


def peak_resident() -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    return proc_bytes("/proc/self/status", "VmHWM")


def proc_bytes(path: str, key: str) -> int:
    lines = Path(path).read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))


def measure(layers: int, shard_gib: float, device: str, place: str | None) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="load_memory_", dir=place))
    try:
        write_checkpoint(folder, layers, int(shard_gib * GIB))
        largest = max(p.stat().st_size for p in folder.glob("*.safetensors")) / GIB
        command = [sys.executable, __file__, "--load", str(folder), "--device", device]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    finally:
        shutil.rmtree(folder)
    row = {"layers": layers, "largest_shard_gib": largest, **json.loads(output)}
    on_host = row["model_gib"] if device == "cpu" else 0.0
    row["beyond_gib"] = row["peak_resident_gib"] - on_host - largest
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[32], help="decoder layers")
    parser.add_argument("--shard-gib", type=float, default=1.0, help="size of a shard")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="where the weights are written (default: temporary)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(options.load, options.device)))
        return
    rows = []
    for layers in options.layers:
        needed = 2.3 + 0.38 * layers + SPARE_GIB  # GiB: towers, projector, vocabulary; layers
        free = proc_bytes("/proc/meminfo", "MemAvailable") / GIB
        if options.device == "cpu" and free < needed:
            parser.exit(
                1, f"{layers} layers need {needed:.0f} GiB of memory; {free:.0f} are free\n"
            )
        rows.append(measure(layers, options.shard_gib, options.device, options.folder))
        print("  ".join(f"{key} {value:.3g}" for key, value in rows[-1].items()), flush=True)
    result = {
        "shape": "openvla-7b, decoder layers as in each row",
        "weights": "random, bfloat16",
        "device": options.device,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "rows": rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
