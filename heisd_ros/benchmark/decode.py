"""One run of the decoding benchmark, from the model to the JSON that is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.benchmark import steps as names
from heisd_ros.benchmark.machine import busy, peak_memory_gib, processor
from heisd_ros.benchmark.peer import TransformersPeer
from heisd_ros.benchmark.prediction import StepTimes, predict, read_evaluation
from heisd_ros.benchmark.roofline import Clock, Roofline
from heisd_ros.benchmark.steps import Steps
from heisd_ros.benchmark.subject import Subject, load_subject
from heisd_ros.benchmark.timing import Case, measure, ratio
from heisd_ros.errors import BenchmarkError, MissingPackageError
from heisd_ros.families.shapes import byte_size
from heisd_ros.vla.engine import Engine, Network, PlainEngine
from heisd_ros.vla.int8 import use_int8
from heisd_ros.vla.static_engine import StaticEngine

NOTES = (
    "Steps begin with preprocessed pixels on the device and end with an answer on the host.",
    "Acceptance is forced: the draft is judged, then so many of its tokens are taken as are named.",
    "The eager loop calls the same modules one by one: a cache that grows by copying, the LM head "
    "over all columns of the prompt, each token read before the next pass.",
    "roofline_ms: weights and cache read once at the measured bandwidth, or matrix products at the "
    "measured rate, whichever takes longer, pass by pass; of a skipped step, vision alone.",
    "ratio_to_eager: how many times quicker than the eager loop, median over the rounds.",
)
Times = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        shape: which model.
        device: where.
        dtype: of the weights.
        rounds: how often each case is timed.
        compiler: as in `StaticEngine`.
        int8: whether the language model's weights are kept in int8.
        peer: whether transformers is timed as well.
        evaluation: JSON of `heisd eval` to predict a closed loop from.
        processor_time: count the process's time on the processor instead of what a clock on the
            wall shows: for a shared CPU, with one thread.
    """

    shape: str
    device: torch.device
    dtype: torch.dtype
    rounds: int
    compiler: str | None = None
    int8: bool = False
    peer: bool = True
    evaluation: Path | None = None
    processor_time: bool = False

    def __post_init__(self) -> None:
        """Checks that the settings fit together."""
        if self.processor_time and (self.device.type != "cpu" or torch.get_num_threads() > 1):
            raise BenchmarkError(
                f"processor time on {self.device} with {torch.get_num_threads()} threads says "
                "nothing; accepted: cpu with 1 thread"
            )

    @property
    def clock(self) -> Clock:
        """The clock by which everything is timed."""
        return time.process_time if self.processor_time else time.perf_counter


@torch.inference_mode()
def run(settings: Settings, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measures all cases in one interleaved run.

    Args:
        settings: what is run.
        say: called with progress messages.

    Returns:
        The JSON's content.

    Raises:
        BenchmarkError: the device does not exist, or the file is not an evaluation.
    """
    if settings.evaluation is not None:
        read_evaluation(settings.evaluation)  # before spending minutes
    subject = load_subject(settings.shape, settings.device, settings.dtype)
    model = subject.vla.model
    if settings.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
    reference = Steps(subject, PlainEngine(model)).chain
    if settings.int8:
        use_int8(model.language_model)
    say("making the engine")
    steps = Steps(subject, _engine(settings, model))
    say("measuring bandwidth and rate")
    size = int(byte_size(model.language_model.model.layers))
    roofline = Roofline.measure(settings.device, settings.dtype, size, settings.clock)
    peer = _peer(settings, steps, say)
    peers = {} if peer is None else peer.cases(say)
    cases = steps.cases(roofline)
    cases += [Case(name, generate, step=False) for name, generate in peers.items()]
    say(f"{len(cases)} cases, {settings.rounds} rounds in turns")
    times = measure(cases, settings.device, settings.rounds, settings.clock)
    # Again: the ceiling is the better of the measurements before and after.
    roofline = roofline.best(
        Roofline.measure(settings.device, settings.dtype, size, settings.clock)
    )
    cases, differences = steps.cases(roofline), steps.differences(roofline)
    cases += [Case(name, generate, step=False) for name, generate in peers.items()]
    for part in differences:
        times[part.name] = (times[part.case] - times[names.PREFILL]) / part.times
    rows = [_row(c.name, times, c.roofline_ms, c.accepted, c.step) for c in cases]
    rows += [_row(part.name, times, part.roofline_ms) for part in differences]
    result = {
        **_description(settings, subject, steps.engine),
        "prompt_columns": steps.prompt.columns.shape[1],
        "bandwidth_gb_s": round(roofline.bandwidth / 1e9, 2),
        "rate_tflop_s": round(roofline.rate / 1e12, 4),
        "peak_memory_gib": peak_memory_gib(settings.device),
        "tokens": len(reference),
        "tokens_as_plain": sum(a == b for a, b in zip(reference, steps.chain, strict=True)),
        "notes": list(NOTES),
        "cases": rows,
        "peers": [] if peer is None else _peers(peer.version, peers, steps.chain, times),
    }
    if settings.evaluation is not None:
        result["prediction"] = predict(settings.evaluation, _step_times(times))
    return result


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yields a table of the cases, then peers and prediction."""
    yield f"{result['device']}; {result['shape']}: weights {result['weights']}; {result['engine']}"
    yield (
        f"{result['bandwidth_gb_s']} GB/s, {result['rate_tflop_s']} TFLOP/s measured; "
        f"{result['prompt_columns']} columns; {result['busy']}; "
        f"{result['peak_memory_gib']} GiB at most; times by {result['clock']}"
    )
    alike, count = result["tokens_as_plain"], result["tokens"]
    yield f"{alike} of {count} tokens as the plain engine's on unquantised weights"
    yield f"{'':42s}{'p50 ms':>10s}{'p99 ms':>10s}{'roofline':>10s}{'times':>8s}{'vs eager':>10s}"
    for case in result["cases"]:
        numbers = [case["roofline_ms"], case["ratio_to_roofline"], case["ratio_to_eager"]]
        roofline, times, eager = ("" if n is None else f"{n:.2f}" for n in numbers)
        yield (
            f"{case['name']:42s}{case['p50_ms']:10.2f}{case['p99_ms']:10.2f}"
            f"{roofline:>10s}{times:>8s}{eager:>10s}"
        )
    for peer in result["peers"]:
        yield (
            f"{peer['name']} ({peer['version']}): {peer['ratio_to_ours']:.2f} times as long as "
            f"ours, {peer['tokens_as_ours']} of {count} tokens alike"
        )
    yield from result["notes"]
    if "prediction" in result:
        yield result["prediction"]["note"]
        for name, mode in result["prediction"]["modes"].items():
            if mode is not None:
                yield (
                    f"  {name:18s} {mode['mean_ms']:8.2f} ms a step, {mode['over_eager']:.2f} "
                    f"times the eager loop, {mode['over_optimised']:.2f} the optimised one"
                )


def _description(settings: Settings, subject: Subject, engine: Engine) -> dict[str, Any]:
    return {
        "device": device_name(settings.device),
        "shape": settings.shape,
        "weights": subject.weights + (", layers of the LM in int8" if settings.int8 else ""),
        "engine": _engine_name(settings, engine),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": "processor time" if settings.processor_time else "wall",
        "busy": busy(),
        "rounds": settings.rounds,
    }


def device_name(device: torch.device) -> str:
    """Returns the GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s)"


def _engine(settings: Settings, model: Network) -> Engine:
    fixed = settings.device.type == "cuda" or settings.compiler is not None
    return StaticEngine(model, compiler=settings.compiler) if fixed else PlainEngine(model)


def _engine_name(settings: Settings, engine: Engine) -> str:
    name = type(engine).__name__
    if settings.device.type == "cuda":
        name += ", CUDA graphs"
    return name + (f", compiled by {settings.compiler}" if settings.compiler else "")


def _peer(settings: Settings, steps: Steps, say: Callable[[str], None]) -> TransformersPeer | None:
    if not settings.peer:
        return None
    if settings.int8:
        say("no peer is timed: it would run on other weights than int8")
        return None
    try:
        return TransformersPeer(steps.language, steps.prompt.columns, steps.left + 1)
    except MissingPackageError as error:
        say(str(error))
        return None


def _peers(
    version: str, peers: dict[str, Callable[[], list[int]]], ours: list[int], times: Times
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "version": version,
            "p50_ms": round(float(np.median(times[name])), 3),
            "ratio_to_ours": round(ratio(times[name], times[names.LANGUAGE]), 3),
            "tokens_as_ours": sum(a == b for a, b in zip(generate(), ours, strict=True)),
        }
        for name, generate in peers.items()
    ]


def _row(
    name: str,
    times: Times,
    roofline_ms: float | None,
    accepted: int | None = None,
    step: bool = False,
) -> dict[str, Any]:
    own = times[name]
    p50, p99 = (float(value) for value in np.percentile(own, (50, 99)))
    return {
        "name": name,
        "accepted": accepted,
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "roofline_ms": None if roofline_ms is None else round(roofline_ms, 4),
        "ratio_to_roofline": None if not roofline_ms else round(p50 / roofline_ms, 2),
        "ratio_to_eager": round(ratio(times[names.EAGER], own), 3) if step else None,
    }


def _step_times(times: Times) -> StepTimes:
    median = {name: float(np.median(values)) for name, values in times.items()}
    return StepTimes(
        eager=median[names.EAGER],
        plain=median[names.OPTIMISED],
        seen=median[names.VISION] + median[names.PROJECTOR],
        search=median[names.SEARCH],
        prefill=median[names.PREFILL],
        verifying=median[names.VERIFYING],
        token=median[names.TOKEN],
        verified=median[names.VERIFIED],
        draft=median[names.DRAFTING],
        skipped=median[names.SKIPPED],
    )
