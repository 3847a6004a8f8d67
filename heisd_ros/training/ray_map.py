"""Maps a function over items on many machines with Ray Data; each worker loads the model once.

`heisd db build` runs one function per episode. This runs the same function on a cluster.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from heisd_ros.errors import MissingPackageError

T = TypeVar("T")
R = TypeVar("R")


def map_on_ray(
    make: Callable[[], Callable[[T], R]],
    items: Sequence[T],
    workers: int = 1,
    gpus_each: float = 0.0,
) -> Iterator[tuple[int, R]]:
    """Applies a function to items on the Ray cluster at hand, or on one of this machine.

    Args:
        make: makes the function, once a worker: it loads the model there. It must be found by its
            module's name on every machine, as must be the items' types.
        items: what it is applied to.
        workers: how many run at a time.
        gpus_each: share of a GPU that a worker takes.

    Yields:
        number of an item and its result, as they come: in no certain order.

    Raises:
        MissingPackageError: Ray is not installed.
        ray.exceptions.RayTaskError: the function failed; with its traceback.
    """
    rows = [{"number": n, "item": pickle.dumps(item)} for n, item in enumerate(items)]
    if not rows:
        return
    try:
        import ray.data
    except ImportError as error:
        raise MissingPackageError(
            f"ray[data] is not installed ({error}); pip install 'heisd_ros[ray]'"
        ) from error
    # A block an item: an item may be minutes of work.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = dataset.map(
        cast(Any, _Worker),  # ray's stubs know functions only
        fn_constructor_args=(pickle.dumps(make),),
        concurrency=workers,
        num_gpus=gpus_each,
    )
    for row in done.iter_rows():
        yield int(row["number"]), pickle.loads(row["result"])


class _Worker:
    """Applies the function in a process of its own; rows carry bytes, which Arrow takes as is."""

    def __init__(self, make: bytes) -> None:
        self._function: Callable[[Any], Any] = pickle.loads(make)()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = self._function(pickle.loads(row["item"]))
        return {"number": row["number"], "result": pickle.dumps(result)}
