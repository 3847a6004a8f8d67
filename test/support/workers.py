"""How the suite is shared out to worker processes (`pytest -n 2`), and what is each one's own."""

from __future__ import annotations

import itertools
import os

from heisd_ros.nodes.tools.domain import DOMAINS, is_free

ROS_ROOMS = (
    "test/nodes/",
    "test/launch/",
    "test/cli/test_bench.py",
    "test/robot/test_parameters.py",
    "test/robot/test_robot_file.py",
)
"""Tests of running nodes. Many measure time, and none of them runs beside another."""
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_own = DOMAINS[_worker % _workers :: _workers]
_domains = itertools.cycle(_own)
for _ in range(os.getpid() % len(_own)):  # another run on this machine begins elsewhere
    next(_domains)


def next_domain_id():
    """Returns an unused ROS domain that no other worker and no recent test of this one has."""
    for domain_id in itertools.islice(_domains, len(_own)):
        if is_free(domain_id):
            return domain_id
    raise OSError("no free ROS domain")


def share_of(nodeid):
    """What one worker runs: the tests of running nodes, or those of another file."""
    file = nodeid.split("::")[0]
    return "ros" if file.startswith(ROS_ROOMS) else file


def put_long_ones_first(items):
    """Sorts tests: those of running nodes, then shares with slow ones, which would end last."""
    slow = {share_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (share_of(item.nodeid) != "ros", share_of(item.nodeid) not in slow))


def scheduler(config, log):
    """Gives the shares out in the order of the tests."""
    config.option.loadscopereorder = False
    from xdist.scheduler import LoadScopeScheduling  # only there when this is asked for

    class ByShare(LoadScopeScheduling):
        _split_scope = staticmethod(share_of)

    return ByShare(config, log)
