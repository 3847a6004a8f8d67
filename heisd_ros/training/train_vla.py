"""Trains a small VLA of OpenVLA's architecture on demonstrations, by imitation.

Soft targets over neighbouring action bins, an auxiliary loss on where item and target lie relative
to the tip, and an exponential moving average of the weights. A run is resumable: its folder holds
the trainer's state, the loss curve, and the checkpoint so far.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from heisd_ros.families.openvla.action_tokens import ActionStatistics, ActionTokenizer
from heisd_ros.families.openvla.checkpoint import save_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.preprocessing import ImagePreprocessor, PromptTokenizer
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.families.openvla.vision import TowerConfig
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.training.dataset import Samples
from heisd_ros.training.optimizer import make_optimizer
from heisd_ros.training.state import resume_state, save_state
from heisd_ros.training.training_settings import TrainingSettings
from heisd_ros.vla.language_config import LanguageConfig

STATISTICS_KEY = "libero_panda"
_STATE = "trainer.pt"
_LANDMARK_SCALE = 0.1
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def small_config(instructions: tuple[str, ...], vocab_size: int) -> VLAConfig:
    """The architecture of the model that ships: deep and narrow, few visual tokens."""
    tower = TowerConfig(
        image_size=128,
        patch_size=16,
        width=64,
        depth=2,
        heads=4,
        mlp_width=256,
        stem="conv",
        final_norm=True,
        pixel_shuffle=4,
    )
    padding = 8
    return VLAConfig(
        towers=(tower, replace(tower, layer_scale=False)),
        projector_width=512,
        language=LanguageConfig(
            vocab_size=vocab_size + padding,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=12,
            num_attention_heads=6,
            max_position_embeddings=256,
        ),
        pad_to_multiple_of=padding,
        pad_token_id=vocab_size,
        views=("agentview", "wrist"),
        proprio_size=7,
        control_rate_hz=20,
        prompt="{instruction}\n",
        instructions=instructions,
    )


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


class Trainer:
    """One training run in one folder.

    Args:
        samples: Training samples.
        folder: Folder of the run; a state found there is resumed and overrides `start`.
        settings: Settings of the run.
        start: Initial weights, with their tokens and action scale; None: random weights.

    Raises:
        UnknownInstructionError: `start` does not know an instruction of the samples.
        CheckpointError: The folder holds the state of a run of another layout, or a damaged one.
    """

    def __init__(
        self,
        samples: Samples,
        folder: Path,
        settings: TrainingSettings,
        start: VLA | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.samples, self.folder, self.settings = samples, folder, settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        start = start or _blank(samples)
        self.tokenizer, config = start.prompts.tokenizer, start.config
        # A loaded checkpoint is frozen, for inference.
        self.model = start.model.train().requires_grad_(True).to(self.device)
        self.head = LandmarkHead(
            config.visual_tokens, config.language.hidden_size, len(samples.instructions)
        ).to(self.device)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
        )
        self.preprocess = ImagePreprocessor(config)
        self.statistics = start.statistics[start.statistics_key]
        self.optimizer, self.schedule = make_optimizer(
            self._parameters(),
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_steps,
            steps=settings.steps,
        )
        self.step = 0
        self.losses: list[tuple[int, float, float]] = []
        resume_state(self.folder / _STATE, self._layout(), self.device, self._restore)
        self._encode_targets(config)

    def run(
        self, on_step: Callable[[int, float, float], None], save_every_sec: float = 120
    ) -> None:
        """Trains to the end, saving as it goes.

        Args:
            on_step: Called with step, action loss and landmark loss (cm) every 10 steps.
            save_every_sec: Seconds between two saved states.
        """
        saved = time.monotonic()
        while self.step < self.settings.steps:
            action_loss, landmark_loss = self._train_step()
            self.step += 1
            if self.step % 10 == 0:
                self.losses.append((self.step, action_loss.item(), landmark_loss.item()))
                on_step(*self.losses[-1])
            if time.monotonic() - saved > save_every_sec:
                self.save()
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Writes trainer state, loss curve and checkpoint (of the averaged weights).

        A run is resumed from the state alone; the others are written again at each save.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "statistics": self.statistics.to_dict(),
        }
        save_state(self.folder / _STATE, self._layout(), state)
        (self.folder / "losses.json").write_text(json.dumps(self.losses))
        save_checkpoint(
            self.folder / "checkpoint",
            cast(VLAModel, self.average.module),
            self.tokenizer,
            {STATISTICS_KEY: self.statistics},
            dtype=torch.float16,
        )

    def _train_step(self) -> tuple[Tensor, Tensor]:
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
            with torch.autocast(self.device.type, torch.bfloat16):
                action_loss, landmark_loss = self._losses(index)
            (action_loss + self.settings.landmark_weight * landmark_loss).backward()
        nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        return action_loss.detach(), landmark_loss.detach()

    def _losses(self, index: Tensor) -> tuple[Tensor, Tensor]:
        samples, settings, device = self.samples, self.settings, self.device
        proprio = samples.proprio[index].clone()
        jitter = torch.randn(len(index), 3) * settings.proprio_noise
        proprio[:, :3] += jitter
        pixels = self.preprocess.normalise(self._augment(samples.images[index]).to(device))
        instruction = samples.instruction[index].to(device)
        output = self.model.forward_train(
            pixels,
            self._ids[instruction],
            self._tokens[index].to(device),
            proprio.to(device),
            self._lengths[instruction],
        )
        logits = output.logits.float()
        action_loss = F.cross_entropy(
            logits.flatten(0, 1), self._soft[self._columns[index].to(device)].flatten(0, 1)
        )
        known = samples.landmarks[index].to(device)
        error = self.head(output.visual_tokens, instruction).float() - known / _LANDMARK_SCALE
        mask = torch.isfinite(error)
        landmark_loss = F.smooth_l1_loss(
            error[mask], torch.zeros_like(error[mask]), beta=0.1, reduction="sum"
        ) / max(int(mask.sum()), 1)
        return action_loss, landmark_loss

    def _augment(self, images: Tensor) -> Tensor:
        """Random gain and offset per sample, [B, V, H, W, 3] uint8 to uint8.

        There is no shift: the cameras are fixed, and a shift would destroy positions.
        """
        brightness, shape = self.settings.brightness, (len(images), 1, 1, 1, 1)
        gain = 1 + brightness * (2 * torch.rand(shape) - 1)
        offset = 255 * brightness * (torch.rand(shape) - 0.5)
        return (images * gain + offset).clamp(0, 255).to(torch.uint8)

    def _encode_targets(self, config: VLAConfig) -> None:
        prompts = PromptTokenizer(config, self.tokenizer)
        ids = [torch.tensor(prompts.encode(text)) for text in self.samples.instructions]
        self._lengths = torch.tensor([len(text) for text in ids], device=self.device)
        self._ids = nn.utils.rnn.pad_sequence(
            ids, batch_first=True, padding_value=config.pad_token_id
        ).to(self.device)
        tokens = ActionTokenizer(config.real_vocab_size).encode(
            self.statistics.normalise(self.samples.actions)
        )
        self._tokens = torch.from_numpy(tokens)
        self._columns = self._tokens - (config.real_vocab_size - 256)
        distance = torch.arange(256)[:, None] - torch.arange(256)
        self._soft = torch.softmax(-0.5 * (distance / self.settings.soft_bins) ** 2, dim=1)
        self._soft = self._soft.to(self.device)

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.head.parameters()]

    def _layout(self) -> dict[str, Any]:
        """What must be the same when the run is resumed: the network and what its ids mean.

        In this order, since the landmark head counts instructions as the samples do.
        """
        prompts = PromptTokenizer(self.model.config, self.tokenizer)
        texts = self.samples.instructions
        return {
            "config": self.model.config.to_dict(),
            "prompts": [(text, prompts.encode(text)) for text in texts],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.n_averaged.fill_(1)
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # There may be more demonstrations now, but action tokens must keep their meaning.
        self.statistics = ActionStatistics.from_dict(state["statistics"])
        self.step, self.losses = state["step"], state["losses"]
        # A new seed for the rest of the run, so that the first part's draws are not repeated.
        torch.manual_seed(self.settings.seed + self.step)


def _blank(samples: Samples) -> VLA:
    """Makes an untrained model, with action statistics of the samples."""
    prompt, vocab_size = "{instruction}\n", 1024
    tokenizer = train_tokenizer(samples.instructions, vocab_size, prompt=prompt)
    model = VLAModel(small_config(samples.instructions, vocab_size)).initialise()
    model.proprio_projector.mean.copy_(samples.proprio.mean(0))
    model.proprio_projector.std.copy_(samples.proprio.std(0) + 1e-3)
    return VLA(model, tokenizer, {STATISTICS_KEY: _statistics(samples)})


def _statistics(samples: Samples) -> ActionStatistics:
    """Computes quantiles of the deltas; the gripper is -1 or 1 already and passes through.

    The three rotations share the widest of their ranges: an axis that nearly stands still in the
    demonstrations would spend its bins on noise, and no draft of it would ever be right.
    """
    low, high = torch.quantile(
        torch.from_numpy(samples.actions), torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0
    ).tolist()
    low[3:6], high[3:6] = [min(low[3:6])] * 3, [max(high[3:6])] * 3
    return ActionStatistics(q01=tuple(low), q99=tuple(high), mask=(True,) * 6 + (False,))
