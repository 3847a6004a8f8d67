"""The description of its model that a server sends on connection, and defaults without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from heisd_ros.errors import RemoteModelError
from heisd_ros.files.typed import typed
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.pose import ACTION_SIZE, END_EFFECTOR, JOINT_SPACES
from heisd_ros.kinematics.proprio import PROPRIO_SIZE

OWN = "heisd"
"""Key of the fields beyond openpi's protocol, in metadata, requests and replies."""
MOST_ACTIONS = 1000
"""Actions of the longest answer."""
MOST_NUMBERS = 64
"""Largest size of an action and of proprioception."""
_KEYS = ("observation/image", "observation/wrist_image")
_OPTIONS = ("views", "state", "rate_hz", "image_size")


def view_keys(views: tuple[str, ...]) -> dict[str, str]:
    """Returns the keys of the views' images: openpi's for LIBERO, then one named after the view."""
    names = [*_KEYS, *(f"observation/{view}" for view in views[len(_KEYS) :])]
    return dict(zip(views, names, strict=False))


@dataclass(frozen=True)
class Layout:
    """The properties of a served model that a client needs.

    Attributes:
        views: camera views in the model's order, each with its key in an observation.
        image_size: side of the images that the model sees, pixels; any size may be sent.
        state: key of proprioception; of two keys, ``KEY,KEY``, the second gets the last number, the
            gripper's (openpi's DROID).
        proprio_size: size of proprioception; 0: the model takes none.
        rate_hz: control rate at which the model was trained, Hz.
        horizon: actions in an answer, one for each control step; of a server of openpi's, which
            does not say it, as many as come are taken.
        dimensions: numbers of an action, the last one the gripper's.
        action_space: what the others are: "end_effector", "joint_velocity" or "joint_position";
            empty: neither the model nor the server's options say it, and there are 7 numbers.
        instructions: those that the model knows; None: any.
        model: identity of the model, such as its fingerprint.
        mode: how the server decodes.
        robot: robot whose motions it retrieves; empty: it retrieves none.
        bounds: bounds of the metric that it needs with each observation; None: none.
        own: whether it is a server of this package, with fields beyond openpi's protocol.
    """

    views: dict[str, str] = field(default_factory=lambda: view_keys(("agentview", "wrist")))
    image_size: int = 224
    state: str = "observation/state"
    proprio_size: int = PROPRIO_SIZE
    rate_hz: float = 20.0
    horizon: int = 1
    dimensions: int = ACTION_SIZE
    action_space: str = END_EFFECTOR
    instructions: tuple[str, ...] | None = None
    model: str = ""
    mode: str = ""
    robot: str = ""
    bounds: MetricBounds | None = None
    own: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        """Validates."""
        spaces = ("", END_EFFECTOR, *JOINT_SPACES)
        of_joints = self.action_space in JOINT_SPACES
        sizes = range(2, MOST_NUMBERS + 1) if of_joints else [ACTION_SIZE]
        words = f"{ACTION_SIZE}, an end-effector displacement and the gripper"
        if of_joints:
            words = f"2 to {MOST_NUMBERS}, the joints and the gripper"
        accepted = {
            "views": (1 <= len(self.views) <= 16, "1 to 16"),
            "image_size": (1 <= self.image_size <= 4096, "1 to 4096"),
            "proprio_size": (0 <= self.proprio_size <= MOST_NUMBERS, f"0 to {MOST_NUMBERS}"),
            "rate_hz": (0.0 < self.rate_hz <= 1000.0, "above 0, up to 1000"),
            "horizon": (1 <= self.horizon <= MOST_ACTIONS, f"1 to {MOST_ACTIONS}"),
            "action_space": (self.action_space in spaces, ", ".join(map(repr, spaces))),
            "dimensions": (self.dimensions in sizes, words),
        }
        for name, (good, words) in accepted.items():
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: {words}")

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata that the server sends first."""
        said = asdict(self)
        del said["own"]
        return {OWN: said}

    @classmethod
    def read(
        cls,
        metadata: Mapping[str, Any],
        options: Mapping[str, str],
        assumed: Layout | None = None,
    ) -> Layout:
        """Reads the metadata of a server.

        Args:
            metadata: the first message; without `OWN` it is a server of openpi's.
            options: of the address, for such a server: ``views`` (``view:key,view:key``), ``state``
                (keys of proprioception; empty: none), ``rate_hz`` and ``image_size``.
            assumed: what such a server serves where the options do not say; None: the defaults.

        Raises:
            RemoteModelError: the metadata or the options cannot be used.
        """
        said = metadata.get(OWN)
        try:
            if said is not None:
                if options:
                    raise ValueError(f"{', '.join(options)}: the server gives this itself")
                return replace(typed(cls, _known(said)), own=True)
            return replace(assumed or cls(), **_of_options(options))
        except (ValueError, TypeError) as error:
            raise RemoteModelError(f"the model cannot be used: {error}") from error


def _known(said: Any) -> dict[str, Any]:
    """Returns the known fields: a newer server may send more."""
    if not isinstance(said, dict):
        raise ValueError(f"metadata {OWN!r} is no mapping")
    known = {entry.name for entry in fields(Layout)} - {"own"}
    return {key: value for key, value in said.items() if key in known}


def _of_options(options: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in options.items():
        if name not in _OPTIONS:
            raise ValueError(f"unknown option {name!r}; accepted: {', '.join(_OPTIONS)}")
        try:
            if name == "views":
                pairs = [pair.split(":") for pair in text.split(",")]
                given["views"] = {view: key for view, key in pairs}
            elif name == "state":
                if text.count(",") > 1:
                    raise ValueError("accepted: one key, or two with a comma between them")
                given |= {"state": text} if text else {"proprio_size": 0}
            else:
                given[name] = float(text) if name == "rate_hz" else int(text)
        except ValueError as error:
            raise ValueError(f"option {name!r} is {text!r}: {error}") from error
    return given
