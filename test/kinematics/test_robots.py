"""The Panda's description, and its agreement with the Panda that LIBERO simulates."""

from __future__ import annotations

import numpy as np
import pytest

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics import robots
from heisd_ros.kinematics.arm import ArmKinematics


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(robots, "share_folders", lambda: iter([tmp_path]))
    with pytest.raises(UrdfError, match="install the Python package example-robot-data"):
        robots.panda_urdf()


def test_ros_prefixes_are_searched(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert tmp_path / "share" in list(robots.share_folders())


def test_agrees_with_robosuite():
    """Joints and base agree; the grip site sits 6.9 mm above the tip, a quarter turn about z."""
    mujoco = pytest.importorskip("mujoco")
    pytest.importorskip("robosuite")
    from robosuite.models.grippers import gripper_factory
    from robosuite.models.robots import Panda

    panda = Panda(idn=0)
    panda.add_gripper(gripper_factory("PandaGripper", idn=0))
    model = panda.get_model(mode="mujoco")
    data = mujoco.MjData(model)
    arm = ArmKinematics(robots.panda_urdf(), robots.PANDA_TIP, robots.PANDA_JOINTS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, dq = rng.uniform(-2.0, 2.0, 7), rng.normal(size=7)
        for i in range(7):
            data.joint(f"robot0_joint{i + 1}").qpos = q[i]
            data.joint(f"robot0_joint{i + 1}").qvel = dq[i]
        mujoco.mj_forward(model, data)
        tip = arm.forward(q)

        site = data.site("gripper0_grip_site")
        offset = tip.rotation.T @ (site.xpos - data.body("robot0_base").xpos - tip.position)
        np.testing.assert_allclose(offset, [0.0, 0.0, -0.0069], atol=1e-9)
        turn = tip.rotation.T @ site.xmat.reshape(3, 3)
        np.testing.assert_allclose(turn, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-3)
        hand = data.body("robot0_right_hand").xmat.reshape(3, 3)
        np.testing.assert_allclose(hand, tip.rotation, atol=1e-3)

        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        point = data.body("robot0_base").xpos + tip.position
        mujoco.mj_jac(model, data, linear, angular, point, data.body("robot0_right_hand").id)
        expected = np.concatenate([linear @ data.qvel, angular @ data.qvel])
        np.testing.assert_allclose(arm.twist(q, dq), expected, atol=1e-9)
