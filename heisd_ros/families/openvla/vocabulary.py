"""Teaches a small model's tokenizer new words, and moves the weights of the ids with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.families.openvla.config import ACTION_BINS, VLAConfig

_WORD = re.compile(r" ?[a-z]+(?: [a-z]+)*(?: \[|,)?| ?\[?\d+[a-z]*[,\]]*")
"""Words in a row with the comma or bracket behind them, or one number with what is around it."""
_FREE = re.compile(r"<free_\d+>")


def words_of(texts: Iterable[str], tags: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Lists what is to be one id in some texts: tags, numbers, and words that are never apart.

    Args:
        texts: texts to be written with one id a word.
        tags: what is one word in spite of spaces.
        prompts: texts whose ids must not change: what occurs in one is no word here.
    """
    alone = re.compile("|".join([*(rf" ?{re.escape(tag)}" for tag in tags), _WORD.pattern]))
    found = dict.fromkeys(word for text in texts for word in alone.findall(text))
    return sorted(word for word in found if not any(word in prompt for prompt in prompts))


def grown(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Returns a tokenizer with more words, laid out as `train_tokenizer` does.

    They take the ids kept free first; if these do not suffice, the action tokens move up.
    """
    content = json.loads(tokenizer.to_str())
    added, size = content["added_tokens"], len(content["model"]["vocab"])
    special, tail = added[: -ACTION_BINS - 1], added[-ACTION_BINS - 1 :]
    known = {token["content"] for token in added}
    kept = [token for token in special if not _FREE.fullmatch(token["content"])]
    pattern = {
        "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": False,
    }  # fmt: skip
    new = [{**pattern, "content": word} for word in words if word not in known]
    # Those inside the vocabulary of the merges come first and keep their ids.
    inside = [token for token in kept if token["id"] < size]
    outside = [token for token in kept if token["id"] >= size] + new
    free = [token for token in special if _FREE.fullmatch(token["content"])][len(new) :]
    numbered = enumerate([*outside, *free, *tail], start=size)
    content["added_tokens"] = [*inside, *({**token, "id": index} for index, token in numbered)]
    return Tokenizer.from_str(json.dumps(content))


def with_actions(tokenizer: Tokenizer, actions: Sequence[str]) -> Tokenizer:
    """Returns a tokenizer with other action tokens in the place of its bins, at the same place."""
    content = json.loads(tokenizer.to_str())
    *kept, pad = content["added_tokens"]
    kept, pattern, first = kept[:-ACTION_BINS], kept[-1], kept[-ACTION_BINS]["id"]
    numbered = [{**pattern, "content": text, "id": first + i} for i, text in enumerate(actions)]
    content["added_tokens"] = [*kept, *numbered, {**pad, "id": first + len(actions)}]
    return Tokenizer.from_str(json.dumps(content))


def transplant(rows: Tensor, old: Tokenizer, new: Tokenizer, size: int) -> Tensor:
    """Rows [V, D] of an embedding or a head, for another tokenizer: [size, D].

    A word that is new begins as the mean of the pieces that it was written with.
    """
    known = old.get_vocab()
    result = torch.zeros(size, rows.shape[1], dtype=rows.dtype)
    for token, index in new.get_vocab().items():
        pieces = [known[token]] if token in known else old.encode(token).ids[1:]
        result[index] = rows[pieces].mean(dim=0)
    return result


def with_vocabulary(config: VLAConfig, tokenizer: Tokenizer) -> VLAConfig:
    """Returns the configuration for a tokenizer that `grown` made."""
    size = tokenizer.get_vocab_size() - 1  # <PAD> is the first of the padding rows
    language = replace(config.language, vocab_size=size + config.pad_to_multiple_of)
    return replace(config, language=language, pad_token_id=size)
