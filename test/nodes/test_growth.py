"""A node that keeps its successes and shares them, over real DDS and with a real server."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import SetBool
from support.milvus import MilvusServer
from support.ros import Bench
from support.skipping import calibration
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.fleet import link
from heisd_ros.fleet.collection_layout import Layout
from heisd_ros.fleet.recorded_episode import RecordedEpisode
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.retrieval.manifest import Manifest
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(scope="module")
def equipped(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("growing") / "model")
    save_tiny_parts(folder)
    return folder


def settings(folder, tmp_path, **changes):
    mode = tmp_path / "mode.yaml"
    mode.write_text("propose: retrieval")
    return {
        "model.path": str(folder),
        "model.threads": 1,
        "instruction": INSTRUCTIONS[0],
        "command.max_action_age_sec": 30.0,
        "decoding.mode": str(mode),
        "growth.mode": "append",
        "growth.folder": str(tmp_path / "journal"),
        **changes,
    }


class Listener(Bench):
    """A bench that hears diagnostics."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._growth = None
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)

    def _hear(self, message):
        for each in message.status:
            if each.name.endswith("growth"):
                self._growth = each

    def growth(self, key):
        """A value of the newest status about growth; None before the first."""
        if self._growth is None:
            return None
        values = {each.key: each.value for each in self._growth.values}
        return {"level": self._growth.level, "message": self._growth.message, **values}[key]


def report(world, success):
    return world.call(SetBool, "/vla_node/report_episode", SetBool.Request(data=success))


def test_a_node_works_without_its_server_and_shares_when_that_comes(
    world, equipped, tmp_path, monkeypatch
):
    monkeypatch.setattr(link, "_LAST_RETRY_SEC", 1.0)
    server = MilvusServer(tmp_path / "milvus")
    bench = world.add(Listener)
    parameters = settings(equipped, tmp_path, **{"fleet.uri": server.uri})
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == SUCCESS
    assert not report(world, True).success, "nothing was done yet"
    assert node.trigger_activate() == SUCCESS

    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    assert report(world, False).success
    before = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) >= before + 3, "more steps", bench.publish)
    assert report(world, True).success
    world.spin_until(lambda: bench.growth("episodes") == "1", "the journal", bench.publish)
    world.spin_until(lambda: bench.growth("fleet.state") == "away", "the lack", bench.publish)
    assert bench.growth("level") == DiagnosticStatus.WARN and bench.growth("fleet.waiting") == "1"
    assert server.uri in bench.growth("message") and "wait in the journal" in bench.growth(
        "message"
    )
    added = int(bench.growth("entries_added"))
    assert added >= 3, "what was verified is searched"

    server.start()
    world.spin_until(lambda: bench.growth("fleet.sent") == "1", "the server", bench.publish)
    assert bench.growth("level") == DiagnosticStatus.OK
    layout = Layout.of(Manifest.read(equipped / "database"))
    assert len(server.connect(layout).fetch(INSTRUCTIONS[0], 1000)) == added
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS, "the journal is free again, and replayed"
    world.spin_until(lambda: bench.growth("entries_added") == str(added), "the replay")
    node.stop()
    server.kill()


def test_what_a_person_did_is_kept_and_not_what_the_policy_would_have_done(
    world, equipped, tmp_path
):
    bench = world.add(Listener)
    joystick, held = bench.create_publisher(Joy, "/joy", 10), []
    takeover = {"teleop.joy_topic": "joy", "teleop.timeout_sec": 1.0}
    node = world.add(VlaNode, parameters=settings(equipped, tmp_path, **takeover))
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS

    def publish():
        bench.publish()
        message = Joy(axes=[0.0, 1.0] + [0.0] * 6, buttons=[int(i in held) for i in range(8)])
        message.header.stamp = bench.get_clock().now().to_msg()
        joystick.publish(message)

    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", publish)
    world.spin_until(lambda: node._control.person.takeover.joy.ready, "the joystick", publish)
    held.append(4)
    by_person = lambda: [m for m in bench.steps() if m.source == "person"]  # noqa: E731
    world.spin_until(lambda: len(by_person()) >= 20, "the person", publish)
    assert report(world, True).success
    world.spin_until(lambda: bench.growth("episodes") == "1", "the journal", publish)
    (record,) = [data for _, data in node._session.policy.growth._journal.read(0)]
    entries = RecordedEpisode.unpack(record).entries
    forth = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0])  # 0.05 m/s over 20 Hz, in shares of 0.05 m
    persons = np.isclose(entries.actions[:, :6], forth, atol=1e-6).all(axis=1)
    assert 1 <= persons.sum() < len(persons)
    told = {tuple(row) for row in entries.tokens[persons]}
    assert len(told) == 1 and told != {tuple(row) for row in entries.tokens[~persons]}


def test_growing_under_a_calibration_is_refused_by_name(world, equipped, tmp_path, capfd):
    manifest = Manifest.read(equipped / "database")
    made = calibration(
        database_id=manifest.database_id, model_fingerprint=manifest.model_fingerprint
    )
    path = made.save(equipped / "database")
    mode = tmp_path / "calibrated_speed.yaml"
    mode.write_text("base: speed_switch\nskip: {policy: calibrated}\n")
    changes = {"decoding.mode": str(mode)}
    try:
        node = world.add(VlaNode, parameters=settings(equipped, tmp_path, **changes))
        assert node.trigger_configure() == FAILURE
        said = capfd.readouterr().err
        assert "may not grow: the calibration of" in said and "calibrated_speed.yaml" in said
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"growth.folder": ""}, "growth.folder"),
        ({"decoding.mode": "ar"}, "a mode that retrieves"),
        ({"fleet.collection": "drop table"}, "fleet.collection"),
    ],
)
def test_parameters_that_do_not_fit_are_named(world, equipped, tmp_path, capfd, changes, named):
    node = world.add(VlaNode, parameters=settings(equipped, tmp_path, **changes))
    assert node.trigger_configure() == FAILURE
    assert named in capfd.readouterr().err


SIX = tuple(f"joint{number}" for number in range(1, 7))


def six_joint_urdf(name="six"):
    """An arm of six joints, as a UR5e or a PiPER has them."""
    axes = ("0 0 1", "0 1 0", "0 1 0", "1 0 0", "0 1 0", "1 0 0")
    links = "".join(f'<link name="link{number}"/>' for number in range(7))
    joints = "".join(
        f'<joint name="{joint}" type="revolute"><parent link="link{number}"/>'
        f'<child link="link{number + 1}"/><origin xyz="0.1 0 0.15"/><axis xyz="{axis}"/>'
        '<limit lower="-3" upper="3" effort="9" velocity="3"/></joint>'
        for number, (joint, axis) in enumerate(zip(SIX, axes, strict=True))
    )
    return f'<robot name="{name}">{links}{joints}</robot>'


def six_joint_state(stamp):
    message = JointState(name=[*SIX, "finger"], position=[0.1, -0.4, 0.6, 0.2, 0.5, 0.1, 0.02])
    message.header.stamp = stamp
    return message


@pytest.mark.parametrize("mode", ["record", "append"])
def test_an_arm_of_six_joints_keeps_its_successes(world, tmp_path, mode):
    folder = save_tiny_checkpoint(tmp_path / "model")
    save_tiny_parts(folder, robot="six")
    urdf = tmp_path / "six.urdf"
    urdf.write_text(six_joint_urdf())
    own = [(info.name, info.default) for info in parameters_of(VlaNodeParameters) if info.own]
    arm = {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in own},
        "robot.source": "file",
        "robot.urdf": str(urdf),
        "robot.tip_frame": "link6",
        "robot.base_frame": "link0",
        "robot.joint_names": list(SIX),
        "robot.gripper_joints": ["finger"],
        "command.frame_id": "link0",
        "growth.mode": mode,
    }
    bench = world.add(Listener)
    bench.joints_of = six_joint_state
    node = world.add(VlaNode, parameters=settings(folder, tmp_path, **arm))
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    assert report(world, True).success
    world.spin_until(lambda: bench.growth("episodes") == "1", "the journal", bench.publish)
    assert bench.growth("message") == "recording"
    assert (int(bench.growth("entries_added")) > 0) == (mode == "append")
    done = len(bench.steps())
    world.spin_until(lambda: len(bench.steps()) > done, "more steps", bench.publish)
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS, "the journal is read again"
