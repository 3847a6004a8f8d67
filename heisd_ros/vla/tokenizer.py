"""Reading tokenizers: Hugging Face's ``tokenizer.json``, or Llama's sentencepiece model."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from heisd_ros.errors import CheckpointError, UnknownInstructionError
from heisd_ros.files.bounded import MOST_BYTES, check_plain, shown

_SPACE = "\u2581"  # how sentencepiece writes a space


def read_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer from either kind of file.

    Raises:
        CheckpointError: the file is missing or damaged, or the package sentencepiece, which reads
            ``tokenizer.model``, is not installed.
    """
    check_plain(path, CheckpointError, MOST_BYTES)
    if path.suffix == ".model":
        return _from_sentencepiece(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.encode("a")  # a part that names one which is missing is found only here
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the bindings raise bare Exception; a panic of Rust is none
        raise CheckpointError(f"{path} is no tokenizer: {' '.join(str(error).split())}") from error
    return tokenizer


def known_ids(ids: list[int], rows: int, most: int | None = None) -> list[int]:
    """Returns the ids of a prompt, if a model can read them.

    Args:
        ids: the ids.
        rows: of the model's embedding.
        most: ids for which it has positions, beside pictures and answer; None: any number.

    Raises:
        UnknownInstructionError: it does not know an id: the tokenizer is another model's, or the
            instruction holds the text of a token that was added to it. Or there are too many.
    """
    if most is not None and len(ids) > most:
        raise UnknownInstructionError(
            f"the prompt has {len(ids)} ids; accepted: up to {most}, the positions that pictures "
            "and answer leave"
        )
    strange = [index for index in ids if not 0 <= index < rows]
    if strange:
        raise UnknownInstructionError(
            f"the prompt has the ids {shown(strange)}; accepted: 0 to {rows - 1}, the model's own"
        )
    return ids


def _from_sentencepiece(path: Path) -> Tokenizer:
    """Makes Llama's tokenizer for the `tokenizers` library; ids are the sentencepiece model's own.

    It has the same parts as the ``tokenizer.json`` that Hugging Face ships with it: bytes for text
    outside the vocabulary, a leading space, BOS by the template.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise CheckpointError(
            f"there is no tokenizer.json beside {path}, and sentencepiece, which reads this file, "
            "is not installed: pip install sentencepiece"
        ) from error
    try:
        model = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{path} is no sentencepiece model: {error}") from error
    pieces = [model.id_to_piece(i) for i in range(len(model))]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    bos, special = pieces[model.bos_id()], [pieces[i] for i in (model.unk_id(), model.eos_id())]
    tokenizer = Tokenizer(
        BPE(
            vocabulary, _merges(model, pieces, vocabulary), unk_token=special[0], fuse_unk=True,
            byte_fallback=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in (*special, bos)]
    )
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    return tokenizer


def _merges(model: object, pieces: list[str], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Lists every pair of pieces that joins to a third, the best-scored third first.

    sentencepiece only uses scores; `tokenizers` needs its merges listed in that order.
    """
    scored = []
    for i, piece in enumerate(pieces):
        if model.is_control(i) or model.is_unknown(i) or model.is_byte(i):  # type: ignore[attr-defined]
            continue
        score = model.get_score(i)  # type: ignore[attr-defined]
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                scored.append((-score, vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(scored)]
