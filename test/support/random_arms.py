"""Random serial arms: a URDF, and a second way to their limits and tips that reads none."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


class RandomArm:
    """An arm of `count` joints, of which some are continuous and some prismatic.

    Attributes:
        names: of the joints, base to tip.
        urdf: text of its description; base `l0`, tip `tip`.
        lower: (n,), rad or m; infinite for a continuous joint.
        upper: likewise.
        speeds: (n,), rad/s or m/s.
    """

    def __init__(self, rng, count=None):
        count = count or int(rng.integers(2, 8))
        self.names = [f"j{i}" for i in range(count)]
        self._kinds = rng.choice(
            ["revolute", "continuous", "prismatic"], count, p=[0.7, 0.15, 0.15]
        )
        self._origins = rng.uniform(-0.3, 0.3, (count + 1, 3))
        self._turns = rng.uniform(-3.0, 3.0, (count + 1, 3))
        axes = rng.normal(size=(count, 3))
        self._axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        half = np.where(self._kinds == "prismatic", 0.3, rng.uniform(0.5, 3.0, count))
        middle = rng.uniform(-0.5, 0.5, count) * half
        endless = self._kinds == "continuous"
        self.lower = np.where(endless, -np.inf, middle - half)
        self.upper = np.where(endless, np.inf, middle + half)
        self.speeds = rng.uniform(0.3, 3.0, count)
        self.urdf = self._text()

    def anywhere(self, rng):
        """(n,), positions within the limits."""
        return rng.uniform(np.clip(self.lower, -3.0, 3.0), np.clip(self.upper, -3.0, 3.0))

    def middle(self):
        """(n,), the middle of each range."""
        return (np.clip(self.lower, -3.0, 3.0) + np.clip(self.upper, -3.0, 3.0)) / 2

    def tip(self, q):
        """(3,), m, and its rotation, in the base."""
        place, turn = np.zeros(3), Rotation.identity()
        for i, kind in enumerate(self._kinds):
            place = place + turn.apply(self._origins[i])
            turn = turn * Rotation.from_euler("xyz", self._turns[i])
            if kind == "prismatic":
                place = place + turn.apply(self._axes[i] * q[i])
            else:
                turn = turn * Rotation.from_rotvec(self._axes[i] * q[i])
        turned = turn * Rotation.from_euler("xyz", self._turns[-1])
        return place + turn.apply(self._origins[-1]), turned

    def _text(self):
        links = [*(f"l{i}" for i in range(len(self.names) + 1)), "tip"]
        joints = []
        for i, kind in enumerate([*self._kinds, "fixed"]):
            inner = self._origin(i)
            if kind != "fixed":
                inner += f'<axis xyz="{_words(self._axes[i])}"/>'
                ends = (
                    ""
                    if kind == "continuous"
                    else (f'lower="{float(self.lower[i])!r}" upper="{float(self.upper[i])!r}" ')
                )
                inner += f'<limit {ends}effort="1" velocity="{float(self.speeds[i])!r}"/>'
            name = self.names[i] if kind != "fixed" else "weld"
            joints.append(
                f'<joint name="{name}" type="{kind}"><parent link="{links[i]}"/>'
                f'<child link="{links[i + 1]}"/>{inner}</joint>'
            )
        named = "".join(f'<link name="{name}"/>' for name in links)
        return f'<robot name="random">{named}{"".join(joints)}</robot>'

    def _origin(self, i):
        return f'<origin xyz="{_words(self._origins[i])}" rpy="{_words(self._turns[i])}"/>'


def _words(numbers):
    return " ".join(repr(float(number)) for number in numbers)
