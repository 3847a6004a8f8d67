"""Our Llama and that of `transformers` on the same weights."""

from __future__ import annotations

import torch
from support.backbones import Open, drafts_around

from heisd_ros.decoding.verifier import Verification
from heisd_ros.vla.engine import PlainEngine
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.llama import LanguageModel
from heisd_ros.vla.llama_twin import transformers_twin


class Network:
    """A decoder alone, with other sizes than the defaults."""

    prefix_columns = 0
    answer = Open()

    def __init__(self):
        torch.manual_seed(1)
        config = LanguageConfig(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-3,
            rope_theta=500.0,
            max_position_embeddings=128,
        )
        self.language_model = LanguageModel(config)
        for weight in self.language_model.parameters():
            weight.data.mul_(4.0 if weight.ndim > 1 else 1.0)


@torch.inference_mode()
def test_both_engines_answer_alike():
    network = Network()
    engines = PlainEngine(network), transformers_twin(network)
    for seed in range(4):
        torch.manual_seed(seed)
        prompt = torch.randn(1, 7, 32)
        first, second = (engine.start(prompt)[1].logits for engine in engines)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-4)
        answers = []
        for engine in engines:
            draft = drafts_around([*range(24)] if not answers else answers[0], seed)
            verification = Verification.start(engine, prompt, draft(0), "exact", room=40)
            while not verification.finished:
                verification.advance(draft(len(verification.tokens)), "exact")
            answers.append(verification.tokens)
        assert answers[0] == answers[1]
        assert len(set(answers[0])) > 3
