"""FAST chunks from a network of OpenVLA's architecture: the small chunk models made here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from heisd_ros.errors import CheckpointError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.fast_codec import FastCodec
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import load_checkpoint as load_vla
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.checkpoint_files import CheckpointFiles

FOLDER = "action_tokenizer"
"""Where the FAST tokenizer lies, as in LeRobot's layout."""
FIRST = "<fast_0>"
STOP = "</s>"


def own_codec(
    config: VLAConfig,
    tokenizer: Tokenizer,
    fast: FastTokenizer,
    statistics: ActionStatistics,
    convention: DataConvention,
) -> FastCodec:
    """Makes the codec of a small model: ``<fast_i>`` stands for FAST id i, ``</s>`` ends an answer.

    Raises:
        CheckpointError: the tokenizers do not fit each other, or the config.
    """
    first, stop = tokenizer.token_to_id(FIRST), tokenizer.token_to_id(STOP)
    if first is None or stop is None or config.horizon is None or config.max_tokens is None:
        raise CheckpointError(
            f"a chunk model needs {FIRST} and {STOP} in its tokenizer, horizon and max_tokens in "
            f"its config; found: {first}, {stop}, {config.horizon}, {config.max_tokens}"
        )
    ids = range(first, config.real_vocab_size)
    if fast.size > len(ids):
        raise CheckpointError(
            f"the FAST tokenizer has {fast.size} ids; the vocabulary has room for {len(ids)}"
        )
    return FastCodec(
        fast,
        *ranges(statistics),
        config.horizon,
        ids,
        frozenset({stop}),
        config.max_tokens,
        convention,
    )


def ranges(statistics: ActionStatistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The range [7], [7] of each number that is normalised; from -1 to 1 where none is."""
    scaled = np.array(statistics.mask)
    return np.where(scaled, statistics.q01, -1.0), np.where(scaled, statistics.q99, 1.0)


class OwnFast(VLA):
    """Implements `TokenModel`: OpenVLA's network and inputs, chunks of actions in FAST tokens.

    It is no `BatchModel`, since answers differ in length.

    Args:
        model: as in `VLA`, like all the others.
        fast: the FAST tokenizer.
    """

    answer_frames = None  # type: ignore[assignment]

    def __init__(
        self,
        model: VLAModel,
        tokenizer: Tokenizer,
        statistics: Mapping[str, ActionStatistics],
        statistics_key: str | None = None,
        convention: DataConvention | None = None,
        *,
        fast: FastTokenizer,
    ) -> None:
        self.fast = fast
        super().__init__(model, tokenizer, statistics, statistics_key, convention)

    def around(self, model: VLAModel) -> OwnFast:
        """See `VLA.around`."""
        tokenizer, key = self.prompts.tokenizer, self.statistics_key
        return OwnFast(model, tokenizer, self.statistics, key, fast=self.fast)

    def _codec(self, tokenizer: Tokenizer) -> FastCodec:
        statistics = self.statistics[self.statistics_key]
        return own_codec(self.config, tokenizer, self.fast, statistics, self.convention)


def load_own(folder: str | Path, *arguments: Any, **options: Any) -> OwnFast:
    """Loads a folder of a small chunk model; as `openvla.checkpoint.load_checkpoint`."""
    fast = FastTokenizer.read(CheckpointFiles.find(folder).config.parent / FOLDER)
    vla = load_vla(folder, *arguments, kind=partial(OwnFast, fast=fast), **options)
    return cast(OwnFast, vla)
