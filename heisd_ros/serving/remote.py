"""A decoder that asks a server: in the node it stands where a local one would."""

from __future__ import annotations

import itertools
import time

from heisd_ros.decoding.types import Observation, Settled, Source, StepResult
from heisd_ros.errors import MessageError
from heisd_ros.serving.exchange import (
    Asked,
    own_part,
    question,
    read_result,
    read_told,
)
from heisd_ros.serving.link import Link

WARM_UP_SEC, PATIENCE_SEC, LEAST_SEC = 60.0, 10.0, 1.0


class RemoteDecoder:
    """Asks the server for each step.

    Nothing is kept between two steps: an answer is to the newest observation, or it is none.

    Args:
        link: To the server.
        budget_sec: Time that a step may take; 0: no budget. The node holds the arm once it is over.
            An answer is waited for twice as long, so that a server that is slow once is not left.
        plain: Ask for plain decoding.
    """

    def __init__(self, link: Link, budget_sec: float = 0.0, plain: bool = False) -> None:
        self._link, self._plain = link, plain
        self._patience_sec = max(2.0 * budget_sec, LEAST_SEC) if budget_sec else PATIENCE_SEC
        self._numbers = itertools.count(1)
        self._answered = False  # a server may compile its model at the first question
        self._begins = True
        self._success: bool | None = None
        self._unseen = False
        self._warning = ""

    def infer(self, observation: Observation) -> StepResult:
        """Asks for one step.

        Raises:
            RemoteModelError: There is no connection, or no usable answer in time.
            ImageError, ProprioceptionError, UnknownInstructionError: The server names it.
        """
        began = time.perf_counter()
        asked = Asked(
            step=next(self._numbers),
            reset=self._begins,
            success=self._success,
            plain=self._plain,
            motion=observation.motion,
            after_hold=observation.after_hold,
        )
        patience_sec = self._patience_sec if self._answered else WARM_UP_SEC
        layout = self._link.layout
        message = self._link.ask(question(layout, observation, asked), patience_sec)
        total_ms = (time.perf_counter() - began) * 1e3
        try:
            told = read_told(message, asked, layout)
            result = read_result(message, told, layout, total_ms)
        except MessageError as error:
            raise self._link.reject(str(error)) from error
        self._answered, self._begins, self._success = True, False, None
        self._warning, self._unseen = told.warning, result.source is Source.SKIP
        return result

    def settle(self) -> Settled | None:
        """Lets the server verify a step that it did not look at; no other leaves anything over.

        Raises:
            RemoteModelError: As in `infer`.
        """
        unseen, self._unseen = self._unseen, False
        if not unseen:
            return None
        asked = Asked(step=next(self._numbers), settle=True)
        message = self._link.ask(own_part(asked), self._patience_sec)
        try:
            told = read_told(message, asked, self._link.layout)
        except MessageError as error:
            raise self._link.reject(str(error)) from error
        self._warning = told.warning
        return None if told.settled is None else Settled(*told.settled)

    def warning(self) -> str:
        """The server's newest, or why it is away."""
        return self._link.problem or self._warning

    def reset(self, success: bool | None = None) -> None:
        """Forgets the episode; the server is told with the next question."""
        self._begins, self._unseen = True, False
        self._success = success
