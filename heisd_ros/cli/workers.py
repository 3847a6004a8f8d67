"""Independent jobs on all cores, with one progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def threads_each(workers: int) -> int:
    """Returns the threads of each of so many parallel processes.

    That is its share of the cores, or fewer where OMP_NUM_THREADS asks for fewer.
    """
    asked, share = os.environ.get("OMP_NUM_THREADS", ""), max(1, cores() // workers)
    return min(share, max(1, int(asked))) if asked.isdecimal() else share


def hold_to(threads: int) -> None:
    """Limits the threads of model and renderer in processes started from here on."""
    for variable in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ[variable] = str(threads)


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], label: str, workers: int = 0
) -> Iterator[Any]:
    """Yields the results of `function(*job)` as they come.

    A simulator's rendering and a model's threads spread over all cores by themselves and then slow
    each other down, so each worker is held to its share of them (`threads_each`).

    Args:
        function: A function at module level, since workers are fresh processes.
        jobs: Its arguments, one tuple a job.
        label: What the progress bar says.
        workers: Processes; 0: one a core.
    """
    workers = workers or cores()
    hold_to(threads_each(workers))
    context = multiprocessing.get_context("spawn")
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=end_with,
            initargs=(os.getpid(),),
        ) as pool,
        Progress(*columns) as progress,
    ):
        running = [pool.submit(function, *job) for job in jobs]
        try:
            for job in progress.track(as_completed(running), len(running), description=label):
                yield job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def end_with(parent: int) -> None:
    """Ends a worker whose parent was killed; otherwise it would keep running."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
