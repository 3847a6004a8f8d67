"""Checks an instruction, wherever it comes from. Imports no ROS."""

from __future__ import annotations

MAX_LENGTH = 512
"""Longest instruction, characters: about a hundred tokens, far more than models are trained on."""


def instruction_problem(text: str) -> str:
    """Returns why a text is refused as an instruction; empty if it is accepted.

    An instruction comes from the network. It goes to the model's tokenizer, to telemetry and to the
    log, never to a shell or a path; line breaks and control characters, with which a log could be
    forged, and too long texts are refused here.
    """
    if len(text) > MAX_LENGTH:
        return f"instruction has {len(text)} characters; accepted: up to {MAX_LENGTH}"
    if not text.isprintable():
        return f"instruction is {text!r}; accepted: printable characters on one line"
    return ""
