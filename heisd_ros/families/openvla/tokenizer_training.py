"""A small byte-level tokenizer for a small model, trained on its instructions."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from heisd_ros.families.openvla.config import ACTION_BINS, OPENVLA_PROMPT

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2, as in Llama-2
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def train_tokenizer(
    instructions: Sequence[str],
    vocab_size: int = 1024,
    *,
    prompt: str = OPENVLA_PROMPT,
    max_token_length: int = 16,
) -> Tokenizer:
    """Byte-level BPE whose ids are laid out as OpenVLA's.

    Ids 0 to 2 are <unk>, <s>, </s>; the text's tokens follow, then ids kept free; the last 256 of
    ``vocab_size`` are the action tokens ``<action_255>`` ... ``<action_0>`` (bin 0 comes last), and
    id ``vocab_size`` is <PAD>. A config with ``language.vocab_size = vocab_size + p`` and
    ``pad_to_multiple_of = p`` (p >= 1) and ``pad_token_id = vocab_size`` matches it.

    Merges may cross spaces: a frequent phrase becomes one token, so prompts are short.

    Args:
        instructions: texts to learn from; they are put into the prompt in lower case.
        vocab_size: real vocabulary size; above 256 bytes + 256 actions + 3.
        prompt: the template that the model will use.
        max_token_length: longest token, bytes.

    Raises:
        ValueError: vocab_size is too small.
    """
    text_ids = vocab_size - ACTION_BINS
    least = len(SPECIAL_TOKENS) + len(_ALPHABET)
    if text_ids < least:
        raise ValueError(f"vocab_size is {vocab_size}; at least {least + ACTION_BINS}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=text_ids,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=_ALPHABET,
        max_token_length=max_token_length,
        show_progress=False,
    )
    texts = [prompt.format(instruction=text.lower()) for text in instructions]
    tokenizer.train_from_iterator(texts, trainer)
    free = [f"<free_{i}>" for i in range(tokenizer.get_vocab_size(), text_ids)]
    actions = [f"<action_{i}>" for i in range(ACTION_BINS - 1, -1, -1)]
    tokens = [AddedToken(t, special=True, normalized=False) for t in [*free, *actions, "<PAD>"]]
    tokenizer.add_special_tokens(tokens)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer
