"""A node that keeps its successes and shares them, over real DDS and with a real server."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import SetBool
from support.milvus import MilvusServer
from support.ros import Bench
from support.skipping import calibration
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.fleet import link
from heisd_ros.fleet.layout import Layout
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.retrieval.manifest import Manifest

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
    assert server.connect(layout).count(INSTRUCTIONS[0]) == added
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS, "the journal is free again, and replayed"
    world.spin_until(lambda: bench.growth("entries_added") == str(added), "the replay")
    node.stop()
    server.kill()


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
