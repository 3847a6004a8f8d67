"""Reads an RLDS data set with TensorFlow Datasets and writes what it gives to an .npz file.

Run by a Python that has `tensorflow` and `tensorflow_datasets`; it imports nothing of ours:

    python read_with_tfds.py DATASET OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


def flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}/{key}").items()}


def main(folder, out):
    folder = Path(folder).resolve()
    builder = tfds.builder(folder.name, data_dir=folder.parent)
    arrays = {}
    for number, episode in enumerate(tfds.as_numpy(builder.as_dataset(split="train"))):
        steps = [flat(step) for step in episode.pop("steps")]
        for key in steps[0]:
            arrays[f"{number}{key}"] = np.stack([np.asarray(step[key]) for step in steps])
        for key, value in flat(episode).items():
            arrays[f"{number}{key}"] = np.asarray(value)
    texts = {k: v.astype(object) for k, v in arrays.items() if v.dtype.kind in "OS"}
    for key, value in texts.items():
        arrays[key] = np.vectorize(lambda text: text.decode() + "|")(value)
    arrays["episodes"] = np.array(builder.info.splits["train"].num_examples)
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
