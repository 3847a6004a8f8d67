"""A family of a few lines: a recurrent network whose answers have no fixed length."""

from __future__ import annotations

MODEL_TYPES = ("toy",)


def recognises(config):
    return config.get("model_type") in MODEL_TYPES


def protocol(config):
    return "heisd"


def statistics(folder):
    return []


def load(folder, device, dtype, statistics_key, **options):
    from heisd_ros.families.toy.model import load_toy

    return load_toy(folder, device, dtype)
