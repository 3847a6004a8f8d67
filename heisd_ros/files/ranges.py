"""Numbers as people write them: `0-9,20`."""

from __future__ import annotations

import re


def parse_ranges(text: str) -> set[int]:
    """`0-9,20` to numbers.

    Raises:
        ValueError: The text is malformed.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{text!r}; numbers and ranges such as 0-9,20")
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers
