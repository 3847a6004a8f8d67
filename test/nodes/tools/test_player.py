"""`heisd play` over real DDS: what is recorded is what arrives, and what the decoder sees."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rosbags.typesys import get_types_from_msg
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from support.bags import SECOND, START, TYPES, make, text, write_bag
from support.replay_bags import IMAGE, IMAGE_WRIST, INSTRUCTION, JOINTS, cell

from heisd_ros.control.inputs import stamp_ns
from heisd_ros.control.policy import load_policy
from heisd_ros.data.bag import Bag
from heisd_ros.nodes import qos
from heisd_ros.nodes.tools import player as player_module
from heisd_ros.nodes.tools.player import Player, PlaySettings
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.replay.observation_tap import ObservationTap, observation_digest
from heisd_ros.replay.run import replay_bag
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

STEPS = 20
KINDS = {IMAGE: Image, IMAGE_WRIST: Image, JOINTS: JointState, INSTRUCTION: String}


class Listener(Node):
    """Hears what is played."""

    def __init__(self, topics=KINDS, **kwargs):
        super().__init__("listener", **kwargs)
        self.heard, self.clock = {topic: [] for topic in topics}, []
        for topic in topics:
            profile = qos.latched() if KINDS[topic] is String else qos.reliable(100)
            heard = self.heard[topic].append  # the bytes as they came
            self.create_subscription(KINDS[topic], topic, heard, profile, raw=True)
        self.create_subscription(
            Clock, "/clock", lambda m: self.clock.append(stamp_of(m.clock)), 100
        )


def stamp_of(time):
    return time.sec * SECOND + time.nanosec


def play(world, player, tick=None):
    """Plays to the end, once every topic has its reader."""
    world.spin_until(lambda: player.heard, "readers")
    player.rewind()
    world.spin_until(lambda: player.finished, "the end", tick or player.tick)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_every_message_arrives_byte_by_byte_and_in_order(world, tmp_path, storage):
    bag = cell(STEPS).write(tmp_path / "bag", storage)
    listener = world.add(Listener)
    player = world.add(Player, PlaySettings(bag, rate=2.0, delay_sec=60.0))
    play(world, player)
    with Bag(bag) as recorded:
        sent = {topic: [] for topic in KINDS}
        for message in recorded.messages(list(KINDS)):
            sent[message.topic].append(bytes(message.data))
    count = sum(map(len, sent.values()))
    world.spin_until(lambda: sum(map(len, listener.heard.values())) == count, "every message")
    for topic, messages in listener.heard.items():
        assert messages == sent[topic], topic
    assert listener.clock == sorted(listener.clock)
    assert listener.clock[0] >= START and listener.clock[-1] <= START + 2 * SECOND


def test_some_topics_remapped_looped_and_without_a_clock(world, tmp_path):
    bag = cell(4).write(tmp_path / "bag")
    listener = world.add(Listener)
    settings = PlaySettings(bag, loop=True, topics=(JOINTS,), clock_hz=0.0)
    player = world.add(Player, settings, cli_args=["--ros-args", "-r", f"{JOINTS}:={JOINTS}x"])
    heard = []
    listener.create_subscription(JointState, f"{JOINTS}x", heard.append, qos.reliable(100))
    world.spin_until(lambda: len(heard) > 8, "a third round", player.tick)
    stamps = [stamp_ns(message) for message in heard]
    assert min(stamps[1:]) == stamps[0] or stamps[4] in stamps[:4]
    assert not player.finished and not listener.clock
    assert not any(listener.heard.values())


def test_what_is_not_installed_is_left_out_and_what_is_missing_named(world, tmp_path):
    bag = cell(2).write(tmp_path / "bag")
    TYPES.register(get_types_from_msg("float64 value", "lab_msgs/msg/Gauge"))
    gauge = make("lab_msgs/msg/Gauge", value=1.0)
    both = [("/gauge", START, gauge), ("/text", START, text("x"))]
    player = world.add(Player, PlaySettings(write_bag(tmp_path / "both", both)))
    assert {"/text"} == {topic for topic in ("/text", "/gauge") if player.count_publishers(topic)}
    alone = write_bag(tmp_path / "alone", both[:1])
    for settings, line in (
        ({"bag": bag, "topics": ("/nope",)}, "has no topic /nope"),
        ({"bag": tmp_path / "none"}, "does not exist"),
        ({"bag": alone}, r"nothing to play; .* for /gauge \(lab_msgs/msg/Gauge\)"),
    ):
        with pytest.raises(ValueError, match=line):
            Player(PlaySettings(**settings), context=world.context)
    for name, value in (("rate", 0.0), ("rate", float("nan")), ("clock_hz", -1.0)):
        with pytest.raises(ValueError, match=r" is .*; accepted: .* to 1000"):
            PlaySettings(bag, **{name: value})


def test_the_decoder_sees_live_what_it_sees_in_a_replay(world, checkpoint, tmp_path, monkeypatch):
    """The same images, joints, metric and instruction, in the same order, at a slow rate."""
    bag = cell(STEPS).write(tmp_path / "bag")
    live = []

    class Noting(ObservationTap):
        def infer(self, observation):
            live.append(observation_digest(observation))
            return super().infer(observation)

    def load(parameters):
        policy = load_policy(parameters)
        return replace(policy, decoder=Noting(policy.decoder))

    settings = {"model.path": str(checkpoint), "model.threads": 1, "dry_run": True}
    for topic in (IMAGE, IMAGE_WRIST, JOINTS):
        prefix = f"qos_overrides.{topic}.subscription"
        settings |= {f"{prefix}.reliability": "reliable", f"{prefix}.depth": 50}
    settings |= {"input.image_timeout_sec": 30.0, "input.joint_state_timeout_sec": 30.0}
    # The recording's stamps are of another time, and no clock of it is published here.
    settings |= {"command.max_action_age_sec": 30.0, "input.max_stamp_age_sec": 0.0}
    node = world.add(VlaNode, load, parameters=settings)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    live.clear()  # of the warm-up
    player = world.add(Player, PlaySettings(bag, rate=0.25, topics=tuple(KINDS), delay_sec=60.0))
    monkeypatch.setattr(player_module, "_MOST_IN_A_TICK", 1)
    counts = node._session.buffer.counts

    def tick():
        if counts["complete"] == len(live):  # after a stall the next would take this one's place
            player.tick()

    play(world, player, tick)
    world.spin_until(lambda: len(live) >= STEPS, "every step")
    patient = {
        "model.path": str(checkpoint),
        "model.threads": 1,
        "input.image_timeout_sec": 30.0,
        "input.joint_state_timeout_sec": 30.0,
        "command.max_action_age_sec": 30.0,
    }
    parameters = from_values(VlaNodeParameters, patient)
    (offline,) = replay_bag(bag, parameters, [], {}).modes.values()
    assert live == [step.digest for step in offline.steps] and len(set(live)) == STEPS


def test_the_command_plays_says_where_a_recording_breaks_off_and_ends(world, tmp_path):
    bag = cell(40, size=128).write(tmp_path / "bag")
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    listener = world.add(Listener, (JOINTS,))
    command = [sys.executable, "-m", "heisd_ros.cli.main", "play", str(bag), "--delay", "4"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(world.domain_id)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    world.spin_until(lambda: process.poll() is not None, "the end")
    assert process.returncode == 2 and "cut off" in process.communicate()[0]
    world.spin_until(lambda: listener.heard[JOINTS], "what was acknowledged")
    world.spin_for(0.2)
    assert len(listener.heard[JOINTS]) < 40
