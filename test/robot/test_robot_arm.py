"""What the limits cannot look at, as the description of the arm does not say it, is told."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from support.collisions import capsule_urdf
from support.robots import robot_files, urdf_of
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.control.core_wait import CoreWait
from heisd_ros.errors import JointStateError, UrdfError
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes.diagnostics import control_status
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader, touching, unguarded
from heisd_ros.robot.safety_limits import joint_limits, safety_limits

ON = {"collision.slow_m": 0.08, "collision.stop_m": 0.03}


def parameters(changes=()):
    return with_values(VlaNodeParameters(), dict(changes))


def arm(settings, urdf):
    return make_reader(settings, urdf).kinematics


def test_what_is_off_is_not_missed_and_costs_nothing():
    settings = parameters()
    kinematics = arm(settings, panda_urdf().replace('velocity="2.61"', 'velocity="0"'))
    assert kinematics.geometry is None and unguarded(settings, kinematics) == []
    assert unguarded(settings, None) == touching(settings, None) == []


def test_a_description_with_everything_has_no_gaps():
    settings = parameters({**ON, "joints.velocity_scale": 0.5, "collision.table_z": 0.0})
    kinematics = arm(settings, panda_urdf())
    assert unguarded(settings, kinematics) == [] and kinematics.geometry is not None
    assert "panda_link5 and panda_link7" in touching(settings, kinematics)
    guard = safety_limits(settings).joints
    assert (guard.velocity_scale, guard.collision.table_z) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("changes", "urdf", "gap"),
    [
        ({"joints.velocity_scale": 0.5}, ("2.61", "0"), r"no velocity limit for \['panda_joint5'"),
        (ON, ("<collision>", "<nothing>"), "not looked at: any collision, as the robot desc"),
        (ON, ("example-robot-data", "nowhere"), "'panda_link0': mesh 'package://nowhere/"),
        ({**ON, "collision.table_z": 5.0}, ("", ""), "the table at 5 m, which no link comes"),
    ],
)
def test_a_gap_is_a_warning_and_the_arm_is_driven_all_the_same(changes, urdf, gap):
    settings = parameters(changes)
    text = panda_urdf().replace(*urdf) if urdf[0] else panda_urdf()
    text = text.replace("</collision>", "</nothing>") if urdf[1] == "<nothing>" else text
    kinematics = arm(settings, text)
    assert unguarded(settings, kinematics)[0].startswith(("joints.velocity_scale", "collision."))
    policy = SimpleNamespace(decoder=SimpleNamespace(warning=lambda: ""))
    session = SimpleNamespace(
        parameters=settings,
        kinematics=kinematics,
        policy=policy,
        buffer=SimpleNamespace(counts={}),
        motion=SimpleNamespace(latest=None, stream_hz=0.0),
        mapper=SimpleNamespace(rate_hz=20.0),
        refused_robot="",
        cores=CoreWait(lambda: {}),
    )
    status = control_status(session, None, estop=False, now=0)
    assert status.level == DiagnosticStatus.WARN
    assert re.search(gap, status.message)


def test_an_srdf_is_read_from_its_file(tmp_path):
    path = tmp_path / "arm.srdf"
    pair = '<disable_collisions link1="panda_link1" link2="panda_link5"/>'
    path.write_text(f"<robot>{pair}</robot>", encoding="utf-8")
    free, given = (
        arm(parameters({**ON, **more}), capsule_urdf())
        for more in ({}, {"collision.srdf": str(path)})
    )
    assert given.geometry.pairs < free.geometry.pairs
    with pytest.raises(UrdfError, match=r"parameter 'collision\.srdf': .*is missing"):
        arm(parameters({**ON, "collision.srdf": str(tmp_path / "none")}), panda_urdf())


def test_heisd_check_tells_of_gaps(tmp_path):
    file, urdf = tmp_path / "arm.yaml", tmp_path / "arm.urdf"
    text = robot_files()["ur5e"].read_text(encoding="utf-8")
    file.write_text(text.replace("# collision.s", "collision.s"), encoding="utf-8")
    urdf.write_text(urdf_of("ur5e"), encoding="utf-8")
    good = CliRunner().invoke(app, ["check", str(file), "--urdf", str(urdf)])
    assert good.exit_code == 0 and "may touch each other: wrist_1_link and wrist_3" in good.output
    urdf.write_text(urdf_of("ur5e").replace(".stl", ".none"), encoding="utf-8")
    gap = CliRunner().invoke(app, ["check", str(file), "--urdf", str(urdf)])
    assert gap.exit_code == 0 and "collision.slow_m: not looked at" in gap.output


JOINTS = {"command.interface": "joint_velocity"}


def test_a_joint_that_is_commanded_has_a_limit_of_its_speed():
    urdf = panda_urdf().replace('velocity="2.61', 'velocity="0')
    with pytest.raises(JointStateError, match=r"no velocity limit for \['panda_joint5', 'panda_j"):
        make_reader(parameters(JOINTS), urdf)
    slow = parameters({**JOINTS, "command.rate_hz": 50.0, "joints.max_acceleration": 0.2})
    with pytest.raises(JointStateError, match=r"'joints\.max_acceleration' is 0\.2; accepted: at"):
        make_reader(slow, panda_urdf())


def test_limits_of_joints_always_count_where_joints_are_commanded():
    guard = joint_limits(parameters(JOINTS)).guard
    assert guard.slow_rad > 0.0 and guard.velocity_scale == 1.0
    set_ones = {"joints.slow_rad": 0.2, "joints.stop_rad": 0.05, "joints.velocity_scale": 0.5}
    guard = joint_limits(parameters({**JOINTS, **set_ones, **ON})).guard
    assert (guard.slow_rad, guard.stop_rad, guard.velocity_scale) == (0.2, 0.05, 0.5)
    assert guard.collision.slow_m == 0.08 and guard.singularity_slow == 0.0
