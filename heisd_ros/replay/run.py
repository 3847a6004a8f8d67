"""Replays a bag through several decoding modes, reading it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heisd_ros.control.policy import load_model, make_policy
from heisd_ros.data import clocks
from heisd_ros.data.bag import Bag, BagMessage
from heisd_ros.data.tracks import header_stamp
from heisd_ros.errors import BagError, ReplayError
from heisd_ros.evaluation.setup import mode_name
from heisd_ros.replay.mode_replay import ModeReplay
from heisd_ros.replay.recorded import RecordedActions
from heisd_ros.replay.sampled_pictures import Frame, Frames
from heisd_ros.replay.topics import ReplayTopics, find_topics
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.vla.action_codec import AnswerFormat

REFERENCE = "ar"
"""The mode that all others are compared with; it is always replayed."""


@dataclass(frozen=True)
class Replayed:
    """Result of replaying a bag.

    Attributes:
        topics: Topics of the inputs.
        messages: Number of messages read, by topic.
        seconds: Time from the first message read to the last, s.
        modes: Each mode's replay, the reference first.
        answer: Format of the answers of the model, which is the same in all modes.
        recorded: Commands in the bag; None if it has none.
        frames: Sampled pictures.
        problem: Why it was not read to its end; empty if it was.
        remarks: Other remarks for the reader, one line each.
    """

    topics: ReplayTopics
    messages: Counter[str]
    seconds: float
    modes: dict[str, ModeReplay]
    answer: AnswerFormat
    recorded: RecordedActions | None
    frames: list[Frame]
    problem: str
    remarks: list[str]


def replay_bag(
    path: Path,
    parameters: VlaNodeParameters,
    modes: Sequence[str],
    remaps: Mapping[str, str],
    instruction: str | None = None,
) -> Replayed:
    """Replays a bag.

    Args:
        path: The bag: its folder, or a file of it.
        parameters: Settings of the node; the mode and whether images are compressed are not taken
            from them.
        modes: Names of decoding modes, or paths of their files.
        remaps: The node's name of an input to the topic of the bag.
        instruction: The instruction; None: that of the bag.

    Raises:
        BagError: The bag cannot be opened, or its first message cannot be read.
        ReplayError: A topic is missing or of a wrong type, or there is no instruction.
        HeisdError: The model or a part of a mode cannot be used.
    """
    vla = load_model(parameters)
    with Bag(path) as bag:
        from_topic = parameters.robot.source == "topic"
        topics = find_topics(vla.spec.views, bag.topics, remaps, from_topic)
        topics, remarks = _without_unreadable(bag, topics)
        if instruction is None and topics.instruction is None:
            raise ReplayError(
                "no instruction: the bag has none on ~/input/instruction; give --instruction, or "
                "name its topic with --remap ~/input/instruction:=TOPIC"
            )
        settings = with_values(parameters, {"input.compressed": topics.compressed})
        names = list(dict.fromkeys([REFERENCE, *modes]))
        policies = {
            mode_name(mode): make_policy(with_values(settings, {"decoding.mode": mode}), vla)
            for mode in names
        }
        stream = iter(bag.messages(list(dict.fromkeys(topics.named().values()))))
        first = next(stream, None)
        if first is None:
            raise ReplayError(f"{path} has no message on {', '.join(topics.named().values())}")
        start = first.stamp_ns
        replays = {
            name: ModeReplay(settings, policy, instruction, start)
            for name, policy in policies.items()
        }
        feed = _Feed(topics, replays, start)
        problem = ""
        try:
            feed.take(first)
            for message in stream:
                feed.take(message)
            feed.finish()
        except ReplayError as error:
            problem = str(error)
        problem = problem or bag.damage
        remarks += [
            *bag.remarks,
            *feed.clocks(settings.sync.tolerance_sec),
            *(f"left out: {n} x {why}" for why, n in bag.unreadable.items()),
        ]
    return Replayed(
        topics=topics,
        messages=feed.messages,
        seconds=(feed.now - start) / 1e9,
        modes=replays,
        answer=vla.codec,
        recorded=feed.recorded,
        frames=feed.frames.kept,
        problem=problem,
        remarks=[*remarks, *_remarks(next(iter(replays.values())))],
    )


def _without_unreadable(bag: Bag, topics: ReplayTopics) -> tuple[ReplayTopics, list[str]]:
    """Leaves the recorded action out if the bag does not define its type, with a remark."""
    if topics.recorded is None:
        return topics, []
    try:
        bag.messages([topics.recorded[0]])
    except BagError as error:
        return replace(topics, recorded=None), [f"recorded action left out: {error}"]
    return topics, []


def _remarks(replay: ModeReplay) -> list[str]:
    """Returns remarks on oddities that the node's rules have handled."""
    remarks = []
    if jumps := replay.counts["clock_jumps"]:
        remarks.append(f"the clock of the recording was set back, {jumps} time(s)")
    remarks += [f"instruction refused, as by the node: {why}" for why in replay.refused]
    return remarks


class _Feed:
    """Passes each message to every mode, in the order of the bag."""

    def __init__(self, topics: ReplayTopics, replays: Mapping[str, ModeReplay], start: int) -> None:
        self.messages: Counter[str] = Counter()
        self.frames, self.now = Frames(), start
        self.recorded: RecordedActions | None = None
        self._topics, self._replays, self._start = topics, replays, start
        self._reference = next(iter(replays.values()))
        self._framed = 0
        self._ahead: dict[str, list[int]] = {
            name: [] for name in (*topics.images, topics.joint_states)
        }
        if topics.recorded is not None:
            rate_hz = self._reference.rate_hz
            self.recorded = RecordedActions(topics.recorded[1], rate_hz, start)

    def take(self, message: BagMessage) -> None:
        """Passes the next message to every mode."""
        topics, topic, content = self._topics, message.topic, message.message
        self.now = now = message.stamp_ns
        self.messages[topic] += 1
        if topic in self._ahead:
            self._ahead[topic].append(header_stamp(message) - now)
        if self.recorded is not None and topics.recorded and topic == topics.recorded[0]:
            self.recorded.add(content, now)
        for replay in self._replays.values():
            replay.advance(now)
            for view, name in enumerate(topics.images):
                if topic == name:
                    replay.add_image(view, content, now)
            if topic == topics.joint_states:
                replay.add_joint_state(content, now)
            elif topic == topics.instruction:
                replay.add_instruction(content.data, now)
            elif topic == topics.robot_description:
                replay.add_robot(content.data, now)
        self._keep_frame()

    def clocks(self, tolerance: float) -> list[str]:
        """Returns remarks on topics whose clocks differ."""
        offsets = {topic: clocks.offset(ahead) for topic, ahead in self._ahead.items() if ahead}
        differ = clocks.differ(offsets, tolerance)
        return [clocks.describe(offsets, tolerance)] if differ else []

    def finish(self) -> None:
        """Ends the replay of every mode."""
        for replay in self._replays.values():
            replay.finish(self.now)
        self._keep_frame()

    def _keep_frame(self) -> None:
        steps, seen = self._reference.steps, self._reference.tap.newest
        if len(steps) > self._framed and seen is not None:
            self._framed = len(steps)
            self.frames.add(Frame(steps[-1].at, seen.images))
