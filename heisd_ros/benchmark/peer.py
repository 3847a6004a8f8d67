"""What a user would otherwise run: transformers' ``generate`` on a Llama of the same shape.

It gets the same prompt columns (``inputs_embeds``) and makes as many tokens. Its weights are ours,
by name, so its greedy tokens can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from heisd_ros.errors import MissingPackageError
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.llama import LanguageModel

CACHES = ("dynamic", "static")


class TransformersPeer:
    """A ``LlamaForCausalLM`` with our language model's weights.

    Args:
        model: our language model.
        prompt: [1, T, hidden] what it continues.
        tokens: how many it generates.

    Raises:
        MissingPackageError: transformers is not installed.
    """

    def __init__(self, model: LanguageModel, prompt: Tensor, tokens: int) -> None:
        try:
            import transformers
        except ImportError as error:
            raise MissingPackageError(
                "transformers is not installed: no peer is timed; "
                "`pip install 'heisd_ros[reference]'`"
            ) from error
        self.version: str = transformers.__version__
        config = transformers.LlamaConfig(**_arguments(model.model.config))
        with torch.device("meta"):
            llama: Any = transformers.LlamaForCausalLM(config)
            self._llama = llama.to(prompt.dtype)
        # The same tensors, without a copy. Rotary frequencies are not parameters.
        self._llama.load_state_dict(model.state_dict(), strict=False, assign=True)
        rotary = type(self._llama.model.rotary_emb)
        self._llama.model.rotary_emb = rotary(config).to(prompt.device)
        self._llama.eval().requires_grad_(False)
        self._prompt, self._count = prompt, tokens
        self._mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)

    def generate(self, cache: str) -> list[int]:
        """Generates greedy tokens.

        Args:
            cache: one of `CACHES`. With the static one transformers compiles by itself on a GPU.
        """
        ids = self._llama.generate(
            inputs_embeds=self._prompt,
            attention_mask=self._mask,
            max_new_tokens=self._count,
            min_new_tokens=self._count,
            do_sample=False,
            cache_implementation=cache,
        )
        tokens: list[int] = ids[0, -self._count :].tolist()
        return tokens

    def cases(self, say: Callable[[str], None]) -> dict[str, Callable[[], list[int]]]:
        """Returns the cases of both caches by name, without those that transformers fails with.

        Args:
            say: called with which failed, and why.
        """
        working = {}
        for cache in CACHES:
            try:
                self.generate(cache)
            except Exception as error:  # a failure of another package must not end the run
                say(f"no peer with a {cache} cache: {type(error).__name__}: {error}")
            else:
                working[f"transformers generate, {cache} cache"] = self._bound(cache)
        return working

    def _bound(self, cache: str) -> Callable[[], list[int]]:
        return lambda: self.generate(cache)


def _arguments(config: LanguageConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_position_embeddings,
        "attn_implementation": "sdpa",
        # No end-of-sequence token: all tokens are generated.
        "eos_token_id": None,
        "pad_token_id": 0,
        "bos_token_id": None,
    }
