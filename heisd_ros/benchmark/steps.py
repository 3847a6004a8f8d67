"""Whole steps and their parts as the decoders run them, one function per case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heisd_ros.benchmark.roofline import Roofline, Workloads
from heisd_ros.benchmark.subject import Subject
from heisd_ros.benchmark.timing import Case
from heisd_ros.decoding.acceptance import accept
from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.verifier import Judge, Verification
from heisd_ros.families.shapes import Work
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.engine import Engine, Prompt, PromptSequence

EAGER, OPTIMISED, SKIPPED = "eager autoregressive", "optimised autoregressive", "skipped step"
RETRIEVED, DRAFTED = "retrieval verified in the prefill", "drafter step"
VISION, SEARCH, PROJECTOR = "vision", "search", "projector and prompt"
PREFILL, VERIFYING = "prefill", "prefill with a draft"
TOKEN, VERIFIED, DRAFTING = "one token", "one token with a draft", "drafting"
LANGUAGE = "language model alone, optimised"
THEN_VERIFIED, THEN_DRAFTED = "prefill, then one token with a draft", "prefill, then drafting"
NEIGHBOURS = 5
"""Entries retrieved, as the modes do by default."""


class Steps:
    """The steps of one model.

    Each begins with pixels on the device and ends with an answer on the host.

    Args:
        subject: the model.
        engine: what runs its passes.

    Attributes:
        left: tokens after the first, and drafted tokens that a pass has to read: the last is only
            judged.
    """

    def __init__(self, subject: Subject, engine: Engine) -> None:
        self.subject, self.engine, self.model = subject, engine, subject.vla
        self.language = subject.vla.model.language_model
        self.left = subject.vla.codec.max_tokens - 1
        self.inputs = subject.inputs(0)
        self.features = self._vision()
        self.prompt = self._embed(self.features)
        self.chain = self.plain()
        columns = self.prompt.columns.shape[1]
        self.workloads = Workloads(self.model, subject.drafter, columns)

    def eager(self) -> list[int]:
        """Runs a step as upstream does: cache grown by copying, logits of the whole prompt.

        The same modules, called one by one.
        """
        model, language = self.model.with_engine("plain"), self.language
        columns = model.prompt(self.inputs, model.features(self.inputs)).columns
        cache = _Concatenated()
        tokens: list[int] = []
        for position in range(self.left + 1):
            start, end = cache.length, cache.length + columns.shape[1]
            positions = torch.arange(start, end, device=columns.device).unsqueeze(0)
            hidden = language.model.run(columns, positions, None, cache)
            tokens.append(int(language.logits(hidden)[0, -1].float().argmax()))
            if position < self.left:
                newest = torch.tensor([tokens[-1:]], device=columns.device)
                columns = language.model.embed_tokens(newest)
        return tokens

    def plain(self) -> list[int]:
        """Runs a plain step, with one token per pass."""
        return self._decode(self._see())

    def retrieved(self, accepted: int) -> list[int]:
        """Runs a step with a retrieved draft in the prefill, and the rest token by token."""
        features = self._vision()
        self._search(features)
        verification = Verification.start(
            self.engine,
            self._embed(features),
            DraftTree.from_chains([self.chain]),
            "exact",
            judge=forced(accepted),
        )
        verification.finish()
        return verification.tokens

    def drafted(self) -> list[int]:
        """Runs a drafter step: a chain of all that is left, verified in one pass and accepted."""
        prompt = self._see()
        verification = Verification.start(
            self.engine, prompt, NO_DRAFT, "exact", self.left, judge=forced(self.left)
        )
        tree = self._draft(verification.sequence, prompt, verification.tokens[0])
        verification.advance(tree, "exact")
        return verification.tokens

    def skipped(self) -> tuple[int, ...]:
        """Runs a skipped step: vision and search, whose result is executed."""
        return self._search(self._vision())

    def cases(self, roofline: Roofline) -> list[Case]:
        """Returns all steps, then their parts."""
        work, left = self.workloads, self.left
        see = (work.vision, work.project)
        plain = (*see, work.prefill(), *[work.extend()] * left)
        draft = (*see, work.prefill(), *work.draft(left), work.extend(left))
        steps = [
            Case(EAGER, self.eager, roofline.ms(*plain)),
            Case(OPTIMISED, self.plain, roofline.ms(*plain)),
        ]
        for accepted in range(left + 2):
            passes = (*see, work.prefill(left), *[work.extend()] * max(0, left - accepted))
            run = _bound(self.retrieved, accepted)
            steps.append(Case(f"{RETRIEVED}, {accepted}", run, roofline.ms(*passes), accepted))
        steps.append(Case(DRAFTED, self.drafted, roofline.ms(*draft), left))
        steps.append(Case(SKIPPED, self.skipped, roofline.ms(work.vision)))
        return [*steps, *self._parts(roofline)]

    def _parts(self, roofline: Roofline) -> list[Case]:
        work, engine, left = self.workloads, self.engine, self.left
        tree = DraftTree.from_chains([self.chain[:left]])
        hidden, ids = self.prompt.columns[0, :1], self.model.codec.action_ids

        def verified() -> Tensor:
            sequence, _ = engine.start(self.prompt, None, left)
            return sequence.extend(self.chain[0], tree).greedy

        def draft() -> DraftTree:
            sequence, _ = engine.start(self.prompt, None, left)
            return self._draft(sequence, self.prompt, self.chain[0])

        prefill, rest = work.prefill(), [work.extend()] * left
        own: list[tuple[str, Callable[[], object], tuple[Work, ...]]] = [
            (VISION, self._vision, (work.vision,)),
            (SEARCH, lambda: self._search(self.features), ()),
            (PROJECTOR, lambda: self._embed(self.features), (work.project,)),
            (PREFILL, lambda: engine.start(self.prompt, None, left), (prefill,)),
            (VERIFYING, lambda: engine.start(self.prompt, tree), (work.prefill(left),)),
            (LANGUAGE, lambda: self._decode(self.prompt), (prefill, *rest)),
            (THEN_VERIFIED, verified, (prefill, work.extend(left))),
            (THEN_DRAFTED, draft, (prefill, *work.draft(left))),
            ("LM head, all rows", lambda: self.model.logits(hidden), ()),
            (
                f"LM head, {len(ids)} rows",
                lambda: self.model.logits(hidden, slice(ids.start, ids.stop)),
                (),
            ),
        ]
        return [
            Case(name, run, roofline.ms(*passes) if passes else None, step=False)
            for name, run, passes in own
        ]

    def differences(self, roofline: Roofline) -> list[Difference]:
        """Returns the parts that cannot be repeated alone, as differences of two cases."""
        work, left = self.workloads, self.left
        return [
            Difference(TOKEN, LANGUAGE, left, roofline.ms(work.extend())),
            Difference(VERIFIED, THEN_VERIFIED, 1, roofline.ms(work.extend(left))),
            Difference(DRAFTING, THEN_DRAFTED, 1, roofline.ms(*work.draft(left))),
        ]

    def _see(self) -> Prompt:
        return self._embed(self._vision())

    def _vision(self) -> Tensor:
        return self.model.features(self.inputs)

    def _embed(self, features: Tensor) -> Prompt:
        return self.model.prompt(self.inputs, features)

    def _decode(self, prompt: Prompt) -> list[int]:
        sequence, said = self.engine.start(prompt)
        tokens = [said.greedy]
        for _ in range(self.left):
            tokens.append(sequence.extend(tokens[-1]).greedy)
        chosen: list[int] = torch.cat(tokens).tolist()
        return chosen

    def _search(self, features: Tensor) -> tuple[int, ...]:
        matches = self.subject.shard.search(self.model.retrieval_key(features), NEIGHBOURS)
        return tuple(matches.tokens[0].tolist())

    def _draft(self, sequence: PromptSequence, prompt: Prompt, first: int) -> DraftTree:
        drafter = self.subject.drafter
        state = drafter.start(sequence.prompt_hidden, prompt.columns, first)
        tokens, parents = drafter.propose(self.model, state, self.left, 1, self.left)
        return DraftTree(tuple(tokens), tuple(parents))


@dataclass(frozen=True)
class Difference:
    """A part of a case: its time beyond the prefill.

    Attributes:
        name: for a reader.
        case: the case, of `Steps.cases`.
        times: how often the part is in it.
        roofline_ms: the least that the part could need.
    """

    name: str
    case: str
    times: int
    roofline_ms: float


def forced(accepted: int) -> Judge:
    """Returns a judge that costs as much as `accept`, but accepts a given number of tokens."""

    def judge(
        rule: AcceptanceRule,
        tree: DraftTree,
        greedy: Sequence[int],
        tokens: Sequence[int],
        answer: AnswerFormat,
        own: Sequence[int] = (),
    ) -> tuple[int, ...]:
        accept(rule, tree, greedy, tokens, answer, own)
        return tuple(range(min(accepted, len(tree))))

    return judge


def _bound(function: Callable[[int], object], argument: int) -> Callable[[], object]:
    return lambda: function(argument)


class _Concatenated:
    """Keys and values that grow by copying, as transformers' ``DynamicCache`` does."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.length = 0

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the new columns; returns all."""
        if layer in self._layers:
            before = self._layers[layer]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        self._layers[layer] = keys, values
        self.length = keys.shape[2]
        return keys, values
