"""`heisd bench`: what the node costs beside the model, and what decoding costs."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure what the node itself costs, and what decoding costs."""


@app.command()
def decode(
    shape: Annotated[
        str,
        typer.Option(
            help="The shipped model, or random weights at the shape of a published or a small one: "
            "openvla-7b, mini, ecot, nora, pi0-fast."
        ),
    ] = "shipped",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[
        Literal["", "float32", "bfloat16", "float16"],
        typer.Option(help="Of the weights; empty: float32 on a CPU, else bfloat16."),
    ] = "",
    rounds: Annotated[int, typer.Option(min=2, help="How often each case is timed.")] = 30,
    threads: Annotated[int, typer.Option(min=0, help="Of a CPU; 0: PyTorch's choice.")] = 0,
    compiler: Annotated[
        str, typer.Option("--compile", help="Backend of torch.compile, for instance inductor.")
    ] = "",
    int8: Annotated[bool, typer.Option(help="The layers' weights in int8.")] = False,
    peer: Annotated[bool, typer.Option(help="Time transformers' generate as well.")] = True,
    processor_time: Annotated[
        bool, typer.Option("--processor-time", help="On a CPU that others use too: 1 thread.")
    ] = False,
    from_eval: Annotated[
        Path | None, typer.Option(help="JSON of `heisd eval`: predict its closed loop.")
    ] = None,
    layers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of ecot, nora and pi0-fast: measure so many layers and twice as many, and "
            "extrapolate; 0: all.",
        ),
    ] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="File for the result.")] = None,
) -> None:
    """Steps and their parts in one interleaved run, beside rooflines and a peer."""
    import torch

    from heisd_ros.benchmark import decode as steps
    from heisd_ros.benchmark import family_shapes
    from heisd_ros.benchmark.subject import known_shapes
    from heisd_ros.errors import BenchmarkError, HeisdError
    from heisd_ros.families.shapes import Published

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if threads:
        torch.set_num_threads(threads)
    try:
        where = torch.device(device)
        chosen = dtype or ("float32" if where.type == "cpu" else "bfloat16")
        settings = steps.Settings(
            shape,
            where,
            getattr(torch, chosen),
            rounds,
            compiler=compiler or None,
            int8=int8,
            peer=peer,
            evaluation=from_eval,
            processor_time=processor_time,
        )
        found = known_shapes().get(shape)
        if layers and not isinstance(found, Published):
            raise BenchmarkError(
                f"--layers {layers}: shape {shape!r} is measured whole; accepted: 0"
            )
        if isinstance(found, Published):
            result = family_shapes.run(found, settings, layers, say)
            lines = family_shapes.lines(result)
        else:
            result = steps.run(settings, say)
            lines = list(steps.lines(result))
    except (HeisdError, RuntimeError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(1) from error
    _write(result, out)
    for line in lines:
        typer.echo(line)


@app.command()
def node(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to measure.")] = 20.0,
    width: Annotated[int, typer.Option(min=16, help="Width of the pictures.")] = 640,
    height: Annotated[int, typer.Option(min=16, help="Height of the pictures.")] = 480,
    rate: Annotated[float, typer.Option(min=1.0, help="Pictures a second.")] = 30.0,
    out: Annotated[Path | None, typer.Option("--json", help="File for the result.")] = None,
) -> None:
    """Camera stamp to command published over DDS, with a model that costs nothing."""
    from heisd_ros.cli.node_process import NodeProcess, environment
    from heisd_ros.errors import HeisdError
    from heisd_ros.nodes.tools.bench_probe import measure
    from heisd_ros.nodes.tools.domain import free_domain_id

    domain_id = free_domain_id()
    os.environ.update(environment({}, domain_id))
    settings = ["-p", "autostart:=true", "-p", "instruction:=measure"]
    marks: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        process = NodeProcess("tools.bench_policy", settings, domain_id, Path(folder) / "node.log")

        def mark() -> None:
            marks.append((time.monotonic(), cpu_seconds(process.pid)))

        try:
            seen = measure(domain_id, seconds, mark, mark, width=width, height=height, rate_hz=rate)
        except HeisdError as error:
            typer.echo(f"{error}\n{process.last_lines()}", err=True)
            raise typer.Exit(1) from error
        finally:
            process.stop()
    (began, cpu_before), (ended, cpu_after) = marks
    result = summary(seen, 100.0 * (cpu_after - cpu_before) / (ended - began))
    for what, name in (("published", "latency_ms"), ("arrived", "arrival_ms")):
        ms = result[name]
        typer.echo(f"camera to command {what}: p50 {ms['p50']:.2f} ms, p99 {ms['p99']:.2f} ms")
    split = result["split_ms"]
    typer.echo("  " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in split.items()) + " (medians)")
    typer.echo(f"  {max(split, key=split.get)} dominates; {result['cpu_percent']:.0f}% of a core")
    typer.echo(f"  {result['frames']} pictures, {result['dropped']} without a command of their own")
    _write(result, out)


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(seen: Any, cpu_percent: float) -> dict[str, Any]:
    """The result as it is written to a file.

    Args:
        seen: A `Measurement`.
        cpu_percent: Share of one core that the node's process took.
    """
    import numpy as np

    def percentiles(ms: Any) -> dict[str, float]:
        p50, p99 = np.percentile(ms if len(ms) else [np.nan], (50, 99))
        return {"p50": float(p50), "p99": float(p99)}

    parts = seen.split_ms.items()
    return {
        "latency_ms": percentiles(seen.latency_ms),
        "arrival_ms": percentiles(seen.arrival_ms),
        "split_ms": {name: float(np.median(ms)) if len(ms) else 0.0 for name, ms in parts},
        "cpu_percent": cpu_percent,
        "frames": seen.frames,
        "dropped": max(seen.frames - len(seen.latency_ms), 0),
    }


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process so far, s (proc(5), utime and stime)."""
    # The name in parentheses may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@app.command()
def retrieval(
    vectors: Annotated[int, typer.Option(min=100, help="Frames in the database.")] = 273_465,
    dim: Annotated[int, typer.Option(min=8, help="Numbers in a key.")] = 4352,
    shards: Annotated[int, typer.Option(min=1, help="Tasks.")] = 40,
    queries: Annotated[int, typer.Option(min=1, help="Queries of each task.")] = 50,
    peer_shards: Annotated[
        int, typer.Option(min=1, help="Tasks that HNSW is built for; a graph takes long.")
    ] = 8,
    out: Annotated[Path | None, typer.Option("--json", help="File for the result.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG of the growth without shards.")] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for keys and database; empty: a temporary one.")
    ] = None,
) -> None:
    """Search in a database of the paper's size, against faiss HNSW and exact search."""
    from heisd_ros.benchmark.retrieval_bench import Plan, measure
    from heisd_ros.benchmark.retrieval_growth import picture

    console = Console()
    plan = Plan(
        vectors=vectors,
        dim=dim,
        shards=shards,
        queries=queries,
        peer_shards=min(peer_shards, shards),
        unsharded=tuple(vectors // share for share in (10, 4, 1)),
        unsharded_peers=tuple(vectors // share for share in (80, 40, 20)),
    )
    with tempfile.TemporaryDirectory(dir=scratch) as folder, console.status("keys") as status:
        result = measure(plan, Path(folder), status.update)
    table = Table("", "query p50, ms", "p99, ms", "on the CPU p50", "recall@1", "recall@5", "MiB")
    rows = {"ours": {**result, "memory_mib": result["resident_mib"]}, **result["peers"]}
    for name, row in rows.items():
        wall, cpu = row["query_ms"], row["query_cpu_ms"]
        times = [f"{ms:.3f}" for ms in (wall["p50"], wall["p99"], cpu["p50"])]
        recall = [f"{row[f'recall_at_{k}']:.4f}" for k in (1, 5)]
        table.add_row(name, *times, *recall, f"{row['memory_mib']:.0f}")
    console.print(table)
    console.print(f"built in {result['build_s']:.0f} s, opened in {result['open_s']:.2f} s")
    if figure is not None:
        picture(result["unsharded"], figure)
    _write(result, out)


@app.command()
def serving(
    side: Annotated[int, typer.Option(min=1, help="Of a picture, pixels.")] = 224,
    views: Annotated[int, typer.Option(min=1, max=16, help="Pictures of an observation.")] = 2,
    rounds: Annotated[int, typer.Option(min=10, help="Questions that are timed.")] = 1000,
    out: Annotated[Path | None, typer.Option("--json", help="File for the result.")] = None,
) -> None:
    """What a model behind a server on this machine costs over one in this process."""
    from heisd_ros.benchmark.serving_bench import measure

    result = measure(side, views, rounds)
    over, load = result["over_local_ms"], result["load"]
    typer.echo(
        f"over local: p50 {over['p50']:.2f} ms, p99 {over['p99']:.2f} ms ({views} pictures of "
        f"{side} pixels, {result['kib']:.0f} KiB a question)"
    )
    typer.echo(f"  {load:.1f} processes wanted to run on {result['cores']} cores")
    _write(result, out)
