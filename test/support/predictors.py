"""Made-up predictors."""

from __future__ import annotations

from heisd_ros.decoding.predictor import CHANCES, WAYS, Costs, Fit, Predictor, bound_settings
from heisd_ros.decoding.settings import ModeSettings

COSTS = Costs(step=5.0, language=4.0, search=1.0, drafter=2.0, skip=4.0)
PREDICTED = {"propose": "hybrid", "boundary": {"kind": "predicted"}}


def fit(offset=0.0, **weights):
    """A chance: log-odds of the offset and of each named term (spaces as underscores) as it is."""
    names = tuple(name.replace("_", " ") for name in weights)
    count = len(names)
    return Fit(
        terms=names,
        mean=(0.0,) * count,
        scale=(1.0,) * count,
        weights=tuple(map(float, weights.values())),
        offset=float(offset),
        steps=100,
        share=0.5,
        auc=0.7,
    )


def predictor(settings=None, chances=None, **changes):
    """A predictor in which every chance is a half, besides those that are given."""
    mode = ModeSettings.from_dict(settings or PREDICTED)
    values = {
        "chances": {name: fit() for name in CHANCES} | (chances or {}),
        "passes": {way: (2.0, 4.0) for way in WAYS},
        "costs": COSTS,
        "settings": bound_settings(mode),
        "database_id": "database-a",
        "model_fingerprint": "model-a",
        "drafter": "drafter-a",
        "suite": "libero_spatial",
        "starts": ((0, 32, 0),),
        "created": "2026-11-29T00:00:00+00:00",
    }
    return Predictor(**(values | changes))
