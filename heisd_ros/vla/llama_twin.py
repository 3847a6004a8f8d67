"""Our Llama decoder as the one of `transformers`: a second engine for the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heisd_ros.errors import MissingPackageError
from heisd_ros.vla.engine import Network

if TYPE_CHECKING:
    from heisd_ros.vla.transformers_engine import TransformersEngine


def transformers_twin(network: Network) -> TransformersEngine:
    """The library's decoder with a copy of a network's weights, under the same protocol.

    It is slower than ours; that both give the same answers holds each of them to the other.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise MissingPackageError(
            "this engine runs on transformers, which is not installed: pip install "
            "'heisd_ros[models]'"
        ) from error
    from heisd_ros.vla.transformers_engine import TransformersEngine

    ours = network.language_model
    sizes = ours.model.config
    config = LlamaConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
        num_key_value_heads=sizes.key_value_heads,
        rms_norm_eps=sizes.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        max_position_embeddings=sizes.max_position_embeddings,
        pad_token_id=None,
    )
    weight = ours.lm_head.weight
    tensors = {name: tensor.contiguous() for name, tensor in ours.state_dict().items()}
    twin = LlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=tensors, dtype=weight.dtype
    )
    twin = twin.requires_grad_(False).eval().to(weight.device)
    return TransformersEngine(twin.model, twin.lm_head, network.answer)
