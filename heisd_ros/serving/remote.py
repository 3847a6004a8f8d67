"""A decoder whose steps a server computes; the node uses it like a local one."""

from __future__ import annotations

import itertools
import time

from heisd_ros.decoding.types import Observation, Settled, Source, StepResult
from heisd_ros.errors import MessageError
from heisd_ros.serving.exchange import (
    StepRequest,
    own_part,
    question,
    read_reply,
    read_result,
)
from heisd_ros.serving.link import Link

WARM_UP_SEC, PATIENCE_SEC, LEAST_SEC = 60.0, 10.0, 1.0


class RemoteDecoder:
    """Sends each step to the server.

    No reply is kept for a later step: a reply is to the newest observation, or it is discarded.

    Args:
        link: Connection to the server.
        budget_sec: Time that a step may take; 0: no budget. The node holds the arm once it is over.
            A reply is waited for twice as long, so that one slow step does not end the connection.
        plain: Request plain decoding.
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
        """Requests one step.

        Raises:
            RemoteModelError: There is no connection, or no usable reply in time.
            ImageError, ProprioceptionError, UnknownInstructionError: As the server reports.
        """
        began = time.perf_counter()
        request = StepRequest(
            step=next(self._numbers),
            reset=self._begins,
            success=self._success,
            plain=self._plain,
            motion=observation.motion,
            after_hold=observation.after_hold,
        )
        patience_sec = self._patience_sec if self._answered else WARM_UP_SEC
        layout = self._link.layout
        message = self._link.ask(question(layout, observation, request), patience_sec)
        total_ms = (time.perf_counter() - began) * 1e3
        try:
            reply = read_reply(message, request, layout)
            result = read_result(message, reply, layout, total_ms)
        except MessageError as error:
            raise self._link.reject(str(error)) from error
        self._answered, self._begins, self._success = True, False, None
        self._warning, self._unseen = reply.warning, result.source is Source.SKIP
        return result

    def settle(self) -> Settled | None:
        """Requests the deferred verification of a step that was executed unverified.

        Raises:
            RemoteModelError: As in `infer`.
        """
        unseen, self._unseen = self._unseen, False
        if not unseen:
            return None
        request = StepRequest(step=next(self._numbers), settle=True)
        message = self._link.ask(own_part(request), self._patience_sec)
        try:
            reply = read_reply(message, request, self._link.layout)
        except MessageError as error:
            raise self._link.reject(str(error)) from error
        self._warning = reply.warning
        return None if reply.settled is None else Settled(*reply.settled)

    def warning(self) -> str:
        """Returns the server's newest warning, or why there is no connection."""
        return self._link.problem or self._warning

    def reset(self, success: bool | None = None) -> None:
        """Ends the episode; the server learns it with the next request."""
        self._begins, self._unseen = True, False
        self._success = success
