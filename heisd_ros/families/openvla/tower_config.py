"""Configuration of a vision tower, and the towers that OpenVLA names by timm's ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

from heisd_ros.files.bounded import shown
from heisd_ros.files.checks import reject_unknown, require, require_whole
from heisd_ros.files.typed import typed
from heisd_ros.vla.language_config import MOST_LAYERS, MOST_WIDTH


@dataclass(frozen=True)
class TowerConfig:
    """One vision tower (a ViT, named as timm names its parts).

    Attributes:
        image_size: side of the square input image, pixels.
        patch_size: pixels per patch, and total stride of the stem.
        width: channels of a patch.
        depth: number of blocks that the checkpoint describes.
        heads: attention heads of a block.
        mlp_width: hidden width of a block's MLP.
        registers: DINOv2 register tokens.
        class_token: whether a class token precedes the registers.
        layer_scale: whether the blocks scale their residuals (DINOv2).
        stem: ``"patch"``, one convolution per patch; ``"conv"``, several of 3x3 with stride 2.
        output_block: the block whose output is the feature, as a negative index. OpenVLA takes the
            second to last (-2) and never runs what follows; a small model takes the last (-1).
        final_norm: whether the tower's last LayerNorm is applied (OpenVLA: no).
        pixel_shuffle: r folds r x r patches into channels, so that r*r times fewer tokens remain.
        mean: per-channel mean subtracted from RGB values in [0, 1].
        std: per-channel divisor after that.
    """

    image_size: int = 224
    patch_size: int = 14
    width: int = 64
    depth: int = 2
    heads: int = 4
    mlp_width: int = 256
    registers: int = 0
    class_token: bool = False
    layer_scale: bool = False
    stem: str = "patch"
    output_block: int = -1
    final_norm: bool = False
    pixel_shuffle: int = 1
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name, most in (
            ("image_size", 4096),
            ("patch_size", 4096),
            ("width", MOST_WIDTH),
            ("depth", MOST_LAYERS),
            ("heads", MOST_WIDTH),
            ("mlp_width", MOST_WIDTH),
            ("pixel_shuffle", 64),
        ):
            require_whole(f"tower {name}", getattr(self, name), most=most)
        require_whole("tower registers", self.registers, least=0, most=MOST_WIDTH)
        require(
            self.image_size % self.patch_size == 0,
            f"tower image_size {self.image_size} is no multiple of patch_size {self.patch_size}",
        )
        require(
            self.width % self.heads == 0,
            f"tower width {self.width} is no multiple of heads {self.heads}",
        )
        require(self.stem in ("patch", "conv"), f"tower stem is {self.stem!r}; 'patch' or 'conv'")
        halvings = self.patch_size.bit_length() - 1
        require(
            self.stem == "patch" or (halvings >= 1 and self.patch_size == 2**halvings),
            f"a 'conv' stem halves the image again and again; patch_size {self.patch_size} "
            "must be 2, 4, 8, 16, ...",
        )
        require(
            -self.depth <= self.output_block <= -1,
            f"tower output_block is {self.output_block}; from {-self.depth} to -1",
        )
        require(
            self.grid % self.pixel_shuffle == 0,
            f"tower pixel_shuffle {self.pixel_shuffle} does not divide its grid of {self.grid}",
        )
        require(
            len(self.mean) == 3 and len(self.std) == 3 and all(s > 0 for s in self.std),
            f"tower mean {self.mean} and std {self.std} are three numbers each, std positive",
        )

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def blocks_run(self) -> int:
        """Blocks up to and including the output block."""
        return self.depth + self.output_block + 1

    @property
    def operations(self) -> float:
        """Multiplications and additions of the matrix products for one image."""
        tokens = self.grid**2 + self.registers + int(self.class_token)
        block = 4 * self.width**2 + 2 * self.width * self.mlp_width
        stem = 3 * self.patch_size**2 * self.width
        return 2.0 * tokens * (self.blocks_run * (block + 2 * tokens * self.width) + stem)

    @property
    def tokens(self) -> int:
        """Visual tokens per image after the pixel shuffle."""
        return (self.grid // self.pixel_shuffle) ** 2

    @property
    def output_width(self) -> int:
        """Channels of a visual token after the pixel shuffle."""
        return self.width * self.pixel_shuffle**2


# timm's ViTs that OpenVLA uses: sizes by timm's argument names (timm 0.9.16 model zoo), and extras.
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_TIMM_TOWERS: dict[str, dict[str, Any]] = {
    "vit_large_patch14_reg4_dinov2.lvd142m": {
        "sizes": {
            "embed_dim": 1024,
            "depth": 24,
            "num_heads": 16,
            "mlp_ratio": 4.0,
            "patch_size": 14,
            "reg_tokens": 4,
        },
        "extras": {"class_token": True, "layer_scale": True, **_IMAGENET},
    },
    "vit_so400m_patch14_siglip_224": {
        "sizes": {
            "embed_dim": 1152,
            "depth": 27,
            "num_heads": 16,
            "mlp_ratio": 3.7362,
            "patch_size": 14,
            "reg_tokens": 0,
        },
        "extras": {},
    },
}
_BACKBONES = {"dinosiglip-vit-so-224px": list(_TIMM_TOWERS)}
"""What OpenVLA's ``vision_backbone_id`` stands for where ``timm_model_ids`` is left out."""


_COLOUR = tuple[float, float, float]
_PAIR = tuple[dict[str, Any], dict[str, Any]]


def written_towers(towers: Any) -> tuple[TowerConfig, TowerConfig]:
    """Towers written out under ``"heisd"``."""
    return typed(tuple[TowerConfig, ...], towers, "heisd.towers")


def timm_towers(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> tuple[TowerConfig, TowerConfig]:
    """Towers named by timm ids, as OpenVLA does; ``timm_tiny_kwargs`` may override the sizes.

    Args:
        config: the parsed ``config.json``.
        preprocessor: the parsed ``preprocessor_config.json``; ``{}`` where there is none.

    Raises:
        ValueError: naming what is unknown, missing, or done in another way here.
    """
    backbone = typed(str, config.get("vision_backbone_id", ""), "vision_backbone_id")
    ids = _given(config, "timm_model_ids", tuple[str, ...], _BACKBONES.get(backbone, []))
    require(
        len(ids) == 2,
        f"timm_model_ids {ids}, vision_backbone_id {backbone!r} and no heisd.towers; "
        "two ids are needed",
    )
    overrides = _given(config, "timm_tiny_kwargs", tuple[dict[str, int | float], ...], [{}, {}])
    image_sizes = _given(config, "image_sizes", tuple[int, ...], [224, 224])
    for name, values in (("timm_tiny_kwargs", overrides), ("image_sizes", image_sizes)):
        require(len(values) == 2, f"{name} {values}; one for each of the two towers is needed")
    for number, size in enumerate(image_sizes):
        _check_resize(preprocessor, number, size)
    return tuple(  # type: ignore[return-value]  # two ids, checked above
        timm_tower(timm_id, override, size, preprocessor, number, len(ids))
        for number, (timm_id, override, size) in enumerate(
            zip(ids, overrides, image_sizes, strict=True)
        )
    )


def timm_tower(
    timm_id: str,
    override: Mapping[str, float],
    image_size: int,
    preprocessor: Mapping[str, Any],
    number: int = 0,
    count: int = 1,
) -> TowerConfig:
    """One tower by its timm id.

    Args:
        timm_id: as timm names it.
        override: other sizes than timm's, by timm's argument names.
        image_size: side of the square input image, pixels.
        preprocessor: the parsed ``preprocessor_config.json``.
        number: of the tower among those of the model.
        count: towers of the model, for each of which the preprocessor has numbers.

    Raises:
        ValueError: naming what is unknown.
    """
    require(
        timm_id in _TIMM_TOWERS,
        f"timm_model_ids names {timm_id!r}; known are {sorted(_TIMM_TOWERS)}",
    )
    known = _TIMM_TOWERS[timm_id]
    reject_unknown("timm_tiny_kwargs", override, set(known["sizes"]))
    sizes = {**known["sizes"], **override}
    return TowerConfig(
        image_size=image_size,
        patch_size=sizes["patch_size"],
        width=sizes["embed_dim"],
        depth=sizes["depth"],
        heads=sizes["num_heads"],
        registers=sizes["reg_tokens"],
        mlp_width=int(sizes["embed_dim"] * sizes["mlp_ratio"]),
        output_block=-2,
        **{**known["extras"], **_normalisation(preprocessor, number, count)},
    )


def _normalisation(
    preprocessor: Mapping[str, Any], tower: int, count: int
) -> dict[str, tuple[float, ...]]:
    """Mean and deviation that were saved with a checkpoint: the transform's, else the processor's.

    Upstream's processor restores ``tvf_normalize_params`` as they were saved, rounded to bfloat16.
    """
    saved = _for_each(preprocessor, "tvf_normalize_params", dict[str, Any], count)
    if saved:
        given = {key: saved[tower][key] for key in ("mean", "std") if key in saved[tower]}
        return typed(dict[str, _COLOUR], given, "tvf_normalize_params")
    named = {
        name: _for_each(preprocessor, key, _COLOUR, count)
        for name, key in (("mean", "means"), ("std", "stds"))
    }
    return {name: values[tower] for name, values in named.items() if values}


def _for_each(preprocessor: Mapping[str, Any], key: str, hint: Any, count: int) -> tuple[Any, ...]:
    """A list with a value for each of the towers; empty where the file has none."""
    given: tuple[Any, ...] = _given(preprocessor, key, GenericAlias(tuple, (hint,) * count), ())
    return given


def _check_resize(preprocessor: Mapping[str, Any], tower: int, image_size: int) -> None:
    """Raise ValueError where a saved transform is not Pillow's bicubic resize to the square."""
    require(not preprocessor.get("tvf_do_letterbox", False), "tvf_do_letterbox is true; only false")
    saved = _given(preprocessor, "tvf_resize_params", _PAIR, [{}, {}])[tower]
    for key, accepted in (("size", [image_size] * 2), ("interpolation", 3)):
        value = saved.get(key, accepted)
        require(value == accepted, f"tvf_resize_params {key} is {shown(value)}; only {accepted}")


def _given(content: Mapping[str, Any], key: str, hint: Any, default: Any) -> Any:
    """A value of a file as its type; the default where it is missing, null or empty."""
    value = content.get(key)
    return typed(hint, value, key) if value else default
