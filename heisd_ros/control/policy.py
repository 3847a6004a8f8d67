"""Loads what the node runs: a decoder around a model, and the facts that the node needs."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.control import growth
from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import CheckpointError, ModeError
from heisd_ros.files.bounded import expanded
from heisd_ros.fleet.online_growth import OnlineGrowth
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.pose import ACTION_SIZE, END_EFFECTOR
from heisd_ros.kinematics.proprio import STATE_SIZES
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.growing import GrowingStore
from heisd_ros.robot.command_parameters import JOINT_INTERFACES
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving.address import is_address

if TYPE_CHECKING:
    from heisd_ros.serving.link import Link
    from heisd_ros.vla.action_codec import ActionCodec
    from heisd_ros.vla.token_model import TokenModel

DEFAULT_RATE_HZ = 20.0
SMALL_BYTES = 2**28
"""Weights of a model that counts as small; those of the shipped one are 38 MiB."""


@dataclass(frozen=True)
class Policy:
    """A decoder, and the properties of its model that the node needs.

    Attributes:
        decoder: Maps an observation to an action.
        folder: Folder of the checkpoint, or the address of the server that runs the model.
        views: Camera views in the model's order.
        image_size: Side of the images that the model sees, pixels.
        proprio_size: Numbers of proprioception; 0: none.
        rate_hz: Control steps per second at which the model was trained.
        instructions: The instructions it knows; None: any.
        bounds: Bounds of the metric for the decoder's boundary; None: it uses none.
        boundary: The boundary by which it decides; NaN: none; None: that of `bounds`.
        plain: Plain decoding with the same model, as reference for speed; None: `decoder` itself.
        growth: Records successful episodes and connects to the fleet; None: off.
        robot: Name, in its URDF, of the robot whose motions are retrieved; empty: no retrieval.
        mode: Decoding mode of a server; empty: that of the parameters.
        link: Connection to the server that runs the model; None: it runs here.
        action_space: What its actions are before the gripper's number: "end_effector",
            "joint_velocity" or "joint_position".
        space_known: Whether the model or the parameters say so; otherwise it is assumed.
        action_size: Numbers of an action.
        encode: The tokens of an action (7,), for what a person did; None: not known.
        horizon: Actions of an answer, one for each control step; 0: not known before it comes.
        least_actions: Actions that an answer must have.
    """

    decoder: Decoder
    folder: Path
    views: tuple[str, ...]
    image_size: int
    proprio_size: int
    rate_hz: float
    instructions: tuple[str, ...] | None
    bounds: MetricBounds | None = None
    boundary: float | None = None
    plain: Decoder | None = None
    growth: OnlineGrowth | None = None
    robot: str = ""
    mode: str = ""
    link: Link | None = None
    action_space: str = END_EFFECTOR
    space_known: bool = True
    action_size: int = ACTION_SIZE
    encode: Callable[[np.ndarray], tuple[int, ...]] | None = None
    horizon: int = 0
    state: str = "tool_down"
    least_actions: int = 1

    @property
    def name(self) -> str:
        """Name of the model in messages: its folder, or its server."""
        return str(self.folder) if self.link is None else self.link.uri

    def close(self) -> None:
        """Ends the threads and connections beside the decoder."""
        if self.growth is not None:
            self.growth.close()
        if self.link is not None:
            self.link.close()


PolicyLoader = Callable[[VlaNodeParameters], Policy]


def load_policy(parameters: VlaNodeParameters) -> Policy:
    """Loads the checkpoint that the parameters name, and what the decoding mode needs besides.

    If they name a server, it is connected to instead, and PyTorch is not imported.

    Raises:
        HeisdError: The checkpoint, the mode or one of its parts is missing or cannot be used, or
            the server cannot be reached or does not fit.
        ValueError: The device does not exist, or a server does not support a parameter.
    """
    if is_address(parameters.model.path):
        from heisd_ros.control.remote_policy import open_remote

        return open_remote(parameters)
    return make_policy(parameters, load_model(parameters))


def model_folder(parameters: VlaNodeParameters) -> Path:
    """Returns the checkpoint's folder: the one that the parameters name, or the shipped one.

    Raises:
        ValueError: They name a server.
    """
    if is_address(parameters.model.path):
        raise ValueError(
            f"parameter 'model.path' is {parameters.model.path!r}; accepted here: a folder"
        )
    return expanded(parameters.model.path) if parameters.model.path else shipped_model()


def load_model(parameters: VlaNodeParameters) -> TokenModel:
    """Loads the checkpoint that the parameters name.

    Raises:
        CheckpointError, UnknownStatisticsError: It is missing or cannot be used.
        ValueError: The device does not exist.
    """
    import torch

    from heisd_ros.families.checkpoint import load_checkpoint
    from heisd_ros.sim.protocol import load_protocol

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(parameters.model.threads or max(1, cores - 1))
    dtype = getattr(torch, parameters.model.dtype)
    device = parameters.model.device
    check_device(device)
    options = {}
    if parameters.model.protocol:
        options["convention"] = load_protocol(parameters.model.protocol).data
    key = parameters.model.unnorm_key or None
    model = load_checkpoint(model_folder(parameters), device, dtype, key, **options)
    torch.set_num_threads(parameters.model.threads or threads_for(model.weight_bytes, cores))
    return model


def threads_for(weights: int, cores: int) -> int:
    """Returns the default number of threads: 1 for a small model, else one less than cores.

    A thread that waits for a core holds up all others, which spin, at the end of every matrix
    product. A second thread makes a small model 10 to 20 % faster on an idle machine, and four
    times slower beside one busy process (`bench/busy_neighbour.py`). A large one is bound by
    memory bandwidth, which one thread cannot saturate.

    Args:
        weights: Size of the model's weights, bytes.
        cores: Number of cores that this process may use.
    """
    return 1 if weights < SMALL_BYTES else max(1, cores - 1)


def make_policy(parameters: VlaNodeParameters, vla: TokenModel) -> Policy:
    """Makes the policy of the configured decoding mode, with a model that several may share.

    Raises:
        HeisdError: The mode or one of its parts is missing or cannot be used, or the node cannot
            execute the model's answers.
        ValueError: The mode does not retrieve, which growth and fleet need.
    """
    from heisd_ros.decoding.assembly import Assembly
    from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
    from heisd_ros.decoding.modes import load_mode

    spec, folder = vla.spec, model_folder(parameters)
    said = getattr(vla.codec, "action_space", "")
    space = action_space(parameters, str(folder), said)
    _check_actions(folder, vla.codec, space)
    mode, keeps = load_mode(parameters.decoding.mode), growth.wanted(parameters)
    if keeps and not mode.retrieves:
        raise ValueError(
            f"parameter 'decoding.mode' is {parameters.decoding.mode!r}; accepted with "
            "'growth.mode' or 'fleet.uri': a mode that retrieves"
        )
    if keeps and vla.codec.horizon > 1:
        raise ValueError(
            f"{folder} answers with {vla.codec.horizon} actions; accepted with 'growth.mode' or "
            "'fleet.uri': a model of one action"
        )
    assembly = Assembly(
        folder,
        parameters.decoding.database,
        parameters.decoding.drafter,
        bounds=parameters.metric.bounds,
    )
    opened: list[OnlineGrowth] = []
    with ExitStack() as failing:

        def extend(database: Database, calibration: Calibration | None) -> GrowingStore:
            kept = growth.open_growth(parameters, database, calibration, mode.retrieval.k)
            failing.callback(kept.close)
            opened.append(kept)
            return kept.store

        try:
            decoder = assembly.decoder(
                vla,
                mode,
                seed=parameters.decoding.seed,
                extend=extend if keeps else None,
                keep_frames=parameters.growth.mode != "off",
            )
        except ModeError as error:
            name = parameters.decoding.mode
            raise ModeError(f"parameter 'decoding.mode' is {name!r}: {error}") from error
        failing.pop_all()
    return Policy(
        decoder=decoder,
        folder=folder,
        views=spec.views,
        image_size=spec.image_size,
        proprio_size=spec.proprio_size,
        rate_hz=spec.control_rate_hz or DEFAULT_RATE_HZ,
        instructions=spec.instructions,
        bounds=assembly.bounds(mode),
        boundary=math.nan if (boundary := assembly.boundary(mode)) is None else boundary,
        plain=AutoregressiveDecoder(vla),
        growth=opened[0] if opened else None,
        robot=assembly.database.manifest.robot if mode.retrieves else "",
        action_space=space,
        space_known=bool(said or parameters.model.action_space),
        action_size=vla.codec.dimensions,
        encode=lambda action: vla.codec.encode(action[None]),
        horizon=vla.codec.horizon,
        least_actions=least_actions(parameters),
    )


def action_space(parameters: VlaNodeParameters, name: str, said: str) -> str:
    """Returns what a model's actions are: what it says, or what the parameters say.

    Args:
        parameters: The validated settings.
        name: Folder of the model, or address of its server.
        said: What the model or its server says; empty: nothing.

    Raises:
        ValueError: They contradict each other, neither says it where the joints are commanded, or
            a person could not take over.
    """
    asked = parameters.model.action_space
    if asked and said and asked != said:
        raise ValueError(
            f"parameter 'model.action_space' is {asked!r}; accepted: {said!r} or '', as {name} "
            "says itself what its actions are"
        )
    if not (asked or said) and parameters.command.of_joints:
        accepted = ", ".join(map(repr, (END_EFFECTOR, *JOINT_INTERFACES)))
        raise ValueError(
            f"parameter 'model.action_space' is ''; accepted: one of {accepted}, as {name} does "
            "not say what its actions are, and 'command.interface' is "
            f"{parameters.command.interface!r}"
        )
    space = asked or said or END_EFFECTOR
    if space != END_EFFECTOR and parameters.teleop.enabled:
        raise ValueError(
            f"actions are of {space!r}, and 'teleop' is on; accepted with it: {END_EFFECTOR!r}, as "
            "a person commands the end effector"
        )
    return space


def state_sizes(parameters: VlaNodeParameters) -> dict[str, int]:
    """Returns the numbers of each state that a model may take, by the names of `model.state`."""
    return {**STATE_SIZES, "joints": len(parameters.robot.joint_names) + 1}


def least_actions(parameters: VlaNodeParameters) -> int:
    """Returns how many actions an answer must have for what the parameters ask for."""
    return max(1, parameters.chunk.execute, parameters.chunk.blend)


def _check_actions(folder: Path, codec: ActionCodec, space: str) -> None:
    """Refuses a model whose actions are not those of an arm and its gripper."""
    if space == END_EFFECTOR and codec.dimensions != ACTION_SIZE:
        raise CheckpointError(
            f"{folder}: an action is {codec.dimensions} numbers; accepted: {ACTION_SIZE}, a step "
            "of the end effector and the gripper (or a 'model.action_space' of the joints)"
        )


def check_device(device: str) -> None:
    """Refuses a device that does not exist.

    Raises:
        ValueError: It does not exist; the message names those that do.
    """
    import torch

    accepted = ["cpu"]
    if torch.cuda.is_available():
        accepted += ["cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if device not in accepted:
        raise ValueError(f"parameter 'model.device' is {device!r}; accepted here: {accepted}")


def free_memory() -> None:
    """Frees the memory of policies that are no longer referenced, the GPU's too."""
    gc.collect()
    torch = sys.modules.get("torch")  # without it there is no such memory
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
