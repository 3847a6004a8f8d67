"""Formats the result of a run as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


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
