"""The files of a ``pi0_fast`` policy of LeRobot, read as one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.checks import require, require_fixed, require_whole
from heisd_ros.files.typed import typed
from heisd_ros.vla.action_codec import MOST_ACTIONS, MOST_NUMBERS, MOST_TOKENS
from heisd_ros.vla.language_config import MOST_LAYERS, MOST_WIDTH

MODEL_TYPE = "pi0_fast"
CONFIG, PREPROCESSOR, POSTPROCESSOR = (
    "config.json", "policy_preprocessor.json", "policy_postprocessor.json"
)  # fmt: skip
SIZES = "tiny_sizes.json"
_IMAGES, _STATE, _ACTION = "observation.images.", "observation.state", "action"
_MOST = {
    "state_size": MOST_NUMBERS,
    "action_size": MOST_NUMBERS,
    "chunk_size": MOST_ACTIONS,
    "resolution": 4096,
    "prompt_length": MOST_TOKENS,
    "max_tokens": MOST_TOKENS,
}

# Settings that change what is asked or answered, and what is accepted of each.
_FIXED: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 0.0, None),
    "use_relative_actions": (False, None),
    "paligemma_variant": ("gemma_2b", "gemma_300m"),
}


def _check_sizes(sizes: Any, what: str, layers: str) -> None:
    """Raises ValueError if no network can be built with a size."""
    for name, value in vars(sizes).items():
        most = MOST_LAYERS if name == layers else MOST_WIDTH
        require_whole(f"{what} {name}", value, most=most)


@dataclass(frozen=True)
class TextSizes:
    """The Gemma decoder.

    Attributes:
        width: of the residual stream.
        depth: layers.
        mlp_dim: width of the gated MLP.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        head_dim: channels of a head.
    """

    width: int = 2048
    depth: int = 18
    mlp_dim: int = 16384
    num_heads: int = 8
    num_kv_heads: int = 1
    head_dim: int = 256

    def __post_init__(self) -> None:
        _check_sizes(self, "gemma", "depth")
        require(
            self.num_heads % self.num_kv_heads == 0 and self.head_dim % 2 == 0,
            f"gemma num_heads {self.num_heads}, num_kv_heads {self.num_kv_heads}, head_dim "
            f"{self.head_dim}; accepted: a multiple, and an even number",
        )


@dataclass(frozen=True)
class VisionSizes:
    """The SigLIP tower; `image_size` comes from the policy."""

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    patch_size: int = 14
    image_size: int = 224

    def __post_init__(self) -> None:
        _check_sizes(self, "siglip", "num_hidden_layers")
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"siglip hidden_size {self.hidden_size} must divide into {self.num_attention_heads} "
            "heads",
        )


_VARIANTS = {
    "gemma_2b": TextSizes(),
    "gemma_300m": TextSizes(width=1024, mlp_dim=4096),
}
"""LeRobot writes the sizes of its variants into its source, not into ``config.json``."""


@dataclass(frozen=True)
class Pi0FastConfig:
    """The whole policy.

    Attributes:
        cameras: features of the cameras, in the order of ``config.json``, without those that are
            always missing.
        state_size: numbers in the state.
        action_size: numbers in an action.
        chunk_size: actions of an answer.
        resolution: side of the square picture, pixels.
        prompt_length: ids of the prompt, at most; what is beyond is cut.
        max_tokens: tokens of an answer, at most.
        skipped: ids at the end of the vocabulary that are no FAST ids.
        modes: normalisation by kind of feature (``STATE``, ``ACTION``).
        text: sizes of the decoder.
        vision: sizes of the tower.
        text_tokenizer: name of the text tokenizer's folder, or of a repository.
        action_tokenizer: name of the FAST tokenizer's folder, or of a repository.
    """

    cameras: tuple[str, ...]
    state_size: int
    action_size: int
    chunk_size: int
    resolution: int
    prompt_length: int = 200
    max_tokens: int = 256
    skipped: int = 128
    modes: Mapping[str, str] = field(default_factory=dict)
    text: TextSizes = TextSizes()
    vision: VisionSizes = VisionSizes()
    text_tokenizer: str = ""
    action_tokenizer: str = ""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            require_whole(name, getattr(self, name), most=most)
        require_whole("fast_skip_tokens", self.skipped, least=0)
        if not self.cameras:
            raise ValueError("input_features names no camera that is not an empty one")
        if self.resolution % self.vision.patch_size:
            raise ValueError(
                f"image_resolution {self.resolution} is no multiple of {self.vision.patch_size}"
            )

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras without what all begin with."""
        return tuple(name.removeprefix(_IMAGES).rpartition(".")[2] for name in self.cameras)

    @classmethod
    def read(cls, folder: Path) -> Pi0FastConfig:
        """Reads the folder of a policy.

        Raises:
            CheckpointError: naming the file, the key, its value and what is accepted.
        """
        path = folder / CONFIG
        sizes = read_object(folder / SIZES, CheckpointError) if (folder / SIZES).exists() else {}
        try:
            return cls.from_dict(read_object(path, CheckpointError), sizes)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], sizes: Mapping[str, Any]) -> Pi0FastConfig:
        """Reads a parsed ``config.json``.

        Args:
            raw: the file's content.
            sizes: other sizes than the variant's, ``{"gemma": {...}, "siglip": {...}}``.

        Raises:
            ValueError: naming what is unknown, missing or out of range.
        """
        require_fixed(raw, _FIXED)
        inputs = typed(dict[str, dict[str, Any]], raw.get("input_features"), "input_features")
        outputs = typed(dict[str, dict[str, Any]], raw.get("output_features"), "output_features")
        cameras = [name for name, feature in inputs.items() if feature.get("type") == "VISUAL"]
        side = typed(tuple[int, int], raw.get("image_resolution", [224, 224]), "image_resolution")
        if side[0] != side[1]:
            raise ValueError(f"image_resolution is {side}; accepted: a square")
        chunk = typed(int, raw.get("chunk_size"), "chunk_size")
        steps = typed(int, raw.get("n_action_steps", chunk), "n_action_steps")
        if steps != chunk:
            raise ValueError(
                f"n_action_steps is {steps}; accepted: {chunk}, the chunk_size. LeRobot would "
                "transform back a part of the coefficients, which is another motion; how many "
                "actions are executed is for the node to say"
            )
        variant = _VARIANTS[raw.get("paligemma_variant", "gemma_2b")]
        vision = {**typed(dict[str, Any], sizes.get("siglip", {}), "siglip"), "image_size": side[0]}
        whole = {
            ours: typed(int, raw[key], key)
            for ours, key in (
                ("prompt_length", "tokenizer_max_length"),
                ("max_tokens", "max_decoding_steps"),
                ("skipped", "fast_skip_tokens"),
            )
            if key in raw
        }
        texts = {
            ours: typed(str, raw.get(key, ""), key)
            for ours, key in (
                ("text_tokenizer", "text_tokenizer_name"),
                ("action_tokenizer", "action_tokenizer_name"),
            )
        }
        modes = typed(dict[str, str], raw.get("normalization_mapping", {}), "normalization_mapping")
        return cls(
            cameras=tuple(name for name in cameras if not _is_empty(name)),
            state_size=_size(inputs, _STATE, "input_features"),
            action_size=_size(outputs, _ACTION, "output_features"),
            chunk_size=chunk,
            resolution=side[0],
            modes=modes,
            text=typed(TextSizes, sizes["gemma"], "gemma") if "gemma" in sizes else variant,
            vision=typed(VisionSizes, vision, "siglip"),
            **whole,
            **texts,
        )


def processor_step(path: Path, name: str) -> Mapping[str, Any]:
    """One step of a saved pipeline of LeRobot, by the name that it is registered under.

    Raises:
        CheckpointError: the file is missing or damaged, or has no such step.
    """
    steps = read_object(path, CheckpointError).get("steps")
    listed = steps if isinstance(steps, list) else []
    found = [s for s in listed if isinstance(s, dict) and s.get("registry_name") == name]
    if len(found) != 1 or not isinstance(found[0].get("config"), dict):
        raise CheckpointError(
            f"{path} has {len(found)} steps {name!r} with a config; accepted: 1 such step"
        )
    return found[0]


def _is_empty(camera: str) -> bool:
    """LeRobot adds cameras that no robot has, to keep the number of a base model."""
    return camera.removeprefix(_IMAGES).startswith("empty_camera")


def _size(features: Mapping[str, Any], name: str, where: str) -> int:
    if name not in features:
        raise ValueError(f"{where} has no {name!r}; it has {shown(sorted(features))}")
    return int(typed(tuple[int], features[name].get("shape"), f"{where}.{name}.shape")[0])
