"""What a busy neighbour costs a step, by threads of the model and by how they wait for one another.

    python bench/busy_neighbour.py --json out/busy.json            # minutes; on an idle machine
    python bench/busy_neighbour.py --threads 1 2 4 --json out/busy.json

Two steps of the shipped model are timed, the plain loop and a draft of 7 tokens that is accepted in
the prefill: alone, and beside one process that is always busy. Threads of a product spin until the
last is done. How long is said by OpenMP's wait policy, libgomp's spin count (PyTorch's wheels for
Linux use that library) and Intel's block time; each is set in a process of its own, since the
library reads it once. The file is written after each case, and a run that was stopped is resumed
from it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WAITS = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "active": {"OMP_WAIT_POLICY": "active"},
    "spin count 0": {"GOMP_SPINCOUNT": "0"},
    "spin count 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin count 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin count 100,000": {"GOMP_SPINCOUNT": "100000"},
    "block time 0": {"KMP_BLOCKTIME": "0"},
}
"""Environments of the model's process."""
IDLE_LOAD = 0.5
BUSY = "while True: pass"


def measure(threads: int, seconds: float) -> dict[str, Any]:
    """Step times, ms, of this process: the two steps in turns for so long."""
    import numpy as np
    import torch

    from heisd_ros.benchmark.steps import Steps
    from heisd_ros.benchmark.subject import load_subject
    from heisd_ros.vla.engine import PlainEngine

    torch.set_num_threads(threads)
    subject = load_subject("shipped", torch.device("cpu"), torch.float32)
    times: dict[str, list[float]] = {"plain loop": [], "draft of 7 accepted": []}
    with torch.inference_mode():
        steps = Steps(subject, PlainEngine(subject.vla.model))
        runs: dict[str, Callable[[], object]] = {
            "plain loop": steps.plain,
            "draft of 7 accepted": lambda: steps.retrieved(7),
        }
        for run in runs.values():
            for _ in range(3):
                run()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            **{f"p{p}": round(float(np.percentile(own, p)), 2) for p in (50, 95, 99)},
            "mean": round(float(np.mean(own)), 2),
            "steps": len(own),
        }
        for name, own in times.items()
    }


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that are always busy."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def cases(threads: list[int]) -> Iterator[tuple[int, str, int]]:
    """Threads, wait setting, and number of busy neighbours; one thread never waits."""
    for count in threads:
        for wait in WAITS if count > 1 else ["default"]:
            for busy in (0, 1):
                yield count, wait, busy


def main() -> None:
    """Runs the cases that the file lacks, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring a case")
    parser.add_argument("--repeats", type=int, default=3, help="times that all cases are run")
    parser.add_argument("--json", type=Path, required=True, help="file of the results")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child, options.seconds)))
        return
    from heisd_ros.benchmark.machine import processor

    results: dict[str, Any] = {"machine": processor(), "load_before": [], "cases": []}
    if options.json.is_file():
        results = json.loads(options.json.read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    results["load_before"].append(round(load, 2))
    if load > IDLE_LOAD:
        print(f"the machine is not idle: load average {load:.2f}", file=sys.stderr)
    done = {(row["threads"], row["wait"], row["busy"], row["repeat"]) for row in results["cases"]}
    for repeat in range(options.repeats):
        for threads, wait, busy in cases(options.threads):
            if (threads, wait, busy, repeat) in done:
                continue
            words = [sys.executable, __file__, "--child", str(threads), "--json", "-"]
            words += ["--seconds", str(options.seconds)]
            with neighbours(busy):
                ran = subprocess.run(
                    words, env=os.environ | WAITS[wait], capture_output=True, text=True, check=True
                )
            row = {"threads": threads, "wait": wait, "busy": busy, "repeat": repeat}
            results["cases"].append(row | {"ms": json.loads(ran.stdout.splitlines()[-1])})
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            ms = results["cases"][-1]["ms"]
            shown = ", ".join(f"{name} {own['p50']} ({own['p99']})" for name, own in ms.items())
            print(f"{threads} thread(s), {wait}, {busy} busy: p50 (p99) ms: {shown}", flush=True)


if __name__ == "__main__":
    main()
