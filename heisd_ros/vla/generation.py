"""What ``generation_config.json`` asks of greedy decoding: stops, limits, a repetition penalty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.typed import typed

GENERATION = "generation_config.json"
DEFAULT_LENGTH = 20
"""New tokens where a file names no limit: `transformers` adds its ``max_length`` to the prompt."""

# Settings that change what a greedy loop answers, and the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "bad_words_ids": (None, []),
    "sequence_bias": (None, [], {}),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1, 1.0),
    "stop_strings": (None, []),
    "penalty_alpha": (None, 0, 0.0),
}


@dataclass(frozen=True)
class GenerationRules:
    """How a greedy answer is bounded and which scores it is chosen by.

    Attributes:
        stop_ids: ids that end an answer.
        max_new_tokens: tokens of an answer, at most (None: the file names no such limit).
        max_length: of prompt and answer together (None: the file names no such limit).
        repetition_penalty: scores of ids that have occurred are divided by it where they are
            positive, and multiplied where they are negative.
    """

    stop_ids: frozenset[int] = frozenset()
    max_new_tokens: int | None = None
    max_length: int | None = None
    repetition_penalty: float = 1.0

    @classmethod
    def read(cls, folder: Path) -> GenerationRules:
        """Reads a folder's ``generation_config.json``; without one nothing is asked for.

        Raises:
            CheckpointError: the file is damaged, or asks for what greedy decoding here lacks.
        """
        path = folder / GENERATION
        if not path.exists():
            return cls()
        try:
            return cls.from_dict(read_object(path, CheckpointError))
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> GenerationRules:
        """Reads the parsed file. Sampling settings are nothing to a greedy loop, and ignored.

        Raises:
            ValueError: naming the key, its value and what is accepted.
        """
        for key, accepted in _NEUTRAL.items():
            if content.get(key) not in accepted:
                raise ValueError(f"{key} is {shown(content[key])}; accepted: {accepted[-1]!r}")
        stops = content.get("eos_token_id")
        stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
        penalty = content.get("repetition_penalty")
        penalty = 1.0 if penalty is None else typed(float, penalty, "repetition_penalty")
        if not penalty > 0:
            raise ValueError(f"repetition_penalty is {penalty}; accepted: above 0")
        limits = {}
        for key in ("max_new_tokens", "max_length"):
            limits[key] = typed(int | None, content.get(key), key)
            if limits[key] is not None and limits[key] < 1:
                raise ValueError(f"{key} is {limits[key]}; accepted: 1 or more")
        return cls(
            stop_ids=frozenset(typed(tuple[int, ...], stops, "eos_token_id")),
            repetition_penalty=float(penalty),
            **limits,
        )

    def room(self, prompt: int) -> int:
        """New tokens after a prompt of so many, at most, as `generate` counts them."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return DEFAULT_LENGTH if self.max_length is None else max(0, self.max_length - prompt)
