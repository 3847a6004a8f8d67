"""A VLA ready for use: the model with its preprocessing, tokenizer and action statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import ProprioceptionError
from heisd_ros.families.action_statistics import chosen
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.codec import OpenVLACodec
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import OpenVLAInputs, VLAModel
from heisd_ros.families.openvla.preprocessing import ImagePreprocessor, PromptTokenizer
from heisd_ros.families.own_network import OwnNetworkModel
from heisd_ros.families.shapes import Work, byte_size, matrix_size
from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import ObservationSpec

_VLA = TypeVar("_VLA", bound="VLA")


class VLA(OwnNetworkModel):
    """What a checkpoint folder holds: as `TokenModel`.

    Attributes:
        model: the network, in evaluation mode; it gets the format of the answers.
        config: its configuration.
        statistics: action statistics by name (``norm_stats``).
        statistics_key: the name in use.
        convention: what stands between the model and its environment.
        codec: what its answers mean.
        spec: what it wants to see.
        language: sizes of the decoder.
    """

    model: VLAModel

    def __init__(
        self,
        model: VLAModel,
        tokenizer: Tokenizer,
        statistics: Mapping[str, ActionStatistics],
        statistics_key: str | None = None,
        convention: DataConvention | None = None,
    ) -> None:
        super().__init__(model)
        self.config: VLAConfig = model.config
        self.statistics = dict(statistics)
        self.statistics_key = chosen(self.statistics, statistics_key)
        self.convention = convention or DataConvention()
        self.images = ImagePreprocessor(self.config, self.convention.images)
        self.prompts = PromptTokenizer(self.config, tokenizer)
        self.codec = model.answer = self._codec(tokenizer)
        self.language = self.config.language
        self.spec = ObservationSpec(
            views=self.config.views,
            image_size=self.config.image_size,
            proprio_size=self.config.proprio_size,
            control_rate_hz=self.config.control_rate_hz,
            instructions=self.config.instructions,
        )

    def around(self: _VLA, model: VLAModel) -> _VLA:
        """Returns the same VLA around another network, which answers with the same tokens."""
        return type(self)(model, self.prompts.tokenizer, self.statistics, self.statistics_key)

    def _codec(self, tokenizer: Tokenizer) -> ActionCodec:
        return OpenVLACodec(
            self.config.real_vocab_size, self.statistics[self.statistics_key], self.convention
        )

    @property
    def usual_columns(self) -> list[int]:
        """Lengths of the prompts of the instructions that it was trained on."""
        known = map(self.prompts.encode, self.config.instructions or ())
        return [self.config.prefix_tokens + len(ids) for ids in known]

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
    ) -> OpenVLAInputs:
        """Implements `TokenModel.encode`."""
        ids = self.prompts.encode(instruction)
        pixels = self.images(images).to(self.device, self.dtype)
        return OpenVLAInputs(
            pixels, torch.tensor([ids], device=self.device), self._proprio(proprio)
        )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Implements `BatchModel.resize`: where steps come first, they are all left for later."""
        return self.images.resize(image) if self.images.resizes_alone else image

    def encode_frames(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: NDArray[np.float32] | None = None,
    ) -> OpenVLAInputs:
        """Preprocesses B observations of one task, each as `encode` does.

        Args:
            images: [B, H, W, 3] RGB, one array per view.
            instruction: the task in words.
            proprio: [B, P]; None, or not used, by a model without it.

        Raises:
            UnknownInstructionError: the model was not trained on the instruction.
            ImageError: a picture is malformed.
        """
        resize = self.images.resize
        resized = np.stack([[resize(image) for image in view] for view in images], axis=1)
        pixels = self.images.normalise(torch.from_numpy(resized).to(self.device)).to(self.dtype)
        ids = torch.tensor([self.prompts.encode(instruction)], device=self.device)
        state = None
        if self.config.proprio_size and proprio is not None:
            state = torch.from_numpy(proprio).to(self.device, self.dtype)
        return OpenVLAInputs(pixels, ids, state)

    @torch.inference_mode()
    def answer_frames(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Implements `BatchModel.answer_frames`: frames of one task have one prompt."""
        inputs = self.encode_frames(images, instruction, proprio)
        features = self.model.vision_features(inputs.pixels)
        columns = self.model.embed(inputs.ids, self.model.project(features), inputs.proprio)
        prefill = self.model.prefill(columns)
        tokens = [prefill.logits.argmax(dim=-1, keepdim=True)]
        while len(tokens) < self.codec.max_tokens:
            logits = self.model.decode(tokens[-1], prefill.cache)
            tokens.append(logits.argmax(dim=-1, keepdim=True))
        keys = np.stack([self.retrieval_key(one) for one in features.split(1)])
        return keys, torch.cat(tokens, dim=1).cpu().numpy()

    @property
    def key_parts(self) -> tuple[int, ...]:
        """Implements `BatchModel.key_parts`: the channels of each tower."""
        return tuple(tower.output_width for tower in self.config.towers)

    def features(self, inputs: OpenVLAInputs) -> Tensor:
        """Visual features [1, V * N, D], before the projector."""
        return self.engine.stage(self.model.vision_features, inputs.pixels)

    def prompt(self, inputs: OpenVLAInputs, features: Tensor) -> Prompt:
        """The input columns [1, T, hidden] of an observation: `VLAModel.embed`."""
        visual_tokens = self.engine.stage(self.model.project, features)
        columns = self.model.embed(inputs.ids, visual_tokens, inputs.proprio)
        return Prompt(columns, inputs.ids)

    def describe(self) -> dict[str, str]:
        """Returns what `heisd model info` shows in addition to the common values."""
        language, towers = self.config.language, self.config.towers
        known = self.spec.control_rate_hz is not None
        return {
            "towers": "; ".join(
                f"{t.blocks_run} blocks of {t.width}, {t.image_size} px" for t in towers
            ),
            "language": f"{language.num_hidden_layers} layers of {language.hidden_size}",
            "prompt": repr(self.config.prompt),
            "action space": "dx dy dz, drx dry drz, gripper",
            "statistics": ", ".join(sorted(self.statistics)),
            "lacks": "nothing" if known else "the control rate (heisd.control_rate_hz)",
        }

    def work(self) -> tuple[Work, Work]:
        """Implements `TimedModel.work`."""
        config, projector = self.config, self.model.projector
        seen = len(config.views) * sum(tower.operations for tower in config.towers)
        projected = 2 * matrix_size(projector) * config.visual_tokens
        vision = Work(byte_size(self.model.vision_backbone), seen)
        return vision, Work(byte_size(projector), projected)

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Visual features [1, V * N, D] -> what frames are compared by: [V * D], of unit length.

        Mean-pooled per tower and view; D holds both towers (HeiSD, arXiv 2603.17573).
        """
        views = len(self.config.views)
        pooled = features[0].float().unflatten(0, (views, -1)).mean(dim=1).flatten()
        key: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return key

    def _proprio(self, proprio: ArrayLike | None) -> Tensor | None:
        size = self.config.proprio_size
        if proprio is None and size == 0:
            return None
        if proprio is None or size == 0:
            given = "none was" if proprio is None else "a vector was"
            raise ProprioceptionError(f"the model takes {size or 'no'} numbers; {given} given")
        vector = np.asarray(proprio, dtype=np.float32)
        if vector.shape != (size,) or not np.isfinite(vector).all():
            raise ProprioceptionError(f"proprioception {vector}; {size} finite numbers are needed")
        return torch.from_numpy(vector).unsqueeze(0).to(self.device, self.dtype)
