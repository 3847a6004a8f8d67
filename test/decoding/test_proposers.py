"""A proposer is one class: nothing else of the package has to know it."""

from __future__ import annotations

import numpy as np
import pytest
from support.small_models import CONFIG, INSTRUCTIONS, acting_vla, random_images

from heisd_ros.decoding import proposers, types
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.proposers import Proposer, proposer
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.decoding.types import Observation, Source, deciding
from heisd_ros.errors import ModeError


def test_a_proposer_is_one_class(monkeypatch):
    monkeypatch.setattr(types, "_SOURCES", dict(types._SOURCES))
    monkeypatch.setattr(proposers, "_PROPOSERS", list(proposers._PROPOSERS))
    vla, proprio = acting_vla(), np.zeros(CONFIG.proprio_size, np.float32)
    seen = Observation(random_images(CONFIG, 0), INSTRUCTIONS[0], proprio)
    own = AutoregressiveDecoder(vla).infer(seen).tokens
    with pytest.raises(ModeError, match=r"propose is 'oracle'; accepted: 'none', .* or 'hybrid'"):
        ModeSettings.from_dict({"propose": "oracle"})

    @proposer
    class Oracle(Proposer):
        """Drafts what the model will say."""

        source = Source("oracle", "the truth, verified", "#123456", proposes=True)
        accept = "exact"

        @classmethod
        def of(cls, mode, vla, drafter):
            return cls()

        def propose(self, step):
            return DraftTree.from_chains([own])

    mode = ModeSettings.from_dict({"propose": "oracle"})
    result = build_decoder(vla, mode).infer(seen)
    assert (result.source, result.tokens, result.passes) == ("oracle", own, 1)
    assert Source.named("o") is Oracle.source and Oracle.source in deciding()  # tables and figures


def test_two_sources_never_share_a_letter():
    with pytest.raises(ValueError, match="'retry' begins as 'retrieval' does"):
        Source("retry", "again", "#123456")
