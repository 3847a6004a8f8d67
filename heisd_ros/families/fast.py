"""FAST action tokens: byte-pair coded coefficients of a cosine transform along time.

The arithmetic of ``UniversalActionProcessor`` (physical-intelligence/fast), from the folder's files
alone; but where that class prints a line and returns zeros, which move an arm to the middle of its
range, this raises `AnswerError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, idct
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.files.atomic import replacing
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.typed import typed
from heisd_ros.vla.tokenizer import read_tokenizer

BIN = 2.0 / 255
"""A bin of OpenVLA's in normalised units."""
_PROCESSOR = "processor_config.json"
_PRINTABLE = range(ord("!"), ord("~") + 1)
_MALFORMED = "\ufffd"  # what half a UTF-8 character is decoded to
_MOST_CHARACTERS = 0xD800  # the next code points are surrogates


@dataclass(frozen=True)
class FastTokenizer:
    """Converts chunks of normalised actions to FAST ids and back.

    Attributes:
        tokenizer: byte-pair coding of coefficients, which are characters.
        scale: factor of the coefficients before rounding.
        min_token: the coefficient that is character 0.
    """

    tokenizer: Tokenizer
    scale: float
    min_token: int

    @classmethod
    def read(cls, folder: Path) -> FastTokenizer:
        """Reads a folder in the layout of ``physical-intelligence/fast``.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        path = folder / _PROCESSOR
        content = read_object(path, CheckpointError)
        try:
            numbers = {key: typed(hint, content.get(key), key) for key, hint in _NUMBERS.items()}
            for key, (least, most) in _RANGES.items():
                if not least <= numbers[key] <= most:
                    raise ValueError(f"{key} is {numbers[key]}; accepted: {least:g} to {most:g}")
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        # `save_pretrained` of transformers 5 writes a folder of its own for the tokenizer.
        own = folder / "bpe_tokenizer" / "tokenizer.json"
        tokenizer = read_tokenizer(own if own.exists() else folder / "tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, float(numbers["scale"]), int(numbers["min_token"]))

    @classmethod
    def fit(
        cls,
        chunks: ArrayLike,
        scale: float = 10.0,
        vocab_size: int = 1024,
        zero: int | None = None,
    ) -> FastTokenizer:
        """Learns which coefficients follow each other, from demonstrations.

        The same arithmetic and trainer as ``UniversalActionProcessor.fit``.

        Args:
            chunks: normalised actions [N, H, D].
            scale: as the attribute.
            vocab_size: ids, at most.
            zero: code point of coefficient 0 (None: as upstream, such that the lowest one is 0).
                The byte level splits texts as GPT-2 does, at blanks and between letters, digits and
                other characters, and no id crosses a split. Printable ASCII can then be written
                whether it was seen or not.

        Raises:
            ValueError: there are more different coefficients than ids, or one below code point 0.
        """
        given = np.asarray(chunks, np.float64)
        scaled = np.rint(dct(given, axis=1, norm="ortho").reshape(len(given), -1) * scale)
        lowest, high = int(scaled.min()), int(scaled.max())
        low = lowest if zero is None else -zero
        if not low <= lowest <= high <= low + vocab_size:
            raise ValueError(
                f"coefficients range from {lowest} to {high}; accepted: {low} to {low + vocab_size}"
            )
        alphabet = range(high - low + 1) if zero is None else _PRINTABLE
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=[chr(code) for code in alphabet],
            max_token_length=10_000,
        )
        codes = (scaled - low).astype(int).tolist()
        tokenizer.train_from_iterator(("".join(map(chr, row)) for row in codes), trainer)
        return cls(tokenizer, float(scale), low)

    def save(self, folder: Path) -> None:
        """Writes a folder that `read` reads, and upstream's class too; each file atomically."""
        content = {
            "processor_class": "UniversalActionProcessor",
            "scale": self.scale,
            "min_token": self.min_token,
            "vocab_size": self.size,
            "time_horizon": None,
            "action_dim": None,
        }
        with (
            replacing(folder / _PROCESSOR) as numbers,
            replacing(folder / "tokenizer.json") as pairs,
        ):
            self.tokenizer.save(str(pairs))
            numbers.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @property
    def size(self) -> int:
        """Number of ids, which count from 0."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=False))

    @cached_property
    def spans(self) -> tuple[tuple[int, ...], ...]:
        """The coefficients of each id by itself; none of one that is a part of a character."""
        ids = [[index] for index in range(self.size)]
        texts = self.tokenizer.decode_batch(ids, skip_special_tokens=False)
        return tuple(
            () if _MALFORMED in text else tuple(ord(each) + self.min_token for each in text)
            for text in texts
        )

    def steps(self, horizon: int, dimensions: int) -> tuple[float, ...]:
        """Implements `SpannedActions.steps` for normalised actions, which range from -1 to 1."""
        steps = np.full((horizon, dimensions), math.sqrt(2.0 / horizon) / self.scale / BIN)
        steps[0] /= math.sqrt(2.0)
        steps[:, -1] = np.inf
        return tuple(steps.ravel().tolist())

    def coefficients(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Decodes FAST ids to rounded coefficients, as many as they encode.

        Raises:
            AnswerError: an id is none of the vocabulary, or the bytes are no UTF-8.
        """
        outside = [index for index in ids if not 0 <= index < self.size]
        if outside:
            raise AnswerError(
                f"the answer holds FAST ids {shown(outside)}; accepted: 0 to {self.size - 1}"
            )
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        if _MALFORMED in text:
            raise AnswerError(
                f"the answer's {len(ids)} FAST ids end within a character (malformed UTF-8)"
            )
        return np.array([ord(character) for character in text], dtype=np.int64) + self.min_token

    def decode(self, ids: Sequence[int], horizon: int, dimensions: int) -> NDArray[np.float64]:
        """Decodes FAST ids to normalised actions [H, D].

        Raises:
            AnswerError: as in `coefficients`, or if their number is not H * D.
        """
        found = self.coefficients(ids)
        if found.size != horizon * dimensions:
            raise AnswerError(
                f"the answer holds {found.size} coefficients; {horizon} actions of {dimensions} "
                f"numbers need {horizon * dimensions}"
            )
        return self.actions(found.reshape(horizon, dimensions))

    def actions(self, coefficients: NDArray[np.int64]) -> NDArray[np.float64]:
        """Transforms rounded coefficients [H, D] to normalised actions [H, D]."""
        chunk: NDArray[np.float64] = idct(coefficients / self.scale, axis=0, norm="ortho")
        return chunk

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Encodes normalised actions [H, D] as FAST ids.

        Raises:
            ValueError: a coefficient is outside what the vocabulary can write. Upstream drops it,
                which shifts all that follow.
        """
        scaled = np.rint(dct(np.asarray(chunk, np.float64), axis=0, norm="ortho") * self.scale)
        codes = np.clip(scaled - self.min_token, 0, _MOST_CHARACTERS - 1).astype(int)
        ids = self.tokenizer.encode(
            "".join(map(chr, codes.flatten())), add_special_tokens=False
        ).ids
        try:
            same = np.array_equal(self.coefficients(ids) - self.min_token, codes.flatten())
        except AnswerError:
            same = False
        if not same:
            raise ValueError(
                f"coefficients of {int(scaled.min())} to {int(scaled.max())} cannot be written: "
                "the FAST tokenizer was fitted on others"
            )
        return tuple(ids)


_NUMBERS: dict[str, type] = {"scale": float, "min_token": int}
_RANGES = {"scale": (0.01, 1e6), "min_token": (-_MOST_CHARACTERS, _MOST_CHARACTERS)}
