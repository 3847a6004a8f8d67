"""Finds an unused ROS domain, so that a demo or a test does not reach a robot on the network."""

from __future__ import annotations

import random
import socket

DOMAINS = range(1, 102)
"""Domains whose ports stay below Linux's ephemeral ones; 0 is everybody's default."""


def is_free(domain_id: int) -> bool:
    """Whether no participant of the domain runs on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # The port of the domain's first participant (DDSI-RTPS 2.5, 9.6.2).
            probe.bind(("", 7400 + 250 * domain_id + 10))
        except OSError:
            return False
    return True


def free_domain_id() -> int:
    """Returns a random domain that is unused on this machine.

    Raises:
        OSError: Every domain is in use.
    """
    for domain_id in random.sample(DOMAINS, len(DOMAINS)):
        if is_free(domain_id):
            return domain_id
    raise OSError(f"every ROS domain from {DOMAINS[0]} to {DOMAINS[-1]} is in use")
