"""A checkpoint of OpenVLA's layout in other sizes, and what another implementation makes of it.

The towers are written out here with torch's plain operations, the language model is transformers'
LlamaForCausalLM, run without a cache on embeddings that are put together here.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from support.tree import ROOT

TOKENIZER = ROOT / "test" / "data" / "openvla_reference" / "tokenizer.json"
TOWERS = (
    {"embed_dim": 32, "depth": 3, "num_heads": 2},
    {"embed_dim": 24, "depth": 4, "num_heads": 3},
)
TEXT = {
    "vocab_size": 32064,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
MEANS, STDS = ([0.4, 0.5, 0.6], [0.5, 0.5, 0.5]), ([0.2, 0.25, 0.3], [0.5, 0.25, 0.5])
ALPHA = {"q01": [-1.0, -2.0, 0.0, 0.1, 0.2, 0.3, 0.0], "q99": [1.0, 2.0, 3.0, 0.5, 0.6, 0.7, 1.0]}
BETA = {"q01": [-0.5] * 7, "q99": [0.25] * 7, "mask": [True] * 6 + [False]}
CONFIG = {
    "model_type": "openvla",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "timm_tiny_kwargs": list(TOWERS),
    "text_config": TEXT,
    "norm_stats": {"alpha": {"action": ALPHA}},
}


def random_tensors(seed=3):
    """Every tensor that such a checkpoint has, by OpenVLA's names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def add(name, *shape, gain=1.0, around=0.0):
        scale = gain * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
        tensors[name] = around + scale * torch.randn(shape, generator=generator)

    def linear(name, out, inside, bias=True, gain=1.0):
        add(f"{name}.weight", out, inside, gain=gain)
        if bias:
            add(f"{name}.bias", out)

    for tower, sizes in zip(("featurizer", "fused_featurizer"), TOWERS, strict=True):
        at, width = f"vision_backbone.{tower}", sizes["embed_dim"]
        mlp = int(width * (4.0 if tower == "featurizer" else 3.7362))
        add(f"{at}.patch_embed.proj.weight", width, 3, 14, 14, gain=0.2)
        add(f"{at}.patch_embed.proj.bias", width)
        add(f"{at}.pos_embed", 1, 256, width, gain=3.0)
        if tower == "featurizer":
            add(f"{at}.cls_token", 1, 1, width)
            add(f"{at}.reg_token", 1, 4, width)
        for block in range(sizes["depth"]):
            here = f"{at}.blocks.{block}"
            for norm in ("norm1", "norm2"):
                add(f"{here}.{norm}.weight", width, around=1.0)
                add(f"{here}.{norm}.bias", width)
            linear(f"{here}.attn.qkv", 3 * width, width, gain=2.0)
            linear(f"{here}.attn.proj", width, width)
            linear(f"{here}.mlp.fc1", mlp, width)
            linear(f"{here}.mlp.fc2", width, mlp)
            if tower == "featurizer":
                add(f"{here}.ls1.scale_factor", width, around=0.7)
                add(f"{here}.ls2.scale_factor", width, around=0.7)
        add(f"{at}.norm.weight", width, around=1.0)
    vision, hidden = sum(sizes["embed_dim"] for sizes in TOWERS), TEXT["hidden_size"]
    linear("projector.fc1", 4 * vision, vision)
    linear("projector.fc2", hidden, 4 * vision)
    linear("projector.fc3", hidden, hidden)
    at, inter = "language_model.model", TEXT["intermediate_size"]
    key = hidden * TEXT["num_key_value_heads"] // TEXT["num_attention_heads"]
    add(f"{at}.embed_tokens.weight", 32064, hidden, gain=5.0)
    for layer in range(TEXT["num_hidden_layers"]):
        here = f"{at}.layers.{layer}"
        for name, out in (("q", hidden), ("k", key), ("v", key), ("o", hidden)):
            linear(f"{here}.self_attn.{name}_proj", out, hidden, bias=False, gain=2.0)
        linear(f"{here}.mlp.gate_proj", inter, hidden, bias=False)
        linear(f"{here}.mlp.up_proj", inter, hidden, bias=False)
        linear(f"{here}.mlp.down_proj", hidden, inter, bias=False)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            add(f"{here}.{norm}.weight", hidden, around=1.0)
    add(f"{at}.norm.weight", hidden, around=1.0)
    add("language_model.lm_head.weight", 32064, hidden)
    tensors["language_model.lm_head.weight"][31744:32000] *= 4.0  # a model that acts
    return tensors


def write_checkpoint(folder, tensors):
    """A folder without tokenizer.model and with statistics in two files."""
    folder.mkdir()
    save_file(
        {name: t.to(torch.bfloat16) for name, t in tensors.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(CONFIG))
    saved = [{"mean": m, "std": s} for m, s in zip(MEANS, STDS, strict=True)]
    (folder / "preprocessor_config.json").write_text(json.dumps({"tvf_normalize_params": saved}))
    (folder / "dataset_statistics.json").write_text(json.dumps({"beta": {"action": BETA}}))
    shutil.copy(TOKENIZER, folder)
    return folder


def pixels_of(image):
    small = image.resize((224, 224), Image.Resampling.BICUBIC)
    scaled = torch.tensor(np.array(small)).permute(2, 0, 1).float().div(255)
    parts = [
        (scaled - torch.tensor(m).view(3, 1, 1)) / torch.tensor(s).view(3, 1, 1)
        for m, s in zip(MEANS, STDS, strict=True)
    ]
    return torch.cat(parts)


def tower(tensors, name, heads, depth, pixels):
    """Patch features [256, width] after the second to last block."""

    def get(part):
        return tensors[f"vision_backbone.{name}.{part}"]

    weight = get("patch_embed.proj.weight")
    x = F.conv2d(pixels[None], weight, get("patch_embed.proj.bias"), stride=14)
    x = x.flatten(2).transpose(1, 2)[0] + get("pos_embed")[0]
    extra = 0
    if name == "featurizer":
        x, extra = torch.cat([get("cls_token")[0], get("reg_token")[0], x]), 5
    for block in range(depth - 1):

        def part(which, at=f"blocks.{block}"):
            return get(f"{at}.{which}")

        def norm(which, y):
            return F.layer_norm(
                y, y.shape[-1:], part(f"{which}.weight"), part(f"{which}.bias"), 1e-6
            )

        def linear(which, y):
            return F.linear(y, part(f"{which}.weight"), part(f"{which}.bias"))

        q, k, v = linear("attn.qkv", norm("norm1", x)).chunk(3, dim=-1)
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(0, 1) for y in (q, k, v))
        attention = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        change = linear("attn.proj", attention.transpose(0, 1).flatten(1))
        x = x + change * (part("ls1.scale_factor") if extra else 1.0)
        change = linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2", x))))
        x = x + change * (part("ls2.scale_factor") if extra else 1.0)
    return x[extra:]


def llama(tensors):
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**TEXT, attn_implementation="eager")).eval()
    own = {
        name.removeprefix("language_model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("language_model.")
    }
    model.load_state_dict(own)
    return model


@torch.inference_mode()
def outputs(tensors, model, image, ids):
    """Everything between pixels and tokens."""
    pixels = pixels_of(image)
    towers = [
        tower(tensors, name, sizes["num_heads"], sizes["depth"], half)
        for name, sizes, half in zip(
            ("featurizer", "fused_featurizer"), TOWERS, pixels.split(3), strict=True
        )
    ]
    x = torch.cat(towers, dim=-1)
    for number, activation in ((1, F.gelu), (2, F.gelu), (3, lambda y: y)):
        at = f"projector.fc{number}"
        x = activation(F.linear(x, tensors[f"{at}.weight"], tensors[f"{at}.bias"]))
    table = tensors["language_model.model.embed_tokens.weight"]
    tokens, logits = [], []
    for _ in range(7):
        columns = torch.cat([table[ids[:1]], x, table[[*ids[1:], *tokens]]])
        logits.append(model(inputs_embeds=columns[None], use_cache=False).logits[0, -1])
        tokens.append(int(logits[-1].argmax()))
    return pixels, towers, x, torch.stack(logits), tokens


def unnormalised(normalised, statistics):
    mask = statistics.get("mask", [True] * 7)
    rows = zip(normalised, statistics["q01"], statistics["q99"], mask, strict=True)
    return [0.5 * (x + 1) * (high - low) + low if m else x for x, low, high, m in rows]


def write_reference(folder, tensors):
    """Two cases: one with every field, one with the least."""
    from tokenizers import Tokenizer

    folder.mkdir()
    tensors = {name: tensor.to(torch.bfloat16).float() for name, tensor in tensors.items()}
    model, tokenizer = llama(tensors), Tokenizer.from_file(str(TOKENIZER))
    rng = np.random.default_rng(5)
    cases, arrays = [], {}
    for name, size, text in (("one", (200, 90), "Lift the LID"), ("one__b", (224, 224), "stop")):
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
        image.save(folder / f"{name}.bmp")
        prompt = f"In: What action should the robot take to {text.lower()}?\nOut:"
        plain = tokenizer.encode(prompt)
        ids = [*plain.ids, 29871]
        pixels, towers, projected, logits, tokens = outputs(tensors, model, image, ids)
        bins = [min(max(31999 - token, 0), 254) for token in tokens]
        normalised = [(2 * b + 1) / 255 - 1 for b in bins]
        cases.append({"name": name, "image": f"{name}.bmp", "prompt": prompt})
        arrays[f"{name}__action_logits"] = logits[:, 31744:32000].numpy()
        if name != "one":
            continue
        cases[0] |= {
            "instruction": text,
            "tokens": plain.tokens,
            "input_ids": plain.ids,
            "input_ids_with_empty": ids,
            "image_hw": [90, 200],
            "unnorm_key": "alpha",
            "action_token_ids": tokens,
            "action_bins": bins,
            "normalized_actions": normalised,
            "actions": unnormalised(normalised, ALPHA),
        }
        arrays |= {
            "one__pixel_values": pixels.numpy(),
            "one__dino_patches": towers[0].numpy(),
            "one__siglip_patches": towers[1].numpy(),
            "one__projected": projected.numpy(),
            "one__logits": logits.numpy(),
        }
    (folder / "reference.json").write_text(json.dumps({"cases": cases}))
    np.savez(folder / "reference.npz", **arrays)
    return folder
