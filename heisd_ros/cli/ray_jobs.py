"""Independent jobs on a Ray cluster, as `workers` runs them on one machine."""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

import heisd_ros
from heisd_ros.errors import ClusterError, HeisdError, MissingPackageError

_RETRIES = 3
"""Times that a job is run again whose worker or machine died."""
_CONNECT_SEC = 5.0
"""Time in which a cluster must answer; Ray itself waits for minutes."""
_SETTINGS = b"\4"
"""Kind of the frame with which either side of HTTP/2 begins."""
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
"""What a client says first: that it speaks HTTP/2, and an empty frame."""


def run_jobs_on_ray(
    address: str,
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    label: str,
    gpus_each: float = 0.0,
) -> Iterator[Any]:
    """Yields what `ray_results` does, with a progress bar."""
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

    A job is run again when its worker dies. One that is lost nevertheless is named at the end, when
    all others are done.

    Args:
        address: HOST:PORT of a cluster, `ray://HOST:PORT`, or `auto` for the one of this machine.
        function: A function at module level. Every machine needs this version of the package, and
            the files that the jobs name, under the same paths; relative ones are of this folder.
        jobs: Its arguments, one tuple a job.
        gpus_each: Share of a GPU that a job takes as well.

    Raises:
        MissingPackageError: Ray is not installed.
        ClusterError: There is no cluster at the address, a machine has another version of the
            package, the function raised a `HeisdError`, or the workers of a job died too often.
    """
    if not jobs:
        return
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            f"ray is not installed ({error}); pip install 'heisd_ros[ray]'"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    threads = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    try:
        _check_answers(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": threads},
        )
    except Exception as error:  # Ray has no common class of those
        raise ClusterError(f"no Ray cluster at {address!r}: {_words(error)}") from error
    options = {"num_cpus": 1, "num_gpus": gpus_each, "max_retries": _RETRIES}
    if gpus_each:
        options["max_calls"] = 0  # else a worker ends after each job, and loads the model again
    lost = ""
    try:
        remote = ray.remote(**options)(_run)
        here = os.getcwd(), heisd_ros.__version__, function
        pending = [remote.remote(*here, job) for job in jobs]
        while pending:
            (done,), pending = ray.wait(pending)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, ClusterError) else error from error
            except ray.exceptions.RayError as error:
                lost = f"a job's worker died {_RETRIES + 1} times: {_words(error)}"
                continue
            yield result
    finally:
        ray.shutdown()
    if lost:
        raise ClusterError(f"{lost}. What the others did is kept: run the same command again")


def _run(folder: str, version: str, function: Callable[..., Any], job: tuple[Any, ...]) -> Any:
    """Runs a job in a worker."""
    if version != heisd_ros.__version__:
        raise ClusterError(
            f"{platform.node()} has heisd_ros {heisd_ros.__version__}; accepted: {version}, as here"
        )
    with suppress(OSError):  # absolute paths are good without that folder
        os.chdir(folder)
    try:
        return function(*job)
    except HeisdError as error:
        raise ClusterError(f"{platform.node()}: {error}") from error


def _check_answers(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT, or what speaks no HTTP/2, as gRPC does."""
    place = re.fullmatch(r"(?:ray://)?([^/:]+):([0-9]{1,5})", address)
    if place is None:
        return
    with socket.create_connection((place[1], int(place[2])), _CONNECT_SEC) as there:
        if "RAY_USE_TLS" in os.environ:
            return
        there.sendall(_HTTP2)
        if there.recv(9)[3:4] != _SETTINGS:
            raise OSError("something else listens there, such as Ray's dashboard")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
