"""Shows a recording: all of its cameras, the arm and the node's telemetry, on the bag's clock."""

from __future__ import annotations

from collections.abc import Iterator

from heisd_ros.data.bag import Bag, BagMessage
from heisd_ros.data.recording_notes import noted_instruction
from heisd_ros.data.tracks import COMPRESSED, IMAGE, JOINTS, TELEMETRY, TEXT
from heisd_ros.errors import BagError
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.view.feed import Feed
from heisd_ros.view.screen import Screen

SHOWN = (IMAGE, COMPRESSED, JOINTS, TELEMETRY)
DRAWN = "/debug/overlay"
"""End of the topic on which a node draws on its own camera's picture."""
FLUSH_EVERY = 200
"""So many messages may wait for the viewer: a bag may be larger than the memory."""


def show_bag(bag: Bag, screen: Screen, cell: CellParameters, node: str = "") -> list[str]:
    """Reads a bag once, from beginning to end, and shows it.

    Args:
        bag: The bag, entered.
        screen: Where it is shown.
        cell: The robot.
        node: Name of the node whose telemetry is shown; empty: the first in the bag.

    Returns:
        Remarks for the reader, one line each: what was left out, and where the bag breaks off.

    Raises:
        BagError: Nothing in the bag can be shown, or it has no telemetry of the node.
    """
    feed = Feed(screen, cell)
    topics, remarks = _topics(bag, cell, node)
    cameras = tuple(t for t in topics if bag.topics[t] in (IMAGE, COMPRESSED))
    screen.arrange(cameras)
    told, last = noted_instruction(bag.custom), 0
    for number, message in enumerate(bag.messages(topics), 1):
        if number == 1 and told:
            screen.note(message.stamp_ns, f"recorded instruction: {told}", "INFO")
        last = max(last, message.stamp_ns)
        _show(feed, message)
        if number % FLUSH_EVERY == 0:
            screen.flush()
    if feed.arm.problem:
        remarks.append(f"the arm is not drawn: {feed.arm.problem}; see --params")
    if bag.damage:
        screen.note(last, f"the recording breaks off: {bag.damage}", "ERROR")
        remarks.append(f"not read to its end: {bag.damage}")
    remarks += [f"left out: {count} x {why}" for why, count in bag.unreadable.items()]
    screen.close()
    return [*bag.remarks, *remarks]


def _show(feed: Feed, message: BagMessage) -> None:
    now, content = message.stamp_ns, message.message
    if message.type == TELEMETRY:
        feed.telemetry(now, content)
    elif message.type == JOINTS:
        feed.joints(now, content)
    elif message.type == TEXT:
        feed.describe(now, content.data)
    elif feed.wants_picture(now, message.topic):
        feed.picture(now, message.topic, content)


def _topics(bag: Bag, cell: CellParameters, node: str) -> tuple[list[str], list[str]]:
    """Returns the topics to read, and remarks on those that cannot be."""
    telemetry = [topic for topic, kind in bag.topics.items() if kind == TELEMETRY]
    chosen = f"/{node.strip('/')}/telemetry" if node else (telemetry or [""])[0]
    if node and chosen not in telemetry:
        raise BagError(
            f"{bag.path} has no telemetry of {node!r}; it has {', '.join(telemetry) or 'none'}"
        )
    remarks = [f"left out: {topic}; choose with --node" for topic in telemetry if topic != chosen]
    wanted = [
        topic
        for topic, kind in bag.topics.items()
        if kind in SHOWN and not topic.endswith(DRAWN) and (kind != TELEMETRY or topic == chosen)
    ]
    description = cell.recording.robot_description
    if cell.robot.source == "topic" and bag.topics.get(description) == TEXT:
        wanted.append(description)
    topics = []
    for topic, problem in _problems(bag, wanted):
        if problem:
            remarks.append(f"left out: {problem}")
        else:
            topics.append(topic)
    if not topics:
        found = ", ".join(bag.topics) or "no topic"
        raise BagError(
            f"{bag.path} has nothing to show: no pictures, joint states or telemetry that can be "
            f"read; it has {found}"
        )
    return topics, remarks


def _problems(bag: Bag, topics: list[str]) -> Iterator[tuple[str, str]]:
    """Yields each topic with why its messages cannot be read; empty if they can."""
    for topic in topics:
        try:
            bag.messages([topic])
        except BagError as error:
            yield topic, str(error)
        else:
            yield topic, ""
