"""A VLA's outputs for recorded frames: hidden states, input columns and its own tokens.

A drafter learns from these. The tokens are the VLA's greedy ones, never the demonstrated action,
which would reveal to the drafter what the VLA has yet to decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import read_episodes
from heisd_ros.errors import DemonstrationError
from heisd_ros.families.openvla.config import ACTION_DIMENSIONS
from heisd_ros.families.openvla.network import OpenVLAInputs, VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.files.atomic import replacing
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.training.dataset import demonstration_files, episode_proprio

HELD_OUT = (10, 9)
"""Modulus and remainder of the initial states whose episodes are held out."""
_BATCH = 64


@dataclass(frozen=True)
class TeacherFrames:
    """N frames of recorded episodes as the VLA read and answered them.

    Prompts are aligned at their end: P columns, of which the last `lengths` of a frame are its own
    and the rest is zero.

    Attributes:
        hidden: [N, P + 6, hidden] float16, hidden states after the last norm, of the prompt and of
            the VLA's first 6 tokens.
        embeds: [N, P, hidden] float16, input columns of the prompt.
        tokens: [N, 7] int64, the VLA's own greedy token ids.
        lengths: [N] int64, columns of the prompt.
        held_out: [N] bool, frames of the episodes that are not trained on.
        episodes: number of episodes trained on, and number held out.
    """

    hidden: Tensor
    embeds: Tensor
    tokens: Tensor
    lengths: Tensor
    held_out: Tensor
    episodes: tuple[int, int]

    def __len__(self) -> int:
        """Number of frames, held out or not."""
        return len(self.tokens)


def teacher_frames(
    folders: Sequence[Path],
    vla: VLA,
    fingerprint: str,
    cache: Path,
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> TeacherFrames:
    """Runs the VLA over every recorded frame, or reads the results of an earlier call.

    Args:
        folders: folders of ``*_demo.hdf5`` files.
        vla: the model.
        fingerprint: of its checkpoint.
        cache: folder that stores the result of each file, so that a stopped run can be resumed.
        on_file: called with the number of files that are done, and of all.

    Raises:
        DemonstrationError: no files, one that cannot be read, no episode to learn from, or none
            held out.
        UnknownInstructionError: the VLA was not trained on a file's instruction.
    """
    files = demonstration_files(folders)
    cache.mkdir(parents=True, exist_ok=True)
    paths = [cache / f"{_key(path, fingerprint)}.safetensors" for path in files]
    for stale in set(cache.glob("*.safetensors*")) - set(paths):
        stale.unlink()
    blocks = []
    for number, (source, path) in enumerate(zip(files, paths, strict=True)):
        on_file(number, len(files))
        block = _read(path)
        if block is None:
            block = _run_file(source, vla)
            with replacing(path) as partial:
                save_file(block, partial)
        blocks.append(block)
    on_file(len(files), len(files))
    return _join(blocks)


@torch.inference_mode()
def run_teacher(model: VLAModel, inputs: OpenVLAInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Decodes greedily a batch that shares one prompt text.

    Args:
        model: the network.
        inputs: pixels [B, V, 6, S, S], prompt ids [1, T], proprioception [B, P] or None.

    Returns:
        hidden states [B, P + 6, hidden] after the last norm, prompt columns [B, P, hidden], and
        the 7 token ids [B, 7], each the argmax over the whole vocabulary.
    """
    language = model.language_model
    visual_tokens = model.project(model.vision_features(inputs.pixels))
    embeds = model.embed(inputs.ids, visual_tokens, inputs.proprio)
    prefill = model.prefill(embeds)
    hidden, tokens = [prefill.hidden], [prefill.logits.argmax(-1, keepdim=True)]
    for _ in range(ACTION_DIMENSIONS - 1):
        hidden.append(language.model(language.model.embed_tokens(tokens[-1]), prefill.cache))
        tokens.append(language.logits(hidden[-1][:, -1]).argmax(-1, keepdim=True))
    return torch.cat(hidden, 1), embeds, torch.cat(tokens, 1)


def _run_file(path: Path, vla: VLA) -> dict[str, Tensor]:
    """Runs the VLA over one file: hidden, embeds, tokens and each frame's episode number."""
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    rows: list[Tensor] = []
    for number, episode in enumerate(read_episodes(path, vla.config.views)):
        parts += _run_episode(episode, vla, arm)
        state = number if episode.init_state is None else episode.init_state
        rows.append(torch.tensor([[number, state]]).expand(len(episode), -1))
    if not parts:
        raise DemonstrationError(f"{path} holds no episode; `heisd demos` records them")
    hidden, embeds, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
    return {
        "hidden": hidden,
        "embeds": embeds,
        "tokens": tokens,
        "episode": torch.cat(rows),
    }


def _run_episode(
    episode: Episode, vla: VLA, arm: ArmKinematics
) -> list[tuple[Tensor, Tensor, Tensor]]:
    proprio = episode_proprio(episode, arm) if vla.config.proprio_size else None
    results = []
    for start in range(0, len(episode), _BATCH):
        frames = slice(start, start + _BATCH)
        images = [episode.images[view][frames] for view in vla.config.views]
        state = None if proprio is None else proprio[frames]
        inputs = vla.encode_frames(images, episode.instruction, state)
        hidden, embeds, tokens = run_teacher(vla.model, inputs)
        results.append((hidden.half().cpu(), embeds.half().cpu(), tokens.cpu()))
    return results


def _join(blocks: Sequence[dict[str, Tensor]]) -> TeacherFrames:
    longest = max(block["embeds"].shape[1] for block in blocks)

    def aligned(name: str) -> Tensor:
        missing = [longest - block["embeds"].shape[1] for block in blocks]
        pairs = zip(blocks, missing, strict=True)
        return torch.cat([F.pad(block[name], (0, 0, columns, 0)) for block, columns in pairs])

    modulus, remainder = HELD_OUT
    held_out = [block["episode"][:, 1] % modulus == remainder for block in blocks]
    out = sum(
        len(block["episode"][mask].unique(dim=0))
        for block, mask in zip(blocks, held_out, strict=True)
    )
    total = sum(len(block["episode"].unique(dim=0)) for block in blocks)
    if out in (0, total):
        raise DemonstrationError(
            f"{out} of {total} episodes are held out; some must be, and some must not. "
            f"Held out are initial states that leave {remainder} divided by {modulus}"
        )
    return TeacherFrames(
        hidden=aligned("hidden"),
        embeds=aligned("embeds"),
        tokens=torch.cat([block["tokens"] for block in blocks]),
        lengths=torch.cat([torch.full((len(b["tokens"]),), b["embeds"].shape[1]) for b in blocks]),
        held_out=torch.cat(held_out),
        episodes=(total - out, out),
    )


def _key(path: Path, fingerprint: str) -> str:
    """Returns a cache key for the model's results on a file's present content."""
    state = path.stat()
    text = f"{fingerprint} {path.resolve()} {state.st_size} {state.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Tensor] | None:
    """Reads what an earlier call wrote; None if there is nothing or it is damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
