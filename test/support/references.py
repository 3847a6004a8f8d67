"""Checkpoints with the outputs of upstream's own code, of several families."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from support.tree import ROOT

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.decoding.verifier import Verification


class FamilyReference:
    """One folder of ``test/data``.

    Attributes:
        folder: of the checkpoint and of the outputs.
        content: ``reference.json``.
        cases: its cases, by name.
        arrays: ``reference.npz``.
    """

    def __init__(self, family: str) -> None:
        self.folder = ROOT / "test" / "data" / f"{family}_reference"
        self.content: dict[str, Any] = json.loads((self.folder / "reference.json").read_text())
        self.cases = {case["name"]: case for case in self.content["cases"]}
        self.arrays = np.load(self.folder / "reference.npz")

    def image(self, file: str):
        """A picture as RGB uint8 [H, W, 3]."""
        return np.asarray(Image.open(self.folder / file).convert("RGB"))


class Answer(NamedTuple):
    """What the plain loop gave: visual features, prompt, tokens, and logits [tokens, vocab]."""

    features: torch.Tensor
    prompt: Any
    tokens: list[int]
    logits: np.ndarray


@torch.inference_mode()
def plain_answer(model, inputs, engine=None, most: int | None = None) -> Answer:
    """A token a pass, through the model's own engine or another."""
    features = model.features(inputs)
    prompt = model.prompt(inputs, features)
    sequence, said = (engine or model.engine).start(prompt)
    tokens, logits = said.greedy.tolist(), [said.logits[0].clone()]
    while not model.codec.finished(tokens) and len(tokens) != most:
        said = sequence.extend(tokens[-1])
        tokens += said.greedy.tolist()
        logits.append(said.logits[0].clone())
    return Answer(features, prompt, tokens, torch.stack(logits).float().numpy())


@torch.inference_mode()
def drafted_answer(
    model, prompt, truth: list[int], seed: int, engine=None
) -> tuple[list[int], int]:
    """The verifier's answer to random trees around the truth, past its end too; and its passes."""
    rng = random.Random(seed)

    def tree(known: int) -> DraftTree:
        chains = []
        for _ in range(rng.randint(1, 3)):
            chain = [*truth[known : known + rng.randint(1, 30)]]
            if chain and rng.random() < 0.5:
                chain[rng.randrange(len(chain))] = rng.choice(truth)
            chains.append([*chain, rng.choice(truth), rng.choice(truth)])
        return DraftTree.from_chains(chains)

    verification = Verification.start(engine or model.engine, prompt, tree(0), "exact", room=100)
    while not verification.finished:
        verification.advance(tree(len(verification.tokens)), "exact")
    return verification.tokens, verification.passes
