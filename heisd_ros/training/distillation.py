"""A VLA's outputs for recorded frames: hidden states, input columns and its own tokens.

A drafter learns from these. The tokens are the VLA's greedy ones, never the demonstrated action,
which would reveal to the drafter what the VLA has yet to decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from heisd_ros.data.episode import Episode
from heisd_ros.data.source import Item, Source
from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.redraft import REDRAFT_ROOM, redraft
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.decoding.types import Observation
from heisd_ros.decoding.verifier import Verification
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import replacing
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.training.dataset import episode_proprio
from heisd_ros.training.selection import check_sources
from heisd_ros.vla.token_model import TokenModel

HELD_OUT = (10, 9)
"""Modulus and remainder of the initial states whose episodes are held out."""
NO_TOKEN = -1
"""Fills the places of an answer behind its end."""
_Block = dict[str, Tensor]


@dataclass(frozen=True)
class TeacherFrames:
    """N frames of recorded episodes as the VLA read and answered them.

    Prompts end, and answers begin, in the same column: of P prompt columns the last `lengths` of a
    frame are its own, of A tokens the first `answers`. The rest is zero, or `NO_TOKEN`.

    Attributes:
        hidden: [N, P + A - 1, hidden] float16, hidden states after the last norm, of the prompt and
            of the VLA's tokens but the last.
        embeds: [N, P, hidden] float16, input columns of the prompt.
        tokens: [N, A] int64, the VLA's own greedy token ids.
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

    @property
    def answers(self) -> Tensor:
        """[N] int64, tokens of each answer."""
        return (self.tokens != NO_TOKEN).sum(dim=1)


def teacher_frames(
    sources: Sequence[Source],
    vla: TokenModel,
    fingerprint: str,
    control_rate_hz: float,
    cache: Path,
    on_episode: Callable[[int, int], None] = lambda done, of: None,
    read_as: Mapping[str, str] = MappingProxyType({}),
) -> TeacherFrames:
    """Runs the VLA over every recorded frame, or reads the results of an earlier call.

    Args:
        sources: where the episodes are, all of one robot.
        vla: the model, of any family.
        fingerprint: of its checkpoint.
        control_rate_hz: its control rate.
        cache: folder that stores the result of each episode, so that a stopped run can be resumed.
        on_episode: called with the number of episodes that are done, and of all.
        read_as: what else decides what an episode gives, by name.

    Raises:
        DatabaseError: the sources do not fit the model or each other.
        DemonstrationError: no episode to learn from, or none held out, or a source is not fit.
        HeisdError: a source cannot be read, or has none of the model's views.
        UnknownInstructionError: the VLA was not trained on an episode's instruction.
    """
    check_sources(vla, sources, control_rate_hz)
    items = [Item(s, place, outline) for s in sources for place, outline in enumerate(s.outline())]
    for source in sources:
        if source.report.unusable:
            raise DemonstrationError(f"{source.label}: {source.report.unusable}")
    given = repr((fingerprint, sorted(read_as.items())))
    cache.mkdir(parents=True, exist_ok=True)
    blocks: list[_Block] = []
    held_out: list[bool] = []
    used: set[Path] = set()
    for number, item in enumerate(items):
        on_episode(number, len(items))
        episode = item.source.episode(item.place, vla.spec.views)
        path = cache / f"{_key(episode, given)}.safetensors"
        block = _read(path)
        if block is None:
            block = _run_episode(episode, vla, item.source.arm)
            with replacing(path) as partial:
                save_file(block, partial)
        used.add(path)
        blocks.append(block)
        state = number if episode.init_state is None else episode.init_state
        held_out.append(state % HELD_OUT[0] == HELD_OUT[1])
    for stale in set(cache.glob("*.safetensors*")) - used:
        stale.unlink()
    on_episode(len(items), len(items))
    out = sum(held_out)
    if out in (0, len(items)):
        raise DemonstrationError(
            f"{out} of {len(items)} episodes are held out; some must be, and some must not. "
            f"Held out are initial states that leave {HELD_OUT[1]} divided by {HELD_OUT[0]}"
        )
    joined = aligned(blocks, torch.cat)
    frames = torch.tensor([len(block["tokens"]) for block in blocks])
    return TeacherFrames(
        **joined,
        held_out=torch.tensor(held_out).repeat_interleave(frames),
        episodes=(len(items) - out, out),
    )


@torch.inference_mode()
def run_teacher(vla: TokenModel, observation: Observation, last: Sequence[int] = ()) -> _Block:
    """Decodes one observation greedily.

    Args:
        vla: the model.
        observation: the observation.
        last: the answer to the frame before, which is drafted: it changes the passes, not the
            answer.

    Returns:
        the fields of `TeacherFrames` of one frame, without the first dimension.
    """
    prompt = vla.prompt(*perceive(vla, observation))
    draft = DraftTree.from_chains([last])
    verification = Verification.start(vla.engine, prompt, draft, "exact", REDRAFT_ROOM)
    while not verification.finished:
        verification.advance(redraft(verification, draft, "exact"), "exact")
    columns, tokens = prompt.columns.shape[1], verification.tokens
    hidden = torch.cat([verification.prompt_hidden[0], *verification.hidden])
    return {
        "hidden": hidden[: columns + len(tokens) - 1].half().cpu(),
        "embeds": prompt.columns[0].half().cpu(),
        "tokens": torch.tensor(tokens),
        "lengths": torch.tensor(columns),
    }


def _run_episode(episode: Episode, vla: TokenModel, arm: ArmKinematics) -> _Block:
    size = vla.spec.proprio_size
    proprio = episode_proprio(episode, arm, size) if size else None
    results: list[_Block] = []
    last: Sequence[int] = ()
    for frame in range(len(episode)):
        images = tuple(episode.images[view][frame] for view in vla.spec.views)
        state = None if proprio is None else proprio[frame]
        results.append(run_teacher(vla, Observation(images, episode.instruction, state), last))
        last = results[-1]["tokens"].tolist()
    return aligned(results, torch.stack)


def aligned(blocks: Sequence[_Block], join: Callable[[list[Tensor]], Tensor]) -> _Block:
    """Joins frames, or blocks of frames, after padding prompts in front and answers behind."""
    columns = max(block["embeds"].shape[-2] for block in blocks)
    longest = max(block["tokens"].shape[-1] for block in blocks)
    padded = []
    for block in blocks:
        front = columns - block["embeds"].shape[-2]
        behind = longest - block["tokens"].shape[-1]
        padded.append(
            {
                "hidden": F.pad(block["hidden"], (0, 0, front, behind)),
                "embeds": F.pad(block["embeds"], (0, 0, front, 0)),
                "tokens": F.pad(block["tokens"], (0, behind), value=NO_TOKEN),
                "lengths": block["lengths"],
            }
        )
    return {name: join([block[name] for block in padded]) for name in padded[0]}


def _key(episode: Episode, given: str) -> str:
    """Returns a cache key for the model's results on an episode."""
    content = hashlib.sha256(f"{given} {episode.instruction}".encode())
    arrays = (episode.joint_positions, episode.gripper_opening, *episode.images.values())
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def _read(path: Path) -> _Block | None:
    """Reads what an earlier call wrote; None if there is nothing or it is damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
