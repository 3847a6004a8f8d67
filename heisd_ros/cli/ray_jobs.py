"""Independent jobs on a Ray cluster, as `workers` runs them on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from heisd_ros.errors import ClusterError, MissingPackageError

_RETRIES = 3
"""Times that a job is run again whose worker or machine died."""


def run_jobs_on_ray(
    address: str,
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    label: str,
    gpus_each: float = 0.0,
) -> Iterator[Any]:
    """Yields what `ray_results` does, with a progress bar.

    Args:
        address: As there.
        function: As there.
        jobs: As there.
        label: What the progress bar says.
        gpus_each: As there.
    """
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        results = ray_results(address, function, jobs, gpus_each)
        yield from progress.track(results, len(jobs), description=label)


def ray_results(
    address: str,
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    gpus_each: float = 0.0,
) -> Iterator[Any]:
    """Yields the results of `function(*job)` as they come, each job on one core of the cluster.

    Args:
        address: HOST:PORT of a cluster, `ray://HOST:PORT`, or `auto` for the one of this machine.
        function: A function at module level. Every machine needs this version of the package, and
            the files that the jobs name, under the same paths.
        jobs: Its arguments, one tuple a job.
        gpus_each: Share of a GPU that a job takes as well.

    Raises:
        MissingPackageError: Ray is not installed.
        ClusterError: There is no cluster at the address, or a job's workers died too often.
    """
    if not jobs:
        return
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            f"ray is not installed ({error}); pip install 'heisd_ros[ray]'"
        ) from error
    threads = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    try:
        ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": threads})
    except Exception as error:  # Ray has no common class of those
        words = " ".join(str(error).split())
        raise ClusterError(f"no Ray cluster at {address!r}: {words[:300]}") from error
    try:
        options = {"num_cpus": 1, "num_gpus": gpus_each, "max_retries": _RETRIES}
        remote = ray.remote(**options)(function)
        pending = [remote.remote(*job) for job in jobs]
        while pending:
            (done,), pending = ray.wait(pending)
            yield ray.get(done)
    except ray.exceptions.WorkerCrashedError as error:
        raise ClusterError(f"a job's worker died {_RETRIES + 1} times: {error}") from error
    finally:
        ray.shutdown()
