"""What two instructions are compared by, wherever they are: model, database, fleet."""

from __future__ import annotations

import re

_PUNCTUATION = re.compile(r"[.,:;!?\"'()]+(?!\d)")


def normalise_instruction(instruction: str) -> str:
    """What instructions are compared by: lower case, no punctuation, one space for white space.

    Signs and decimal points stay: minus five and five are two instructions.
    """
    return " ".join(_PUNCTUATION.sub(" ", instruction.lower()).split())
