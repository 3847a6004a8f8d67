"""Connections of the tests."""

from __future__ import annotations

import pytest

from heisd_ros.serving.address import Address
from heisd_ros.serving.link import Link
from heisd_ros.serving.remote import RemoteDecoder


@pytest.fixture
def dial():
    """Connects to a URI; what was connected is closed at the end."""
    open_links = []

    def begin(uri, budget_sec=0.5, token=""):
        open_links.append(Link(Address.parse(uri), token))
        return RemoteDecoder(open_links[-1], budget_sec)

    yield begin
    for link in open_links:
        link.close()
