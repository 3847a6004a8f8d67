"""Whatever a mode keeps, a step is the plain loop's, or the plain loop's behind what is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import support
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros import families
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Observation
from heisd_ros.kinematics.metric import MetricBounds, MetricSample, MetricSettings

families.__path__.append(str(Path(support.__path__[0]) / "families"))
from heisd_ros.families.toy.codec import STOP, TalkingCodec  # noqa: E402
from heisd_ros.families.toy.model import ToyModel, random_network  # noqa: E402

BOUNDS = MetricBounds(MetricSettings(), (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), boundary=0.25)
FAST, SLOW = 0.9, 0.1
TAGS = st.lists(st.lists(st.integers(0, STOP), min_size=1, max_size=4).map(tuple), max_size=3)
MODES = st.fixed_dictionaries(
    {
        "propose": st.just("last_command"),
        "redraft": st.booleans(),
        "one_pass": st.booleans(),
        "correct": st.booleans(),
        "drafter": st.fixed_dictionaries({"accept": st.sampled_from(["exact", "token_relaxed"])}),
        "reasoning": st.fixed_dictionaries(
            {
                "keep": st.sampled_from(["count", "motion"]),
                "again": st.sampled_from(["action", "motion"]),
                "steps": st.integers(1, 4),
                "clearance": st.integers(0, 2),
            }
        ),
    }
).map(ModeSettings.from_dict)
STEPS = st.lists(
    st.builds(
        SimpleNamespace,
        frame=st.integers(0, 2),
        metric=st.sampled_from([FAST, FAST, SLOW]),
        task=st.sampled_from(["pick up", "pick up", "pick up", "put it down"]),
        held=st.sampled_from([False] * 5 + [True]),
        reset=st.sampled_from([False] * 9 + [True]),
    ),
    min_size=4,
    max_size=12,
)


def observation(step):
    picture = np.random.default_rng(step.frame).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    motion = MetricSample(step.metric, 0.1, 0.1, 0.1, "paper", True, "velocity")
    return Observation((picture,), step.task, None, motion, step.held)


@torch.inference_mode()
def behind(model, seen, kept):
    """The plain loop, with what is kept as the end of the prompt."""
    inputs = model.encode(seen.images, seen.instruction)
    columns = model.prompt(inputs, model.features(inputs)).columns
    forced = torch.cat([columns, model.embed_tokens(torch.tensor([kept]))], dim=1)
    sequence, said = model.engine.start(SimpleNamespace(columns=forced))
    tokens = [*kept, *said.greedy.tolist()]
    while not model.codec.finished(tokens):
        tokens += sequence.extend(tokens[-1]).greedy.tolist()
    return tuple(tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.booleans(), TAGS, MODES, STEPS)
def test_every_step_is_the_plain_loops_behind_what_is_kept(seed, long, tags, mode, steps):
    network = random_network(seed)
    if long:
        with torch.no_grad():
            network.head.bias[STOP] -= 3.0
    model = ToyModel(network)
    model.codec = model.engine.answer = TalkingCodec(tags)
    subject = build_decoder(model, mode, bounds=BOUNDS, keep_frames=True)
    plain, before, task, in_a_row = AutoregressiveDecoder(model), None, "", 0
    for step in steps:
        if step.reset:
            subject.reset()
            before = None
        seen = observation(step)
        result = subject.infer(seen)
        assert len(result.reasoning) <= 2000 and result.reasoning.isprintable()
        if result.source == "kept":
            in_a_row += 1
            kept = model.codec.kept(before.tokens, mode.reasoning.again)
            assert kept and result.tokens == behind(model, seen, kept)
            assert in_a_row <= mode.reasoning.steps and not result.problem and not before.problem
            assert not step.held and step.task == task and result.frame is None
            assert mode.reasoning.keep == "count" or step.metric == FAST
        else:
            in_a_row = 0
            assert result.tokens == plain.infer(seen).tokens == result.frame.tokens
        before, task = result, step.task
