"""The toy family's network, its engine and its checkpoint.

A recurrent cell needs neither cache nor mask: a drafted token continues from its parent's state.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from heisd_ros.families.toy.codec import STOP, ToyCodec
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

from heisd_ros.errors import EngineError
from heisd_ros.vla.engine import PassLogits, Prompt
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.token_model import ObservationSpec

WIDTH = 16


class ToyNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.eyes = nn.Linear(3, WIDTH)
        self.embedding = nn.Embedding(STOP + 1, WIDTH)
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, STOP + 1)


class ToySequence:
    def __init__(self, network, columns):
        self._network, self._states = network, []
        self._certain, hidden = torch.zeros_like(columns[0, :1]), []
        for column in columns[0]:
            self._certain = self._advance(self._certain, column)
            hidden.append(self._certain)
        self.prompt_hidden = torch.stack(hidden, dim=1)

    def extend(self, token, draft=None):
        token = torch.as_tensor(token).reshape(1)
        self._certain = self._advance(self._certain, self._network.embedding(token)[0])
        return self.said(draft)

    def keep(self, nodes):
        if len(nodes):
            self._certain = self._states[nodes[-1] + 1]

    def said(self, draft):
        self._states = [self._certain]
        if draft is not None:
            for token, parent in zip(draft.tokens, draft.parents, strict=True):
                embedded = self._network.embedding.weight[token]
                self._states.append(self._advance(self._states[parent + 1], embedded))
        hidden = torch.cat(self._states)
        logits = self._network.head(hidden)
        return PassLogits(logits.argmax(dim=-1), logits, hidden)

    def _advance(self, state, column):
        return self._network.cell(column[None], state)


class ToyEngine:
    def __init__(self, network, answer):
        self._network, self.answer = network, answer

    def stage(self, function, value):
        return function(value)

    def start(self, prompt, draft=None, room=0):
        sequence = ToySequence(self._network, prompt.columns)
        return sequence, sequence.said(draft)


class ToyModel:
    """The toy network as a `TokenModel`: words and a mean colour to answers with a stop id."""

    statistics_key = ""

    def __init__(self, network, device="cpu", dtype=torch.float64):
        self.network = network.to(device, dtype).eval().requires_grad_(False)
        self.codec = ToyCodec()
        self.spec = ObservationSpec(("camera",), 8, control_rate_hz=10.0)
        self.language = LanguageConfig(
            vocab_size=STOP + 1, hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=64,
        )  # fmt: skip
        self.engine = ToyEngine(self.network, self.codec)
        self.device, self.dtype = torch.device(device), dtype

        self.weight_bytes = sum(part.nbytes for part in network.parameters())

    def with_engine(self, choice):
        raise EngineError(f"engine {choice!r}; the toy family has one of its own")

    def embed_tokens(self, ids):
        return self.network.embedding(ids)

    def logits(self, hidden, rows=slice(None)):
        return self.network.head(hidden)[..., rows]

    def encode(self, images, instruction, proprio=None):
        pixels = torch.from_numpy(np.stack(images).mean(axis=(1, 2))) / 255
        words = torch.tensor([[len(word) % 20 for word in instruction.split()]])
        return pixels[None].to(self.dtype), words

    def features(self, inputs):
        return self.engine.stage(self.network.eyes, inputs[0])

    def prompt(self, inputs, features):
        return Prompt(torch.cat([features, self.embed_tokens(inputs[1])], dim=1), inputs[1])

    def retrieval_key(self, features):
        return nn.functional.normalize(features[0, 0], dim=0).float().numpy()


def random_network(seed=0):
    """It stops sooner or later: answers are of 1 to 13 tokens."""
    torch.manual_seed(seed)
    network = ToyNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 1.0)
        network.head.bias[STOP] += 2.0
    return network


def save_toy(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_network(seed).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    Tokenizer(WordLevel({"go": 0}, unk_token="go")).save(str(folder / "tokenizer.json"))
    return folder


def load_toy(folder, device, dtype):
    network = ToyNetwork()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return ToyModel(network, device, dtype)
