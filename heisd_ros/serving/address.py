"""Addresses of model servers, as ``model.path`` gives them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

SCHEMES = ("ws://", "wss://")
TOKEN = "HEISD_MODEL_TOKEN"
"""Environment variable of both sides: every node of the ROS graph could read a parameter."""


def is_address(path: str) -> bool:
    """Whether a ``model.path`` names a server and not a folder."""
    return path.startswith(SCHEMES)


def own_token() -> str:
    """Returns the token of this side; empty: none.

    Raises:
        ValueError: no header can carry it. It is not shown.
    """
    token = os.environ.get(TOKEN, "")
    if not re.fullmatch("[!-~]*", token):
        raise ValueError(
            f"the environment variable {TOKEN} holds a space, a line's end or a letter that is not "
            "ASCII; accepted: printable ASCII"
        )
    return token


@dataclass(frozen=True)
class Address:
    """The address of a server, and options for a server that does not describe its model.

    Attributes:
        uri: WebSocket address, such as ``ws://gpu-box:8000``.
        options: texts by name, from the query ``?name=text&...``; see `Layout.read`.
    """

    uri: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address.

        Raises:
            ValueError: it is not an address; the message names what is accepted.
        """
        accepted = "accepted: ws://HOST:PORT or wss://HOST:PORT"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"parameter 'model.path' is {text!r} ({error}); {accepted}") from error
        if not is_address(text) or not parts.hostname or parts.username or parts.fragment:
            raise ValueError(f"parameter 'model.path' is {text!r}; {accepted}")
        if port == 0 or any(c.isspace() for c in text):
            raise ValueError(f"parameter 'model.path' is {text!r}; {accepted}")
        query = parse_qs(parts.query, keep_blank_values=True)
        options = {name: values[-1] for name, values in query.items()}
        return cls(parts._replace(query="").geturl(), options)
