"""Trains a drafter for a VLA by distillation: it learns to predict the VLA's own next tokens.

The drafter is unrolled in training as in drafting: every guess is made from the previous guess, and
gradients are propagated back through all of them. A run is resumable: its folder holds the
trainer's state, the VLA's outputs for the frames, and the drafter so far.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heisd_ros.errors import DemonstrationError
from heisd_ros.files.typed import within
from heisd_ros.training.distillation import TeacherFrames
from heisd_ros.training.draft_acceptance import DraftAcceptance, measure_acceptance
from heisd_ros.training.training_run import TrainingRun
from heisd_ros.training.training_settings import RunSettings
from heisd_ros.vla.drafter import Drafter, load_drafter, save_drafter
from heisd_ros.vla.token_model import TokenModel

DEPTH = 6
"""Levels that are learnt, at most: those of the deepest tree (`DrafterSettings.depth`)."""
_DRAFTER = "drafter"


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(RunSettings):
    """Settings of a drafter's training run, see `RunSettings`.

    Attributes:
        feature_weight: Weight of the smooth L1 loss between guessed and true hidden states.
        token_weight: Weight of the cross-entropy against the VLA's distribution.
        greedy_weight: Weight of the cross-entropy against the VLA's greedy token. The VLA spreads
            its probability over neighbouring bins; a draft is accepted for one of them.
    """

    learning_rate: Annotated[float, within(0)] = 2e-3
    feature_weight: Annotated[float, within(0)] = 1.0
    token_weight: Annotated[float, within(0)] = 0.1
    greedy_weight: Annotated[float, within(0)] = 1.0


class Losses(NamedTuple):
    """Losses of one step, not weighted: smooth L1; cross-entropies in nats.

    Attributes:
        feature: Between guessed and true hidden states.
        token: Against the VLA's distribution over the ids that are drafted.
        greedy: Against the VLA's greedy token.
    """

    feature: Tensor
    token: Tensor
    greedy: Tensor


class DrafterTrainer(TrainingRun[DistillationSettings]):
    """One training run in one folder.

    Args:
        frames: The VLA's outputs for the demonstrations.
        vla: The VLA of any family, frozen, in float32.
        fingerprint: Of its checkpoint.
        folder: Folder of the run; state found there is resumed.
        settings: Settings of the run.

    Raises:
        CheckpointError: The folder holds the state of another VLA's run, or a damaged one.
        DrafterError: There is no drafter for the VLA.
        DemonstrationError: No answer has a second token, which would be the first one drafted.
    """

    def __init__(
        self,
        frames: TeacherFrames,
        vla: TokenModel,
        fingerprint: str,
        folder: Path,
        settings: DistillationSettings,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.frames, self.fingerprint, self.vla = frames, fingerprint, vla
        self.drafter = Drafter.of(vla).to(vla.device)
        self._learnt = torch.nonzero(~frames.held_out & (frames.answers > 1))[:, 0]
        if not len(self._learnt):
            raise DemonstrationError("the VLA's answers have one token: there is nothing to draft")
        self.depth = min(DEPTH, frames.tokens.shape[1] - 1)
        # Its guesses are to resemble the output of the VLA's last norm, channel by channel.
        last = frames.hidden[self._learnt, frames.embeds.shape[1] - 1].float()
        self.drafter.norm.weight.data.copy_(last.square().mean(dim=0).sqrt())
        super().__init__(folder, settings, vla.device, [*self.drafter.parameters()])
        self._resume()

    def save(self) -> None:
        """Writes the trainer's state and the drafter so far."""
        self._save_state({"drafter": self.drafter.state_dict()})
        self._save_drafter({})

    def measure(self, limit: int = 2000) -> dict[str, DraftAcceptance]:
        """Measures the saved drafter on held-out frames, and writes the result beside it.

        Args:
            limit: Frames at most, evenly spread.

        Returns:
            Exact acceptance: ``chain`` of the greedy draft, ``tree`` of SpecVLA's 50 nodes.
        """
        held_out = torch.nonzero(self.frames.held_out & (self.frames.answers > 1))[:, 0]
        chosen = held_out[:: math.ceil(len(held_out) / limit)]
        drafter = load_drafter(self.folder / _DRAFTER, self.fingerprint, self.vla)
        measured = {
            name: measure_acceptance(
                drafter, self.vla, self.frames, chosen, self.depth, top_k, nodes
            )
            for name, (top_k, nodes) in {"chain": (1, self.depth), "tree": (8, 50)}.items()
        }
        self._save_drafter({name: result.to_dict() for name, result in measured.items()})
        return measured

    def guess(self, index: Tensor, starts: Tensor) -> Tensor:
        """Guesses hidden states along the VLA's own tokens, each from the previous guess.

        Args:
            index: [B] indices of the frames.
            starts: [B] tokens of each answer that the VLA has read before the first guess.

        Returns:
            [B, depth, hidden], guesses of the VLA's hidden states at the tokens from `starts` on.
        """
        frames, device, drafter = self.frames, self.device, self.drafter
        hidden = frames.hidden[index].to(device).float()
        tokens = frames.tokens[index, :-1].clamp(min=0).to(device)
        prompt = frames.embeds[index].to(device).float()
        embeds = torch.cat([prompt, self.vla.embed_tokens(tokens)], dim=1)
        # Columns that the VLA has read end together; where they begin differs.
        starts, lengths = starts.to(device), frames.lengths[index].to(device)
        columns = prompt.shape[1] + int(starts.max())
        shift = (starts - starts.max()).unsqueeze(1)
        padding = columns - (lengths + starts).unsqueeze(1)
        order = torch.arange(columns + self.depth - 1, device=device)
        known = order + shift  # columns of `hidden` and `embeds`
        known = known.clamp(0, hidden.shape[1] - 1)[..., None].expand(-1, -1, hidden.shape[2])
        positions = (order - padding).clamp(min=0)
        visible = (order >= padding)[:, None, None]
        hidden = hidden.gather(1, known[:, :columns])
        embeds = embeds.gather(1, (known + 1).clamp(max=embeds.shape[1] - 1))
        read = slice(columns - 1)
        cache = drafter.remember(hidden[:, read], embeds[:, read], positions[:, read])
        guesses, guess = [], hidden[:, -1:]
        for step in range(self.depth):
            now = slice(columns - 1 + step, columns + step)
            seen = visible[..., : now.stop]
            guess = drafter.advance(guess, embeds[:, now], positions[:, now], cache, seen)
            guesses.append(guess)
        return torch.cat(guesses, dim=1)

    def _save_drafter(self, acceptance: dict[str, Any]) -> None:
        learnt, held_out = self.frames.episodes
        record = {
            "training": {
                **asdict(self.settings),
                "done": self.step,
                "frames": len(self._learnt),
                "episodes": learnt,
                "episodes_held_out": held_out,
            },
            "acceptance": acceptance,
        }
        save_drafter(self.folder / _DRAFTER, self.drafter, self.fingerprint, record)

    def _train_step(self) -> Losses:
        index = self._learnt[torch.randint(len(self._learnt), (self.settings.batch_size,))]
        self.optimizer.zero_grad(set_to_none=True)
        losses, settings = self._losses(index), self.settings
        (
            settings.feature_weight * losses.feature
            + settings.token_weight * losses.token
            + settings.greedy_weight * losses.greedy
        ).backward()
        self._update()
        return Losses(*(loss.detach() for loss in losses))

    def _losses(self, index: Tensor) -> Losses:
        frames, answers = self.frames, self.frames.answers[index]
        room = (answers - 1 - self.depth).clamp(min=0)
        starts = (torch.rand(len(index)) * (room + 1)).long()
        places = starts.unsqueeze(1) + torch.arange(self.depth)  # of the tokens that are read
        own = places + 1 < answers.unsqueeze(1)  # those that have a next token
        frame = index.unsqueeze(1).expand_as(places)[own]
        guesses = self.guess(index, starts)[own.to(self.device)]
        truth = frames.hidden[frame, frames.embeds.shape[1] + places[own]].to(self.device).float()
        rows, tokens = self.drafter.rows, frames.tokens[frame, places[own] + 1].to(self.device)
        logits = self.vla.logits(guesses, rows)
        with torch.no_grad():
            spread = self.vla.logits(truth, rows).softmax(dim=-1)
        # The VLA may emit an id that is not drafted; the nearest one that is stands for it.
        greedy = (tokens - rows.start).clamp(0, rows.stop - rows.start - 1)
        return Losses(
            feature=F.smooth_l1_loss(guesses, truth),
            token=F.cross_entropy(logits, spread),
            greedy=F.cross_entropy(logits, greedy),
        )

    def _layout(self) -> dict[str, Any]:
        return {"model": self.fingerprint}

    def _restore(self, state: dict[str, Any]) -> None:
        self.drafter.load_state_dict(state["drafter"])
        super()._restore(state)
