"""What the model itself makes of demonstrated frames: keys, and the tokens that it would emit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.data.episode import Episode
from heisd_ros.families.openvla.config import ACTION_DIMENSIONS
from heisd_ros.families.openvla.network import OpenVLAInputs
from heisd_ros.families.openvla.vla import VLA


@dataclass(frozen=True)
class Frames:
    """T frames of one episode.

    Attributes:
        keys: (T, D) float32, `VLA.retrieval_key`.
        tokens: (T, 7) int64, the greedy token ids of plain decoding.
        margins: (T, 7) float32, logit of each less that of the runner-up.
    """

    keys: NDArray[np.float32]
    tokens: NDArray[np.int64]
    margins: NDArray[np.float32]


def read_frames(
    vla: VLA, episode: Episode, proprio: NDArray[np.float32], batch_size: int
) -> Frames:
    """Runs the model on every frame of an episode, many at a time.

    All frames of an episode have one prompt, so prefill and decoding run on whole batches.

    Args:
        vla: The model.
        episode: With the model's views.
        proprio: (T, P) proprioception; not used by a model without it.
        batch_size: Frames at a time.

    Raises:
        UnknownInstructionError: The model was not trained on this instruction.
        ImageError: A picture is malformed.
    """
    parts = [
        _read_batch(vla, episode, proprio, slice(start, start + batch_size))
        for start in range(0, len(episode), batch_size)
    ]
    return Frames(
        keys=np.concatenate([part.keys for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        margins=np.concatenate([part.margins for part in parts]),
    )


def encode_frames(
    vla: VLA, episode: Episode, proprio: NDArray[np.float32] | None, frames: slice
) -> OpenVLAInputs:
    """B frames of an episode as one batch: what `VLA.encode` makes of each.

    Args:
        vla: The model.
        episode: With the model's views.
        proprio: (T, P) proprioception; None, or not used, by a model without it.
        frames: Which of the T frames.

    Raises:
        UnknownInstructionError: The model was not trained on this instruction.
        ImageError: A picture is malformed.
    """
    views = [episode.images[view][frames] for view in vla.config.views]
    resized = np.stack([[vla.images.resize(image) for image in view] for view in views], axis=1)
    pixels = vla.images.normalise(torch.from_numpy(resized).to(vla.device)).to(vla.dtype)
    ids = torch.tensor([vla.prompts.encode(episode.instruction)], device=vla.device)
    state = None
    if vla.config.proprio_size and proprio is not None:
        state = torch.from_numpy(proprio[frames]).to(vla.device, vla.dtype)
    return OpenVLAInputs(pixels, ids, state)


@torch.inference_mode()
def _read_batch(vla: VLA, episode: Episode, proprio: NDArray[np.float32], frames: slice) -> Frames:
    model = vla.model
    inputs = encode_frames(vla, episode, proprio, frames)
    features = model.vision_features(inputs.pixels)
    prefill = model.prefill(model.embed(inputs.ids, model.project(features), inputs.proprio))
    logits, tokens, margins = prefill.logits, [], []
    for step in range(ACTION_DIMENSIONS):
        best = logits.float().topk(2, dim=-1).values
        margins.append(best[:, :1] - best[:, 1:])
        # argmax and not topk's index, whose choice among equals is another.
        tokens.append(logits.argmax(dim=-1, keepdim=True))
        if step < ACTION_DIMENSIONS - 1:
            logits = model.decode(tokens[-1], prefill.cache)
    return Frames(
        keys=np.stack([vla.retrieval_key(one) for one in features.split(1)]),
        tokens=torch.cat(tokens, dim=1).cpu().numpy(),
        margins=torch.cat(margins, dim=1).cpu().numpy(),
    )
