"""A VLA ready for use: the model with its preprocessing, tokenizer and action statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import ProprioceptionError, UnknownStatisticsError
from heisd_ros.vla.actions import ActionStatistics, ActionTokenizer
from heisd_ros.vla.config import VLAConfig
from heisd_ros.vla.convention import DataConvention
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.engines import make_engine
from heisd_ros.vla.model import VLAModel
from heisd_ros.vla.preprocessing import ImagePreprocessor, PromptTokenizer


@dataclass(frozen=True)
class ModelInputs:
    """One observation on the model's device.

    Attributes:
        pixels: [1, V, 6, S, S] in the model's type.
        ids: [1, T] prompt ids, BOS first.
        proprio: [1, P] float32, or None.
    """

    pixels: Tensor
    ids: Tensor
    proprio: Tensor | None = None


class VLA:
    """What a checkpoint folder holds.

    Attributes:
        model: the network, in evaluation mode.
        config: its configuration.
        statistics: action statistics by name (``norm_stats``).
        statistics_key: the name in use.
        convention: what stands between the model and its environment.
    """

    def __init__(
        self,
        model: VLAModel,
        tokenizer: Tokenizer,
        statistics: Mapping[str, ActionStatistics],
        statistics_key: str | None = None,
        convention: DataConvention | None = None,
    ) -> None:
        self.model = model.eval()
        self.config: VLAConfig = model.config
        self.statistics = dict(statistics)
        self.statistics_key = self._choose(statistics_key)
        self.convention = convention or DataConvention()
        self.images = ImagePreprocessor(self.config, self.convention.images)
        self.prompts = PromptTokenizer(self.config, tokenizer)
        self.action_tokens = ActionTokenizer(self.config.real_vocab_size)
        self._engine: tuple[tuple[torch.device, torch.dtype], Engine] | None = None
        self._choice: EngineChoice = "auto"
        self._by_choice: dict[EngineChoice, VLA] = {"auto": self}

    def with_engine(self, choice: EngineChoice) -> VLA:
        """This model, with the same weights, run by another engine (`engines.make_engine`).

        Raises:
            EngineError: the engine cannot run here.
        """
        if choice not in self._by_choice:
            other = copy(self)
            other._choice, other._engine = choice, None
            _ = other.engine  # made now: what is wrong with it is said here, and it may compile
            self._by_choice[choice] = other
        return self._by_choice[choice]

    @property
    def engine(self) -> Engine:
        """What runs the model's passes; by default CUDA graphs on a GPU, else the plain engine.

        One for all decoders of this model; made when first asked for, and anew once the weights
        have moved.
        """
        kind = (self.device, self.dtype)
        if self._engine is None or self._engine[0] != kind:
            known = map(self.prompts.encode, self.config.instructions or ())
            columns = [self.config.prefix_tokens + len(ids) for ids in known]
            self._engine = (kind, make_engine(self.model, self._choice, columns))
        return self._engine[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.language_model.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.model.language_model.lm_head.weight.dtype

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
        *,
        allow_unknown: bool = False,
    ) -> ModelInputs:
        """Preprocess one observation.

        Args:
            images: RGB uint8 [H, W, 3], one per view of the config, in its order.
            instruction: what the robot is to do.
            proprio: [P] in the units of the demonstrations, if the model takes it.
            allow_unknown: accept an instruction that the model wasn't trained on.

        Raises:
            ImageError: an image is missing or malformed.
            UnknownInstructionError: see `PromptTokenizer.encode`.
            ProprioceptionError: the vector is missing, unasked, of the wrong size or not finite.
        """
        ids = self.prompts.encode(instruction, allow_unknown=allow_unknown)
        pixels = self.images(images).to(self.device, self.dtype)
        return ModelInputs(pixels, torch.tensor([ids], device=self.device), self._proprio(proprio))

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Visual features [1, V * N, D] -> what frames are compared by: [V * D], of unit length.

        Mean-pooled per tower and view; D holds both towers (HeiSD, arXiv 2603.17573).
        """
        views = len(self.config.views)
        pooled = features[0].float().unflatten(0, (views, -1)).mean(dim=1).flatten()
        key: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return key

    def tokens_of(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Actions [..., 7] in robot units -> token ids: `unnormalise` inverted, up to a bin."""
        own = self.convention.to_model(actions)
        return self.action_tokens.encode(self.statistics[self.statistics_key].normalise(own))

    def unnormalise(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Token ids [..., 7] -> actions in robot units; NaN where an id is no action.

        Upstream decodes such an id to the end of its range, which is motion at full speed. NaN is
        nothing that an arm may execute: the node holds it, and so does an evaluation.
        """
        statistics = self.statistics[self.statistics_key]
        action = statistics.unnormalise(self.action_tokens.decode(tokens))
        rows, ids = self.model.action_rows, np.asarray(tokens)
        known = (ids >= rows.start) & (ids < rows.stop)
        return np.where(known, self.convention.to_environment(action), np.nan)

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

    def _choose(self, key: str | None) -> str:
        names = sorted(self.statistics)
        if key is None and len(names) == 1:
            return names[0]
        if key not in self.statistics:
            asked = "no statistics key was chosen" if key is None else f"no statistics {key!r}"
            raise UnknownStatisticsError(f"{asked}; the checkpoint has {names or 'none'}")
        return key
