"""The model's own output for demonstrated frames: keys, and the tokens that it would emit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.data.episode import Episode
from heisd_ros.decoding.answer_actions import padded
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.types import Observation
from heisd_ros.vla.token_model import BatchModel, TokenModel


@dataclass(frozen=True)
class Frames:
    """T frames of one episode.

    Attributes:
        keys: (T, D) float32, `TokenModel.retrieval_key`.
        tokens: (T, N) int64, the greedy token ids of plain decoding; shorter answers are padded.
    """

    keys: NDArray[np.float32]
    tokens: NDArray[np.int64]


def read_frames(
    model: TokenModel, episode: Episode, proprio: NDArray[np.float32], batch_size: int
) -> Frames:
    """Runs the model on every frame of an episode, many at a time if it can.

    Args:
        model: The model.
        episode: With the model's views.
        proprio: (T, P) proprioception; not used by a model without it.
        batch_size: Frames at a time.

    Raises:
        UnknownInstructionError: The model was not trained on this instruction.
        ImageError: A picture is malformed.
    """
    views = [episode.images[view] for view in model.spec.views]
    state = proprio if model.spec.proprio_size else None
    if not isinstance(model, BatchModel):
        return _one_by_one(model, views, episode.instruction, state)
    starts = range(0, len(episode), batch_size)
    parts = [
        model.answer_frames(
            [view[start : start + batch_size] for view in views],
            episode.instruction,
            None if state is None else state[start : start + batch_size],
        )
        for start in starts
    ]
    keys, tokens = zip(*parts, strict=True)
    return Frames(np.concatenate(keys), np.concatenate(tokens))


@torch.inference_mode()
def _one_by_one(
    model: TokenModel,
    views: list[NDArray[np.uint8]],
    instruction: str,
    proprio: NDArray[np.float32] | None,
) -> Frames:
    decoder = AutoregressiveDecoder(model)
    keys, answers = [], []
    for frame in range(len(views[0])):
        images = tuple(view[frame] for view in views)
        state = None if proprio is None else proprio[frame]
        seen = perceive(model, Observation(images, instruction, state))
        keys.append(model.retrieval_key(seen.features))
        answers.append(decoder.answer(seen))
    return Frames(np.stack(keys), padded(answers, max(map(len, answers))))
