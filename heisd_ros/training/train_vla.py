"""Trains a small VLA of any family that can be trained on demonstrations, by imitation.

Soft targets over neighbouring action tokens where these have an order, an auxiliary loss on where
item and target lie relative to the tip, and an exponential moving average of the weights. A run is
resumable: its folder holds the trainer's state, the loss curve, and the checkpoint so far.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from heisd_ros.families.checkpoint import preparation
from heisd_ros.families.trainable import Corpus, Trainable
from heisd_ros.training.dataset import Samples
from heisd_ros.training.training_run import TrainingRun
from heisd_ros.training.training_settings import TrainingSettings
from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.token_model import TokenModel

_LANDMARK_SCALE = 0.1
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class LandmarkHead(nn.Module):
    """Predicts item and target positions from the visual tokens; discarded after training."""

    def __init__(self, visual_tokens: int, width: int, instructions: int) -> None:
        super().__init__()
        self.instruction = nn.Embedding(instructions, 128)
        self.visual = nn.Linear(visual_tokens * width, 128)
        self.out = nn.Linear(128, 6)

    def forward(self, visual_tokens: Tensor, instruction: Tensor) -> Tensor:
        """Returns relative positions [B, 6], in units of `_LANDMARK_SCALE` metres."""
        hidden = self.visual(visual_tokens.flatten(1)) + self.instruction(instruction)
        position: Tensor = self.out(F.gelu(hidden))
        return position


class Trainer(TrainingRun[TrainingSettings]):
    """One training run in one folder.

    Args:
        samples: Training samples.
        folder: Folder of the run; a state found there is resumed and overrides `start`.
        settings: Settings of the run.
        start: Initial weights, with their tokens and action scale; None: random weights.
        family: What is trained, a folder of `families/`.
        layers: Decoder layers to have instead of the start's; 0: as many.

    Raises:
        UnknownInstructionError: `start` does not know an instruction of the samples, and cannot be
            told it: a model that acts only can.
        CheckpointError: The family cannot be trained, or not from `start`; or the folder holds the
            state of a run of another layout, or a damaged one.
        ValueError: The model cannot have so many layers.
    """

    def __init__(
        self,
        samples: Samples,
        folder: Path,
        settings: TrainingSettings,
        start: TokenModel | None = None,
        family: str = "openvla",
        layers: int = 0,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.samples = samples
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.subject: Trainable = preparation(family).prepare(_corpus(samples), start, layers)
        # A loaded checkpoint is frozen, for inference.
        self.model = self.subject.network.train().requires_grad_(True).to(device)
        self.head = LandmarkHead(*self.subject.visual_tokens, len(samples.instructions)).to(device)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
        )
        # Asked at every step: on a GPU it would wait for the device there.
        self.average.n_averaged = self.average.n_averaged.cpu()
        trained = [*self.model.parameters(), *self.head.parameters()]
        super().__init__(folder, settings, device, trained)
        self._short = self.device.type != "cpu" or _computes_bfloat16()
        self._resume()
        self._encode()

    def save(self) -> None:
        """Writes trainer state, loss curve and checkpoint (of the averaged weights).

        A run is resumed from the state alone; the others are written again at each save.
        """
        self._save_state(
            {
                "model": self.model.state_dict(),
                "average": self.average.module.state_dict(),
                "head": self.head.state_dict(),
                "statistics": self.subject.scale(),
            }
        )
        (self.folder / "losses.json").write_text(json.dumps(self.losses))
        self.subject.save(self.folder / "checkpoint", self.average.module, torch.float16)

    def _train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        size, weights = self.settings.batch_size, self.samples.weights
        if weights is None:
            index = torch.randint(len(self.samples), (size,))
        else:
            index = torch.multinomial(weights, size, replacement=True)
        self.optimizer.zero_grad(set_to_none=True)
        # The fused attention of CPUs has a slow backward pass: on these short sequences plain
        # matrix products took 0.70 s of processor time a step instead of 1.2 s.
        backends = [SDPBackend.MATH] if self.device.type == "cpu" else _FUSED
        with sdpa_kernel(backends):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._short):
                action_loss, landmark_loss, text_loss = self._losses(index)
            (
                action_loss
                + self.settings.landmark_weight * landmark_loss
                + self.settings.text_weight * text_loss
            ).backward()
        self._update()
        self.average.update_parameters(self.model)
        return action_loss.detach(), landmark_loss.detach(), text_loss.detach()

    def _losses(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # All draws come from the CPU's generator, whatever the device.
        jitter = torch.randn(len(index), 3) * self.settings.proprio_noise
        prompts, lengths = self._prompts.rows(index, self.device)
        answers, ends = self._answers.rows(index, self.device)
        index = index.to(self.device)
        proprio = self._proprio[index]
        proprio[:, :3] += jitter.to(self.device)
        pixels = self._augment(self._images[index])
        output = self.subject.teach(pixels, prompts, lengths, answers, proprio)
        inside = torch.arange(answers.shape[1], device=self.device) < ends[:, None]
        columns = answers.clamp(self.subject.rows.start, self.subject.rows.stop - 1)
        losses = F.cross_entropy(
            output.logits.float().flatten(0, 1),
            self._soft[columns - self.subject.rows.start].flatten(0, 1),
            reduction="none",
        ).view(answers.shape)
        ids = self.subject.codec.action_ids
        acts = (answers >= ids.start) & (answers < ids.stop)
        action_loss, text_loss = (_mean(losses, inside & part) for part in (acts, ~acts))
        known = self._landmarks[index]
        found = self.head(output.visual_tokens, self._instruction[index]).float()
        mask = torch.isfinite(known)
        # Selecting rows by the mask would wait for the device.
        error = found - torch.where(mask, known, 0.0) / _LANDMARK_SCALE
        landmark_losses = F.smooth_l1_loss(
            error, torch.zeros_like(error), beta=0.1, reduction="none"
        )
        return action_loss, _mean(landmark_losses, mask), text_loss

    def _augment(self, images: Tensor) -> Tensor:
        """Random gain and offset per sample, [B, V, H, W, 3] uint8 to uint8.

        There is no shift: the cameras are fixed, and a shift would destroy positions.
        """
        brightness, shape = self.settings.brightness, (len(images), 1, 1, 1, 1)
        gain = 1 + brightness * (2 * torch.rand(shape) - 1)
        offset = 255 * brightness * (torch.rand(shape) - 0.5)
        gain, offset = gain.to(images.device), offset.to(images.device)
        return (images * gain + offset).clamp(0, 255).to(torch.uint8)

    def _encode(self) -> None:
        samples, subject = self.samples, self.subject
        chunks = samples.actions[:, None] if samples.chunks is None else samples.chunks
        texts = [""] * len(samples) if samples.reasonings is None else samples.reasonings
        proprio = samples.proprio.numpy()
        self._prompts = _Ids.of(
            subject.prompt(samples.instructions[number], state)
            for number, state in zip(samples.instruction.tolist(), proprio, strict=True)
        )
        self._answers = _Ids.of(map(subject.answer, chunks, texts))
        # On the device, where a step takes its rows: all pictures of 20,000 samples are 2 GB.
        self._images, self._proprio = (
            samples.images.to(self.device),
            samples.proprio.to(self.device),
        )
        self._instruction = samples.instruction.to(self.device)
        self._landmarks = samples.landmarks.to(self.device)
        self._soft = _soft_targets(subject.codec, subject.rows, self.settings.soft_bins).to(
            self.device
        )

    def _layout(self) -> dict[str, Any]:
        """What must be the same when the run is resumed: the network and what its ids mean.

        In this order, since the landmark head counts instructions as the samples do.
        """
        nowhere = np.zeros(self.samples.proprio.shape[1], np.float32)
        return {
            "config": self.subject.layout(),
            "prompts": [
                (text, [*self.subject.prompt(text, nowhere)]) for text in self.samples.instructions
            ],
        }

    def _remedies(self) -> dict[str, str]:
        start = self.folder / "checkpoint"
        return {
            "config.words": "the words of its answers come from its demonstrations, and these hold "
            f"others: go on in another folder with `--start-from {start}`, where new words are "
            "spelled by letters"
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.n_averaged.fill_(1)
        self.head.load_state_dict(state["head"])
        # There may be more demonstrations now, but action tokens must keep their meaning.
        self.subject.rescale(state["statistics"])
        super()._restore(state)


class _Ids:
    """Rows of ids of different lengths, on the CPU, where the longest of some is known at once.

    Attributes:
        ids: [N, longest], padded with 0.
        lengths: [N].
    """

    def __init__(self, ids: Tensor, lengths: Tensor) -> None:
        self.ids, self.lengths = ids, lengths

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> _Ids:
        """Pads rows."""
        tensors = [torch.tensor(row) for row in rows]
        lengths = torch.tensor([len(row) for row in tensors])
        return cls(nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths)

    def rows(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns some rows, no longer than the longest of them, and their lengths."""
        lengths = self.lengths[index]
        return self.ids[index, : int(lengths.max())].to(device), lengths.to(device)


def _computes_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; where it has to be emulated, float32 is faster."""
    has = torch.cpu.get_capabilities()
    return any(bool(has.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _soft_targets(codec: ActionCodec, rows: range, width: float) -> Tensor:
    """The distribution to predict for each id [R, R]: around it where ids have an order."""
    targets = torch.eye(len(rows))
    ids = codec.action_ids
    if codec.distance(ids[0], ids[1], 0) is not None:
        place = slice(ids.start - rows.start, ids.stop - rows.start)
        apart = torch.arange(len(ids))[:, None] - torch.arange(len(ids))
        targets[place, place] = torch.softmax(-0.5 * (apart / width) ** 2, dim=1)
    return targets


def _mean(losses: Tensor, where: Tensor) -> Tensor:
    """The mean of some losses; 0 of none."""
    return (losses * where).sum() / where.sum().clamp(min=1)


def _corpus(samples: Samples) -> Corpus:
    texts = () if samples.reasonings is None else tuple(dict.fromkeys(samples.reasonings))
    proprio = samples.proprio.numpy()
    return Corpus(samples.instructions, proprio, samples.actions, texts, samples.chunks)
