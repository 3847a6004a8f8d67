"""What the node runs: a decoder around a loaded model, and what it needs to know of it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heisd_ros.control import online_growth
from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import expanded
from heisd_ros.fleet.growth import OnlineGrowth
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.growing import GrowingStore
from heisd_ros.robot.parameters import VlaNodeParameters

if TYPE_CHECKING:
    from heisd_ros.vla.action_codec import ActionCodec
    from heisd_ros.vla.token_model import TokenModel

DEFAULT_RATE_HZ = 20.0
ACTION_SIZE = 7
"""Numbers of an action: translation, rotation, gripper."""
SMALL_BYTES = 2**28
"""Weights of a model that counts as small; those of the shipped one are 38 MiB."""


@dataclass(frozen=True)
class Policy:
    """A decoder and the facts about its model that the node wires by.

    Attributes:
        decoder: Maps an observation to an action.
        folder: Where the checkpoint lies.
        views: Camera views in the model's order.
        image_size: Side of the images that the model sees, pixels.
        proprio_size: Numbers of proprioception; 0: none.
        rate_hz: Control steps a second that the model was trained at.
        instructions: The instructions it knows; None: any.
        bounds: The metric that the decoder's boundary is made for; None: it looks at none.
        plain: Plain decoding with the same model, to measure speed by; None: `decoder` itself.
        growth: Keeps successful episodes, and talks to the fleet; None: nothing is kept.
        robot: Whose motions it retrieves, by the name in its URDF; empty: it retrieves none.
    """

    decoder: Decoder
    folder: Path
    views: tuple[str, ...]
    image_size: int
    proprio_size: int
    rate_hz: float
    instructions: tuple[str, ...] | None
    bounds: MetricBounds | None = None
    plain: Decoder | None = None
    growth: OnlineGrowth | None = None
    robot: str = ""

    def close(self) -> None:
        """Ends what runs beside the decoder."""
        if self.growth is not None:
            self.growth.close()


PolicyLoader = Callable[[VlaNodeParameters], Policy]


def load_policy(parameters: VlaNodeParameters) -> Policy:
    """Loads the checkpoint that the parameters name, and what the decoding mode needs beside it.

    Raises:
        HeisdError: The checkpoint, the mode or one of its parts is missing or cannot be used.
        ValueError: The device is not there.
    """
    return make_policy(parameters, load_model(parameters))


def model_folder(parameters: VlaNodeParameters) -> Path:
    """The checkpoint's folder: the one that the parameters name, or the shipped one."""
    return expanded(parameters.model.path) if parameters.model.path else shipped_model()


def load_model(parameters: VlaNodeParameters) -> TokenModel:
    """Loads the checkpoint that the parameters name.

    Raises:
        CheckpointError, UnknownStatisticsError: It is missing or cannot be used.
        ValueError: The device is not there.
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
    """Threads of a model that nobody chose: one for a small one, else one less than cores.

    A thread that has to wait for a core holds up all others, which spin, at the end of every
    product. A small model gains a tenth to a fifth by the second one on an idle machine, and takes
    four times as long beside one busy process (`bench/busy_neighbour.py`). A large one is bound by
    memory, which one thread cannot use up.

    Args:
        weights: Size of the model's weights, bytes.
        cores: That this process may use.
    """
    return 1 if weights < SMALL_BYTES else max(1, cores - 1)


def make_policy(parameters: VlaNodeParameters, vla: TokenModel) -> Policy:
    """The decoding mode that the parameters name, with a model that several may share.

    Raises:
        HeisdError: The mode or one of its parts is missing or cannot be used, or the model's
            answers are none that the node executes.
        ValueError: The mode does not fit what is to be kept.
    """
    from heisd_ros.decoding.assembly import Assembly
    from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
    from heisd_ros.decoding.modes import load_mode

    spec, folder = vla.spec, model_folder(parameters)
    _check_actions(folder, vla.codec)
    mode, keeps = load_mode(parameters.decoding.mode), online_growth.wanted(parameters)
    if keeps and not mode.retrieves:
        raise ValueError(
            f"parameter 'decoding.mode' is {parameters.decoding.mode!r}; accepted with "
            "'growth.mode' or 'fleet.uri': a mode that retrieves"
        )
    assembly = Assembly(folder, parameters.decoding.database, parameters.decoding.drafter)
    opened: list[OnlineGrowth] = []
    with ExitStack() as failing:

        def extend(database: Database, calibration: Calibration | None) -> GrowingStore:
            kept = online_growth.open_growth(parameters, database, calibration, mode.retrieval.k)
            failing.callback(kept.close)
            opened.append(kept)
            return kept.store

        decoder = assembly.decoder(
            vla,
            mode,
            seed=parameters.decoding.seed,
            extend=extend if keeps else None,
            keep_frames=parameters.growth.mode != "off",
        )
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
        plain=AutoregressiveDecoder(vla),
        growth=opened[0] if opened else None,
        robot=assembly.database.manifest.robot if mode.retrieves else "",
    )


def _check_actions(folder: Path, codec: ActionCodec) -> None:
    """Refuses a model whose answers are not one action for the arm's end effector and gripper."""
    if (codec.horizon, codec.dimensions) != (1, ACTION_SIZE):
        raise CheckpointError(
            f"{folder}: an answer is {codec.horizon} control steps of {codec.dimensions} numbers; "
            f"the node executes answers of 1 step of {ACTION_SIZE}"
        )


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        ValueError: naming those that are.
    """
    import torch

    accepted = ["cpu"]
    if torch.cuda.is_available():
        accepted += ["cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if device not in accepted:
        raise ValueError(f"parameter 'model.device' is {device!r}; accepted here: {accepted}")


def free_memory() -> None:
    """Gives the memory of a policy that nobody holds any more back, the GPU's too."""
    gc.collect()
    torch = sys.modules.get("torch")  # who has not imported it holds none
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
