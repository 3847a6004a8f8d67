"""`heisd bench retrieval`: what runs behind the command."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heisd_ros.benchmark.retrieval_bench import Plan, measure
from heisd_ros.benchmark.retrieval_growth import picture


def run(
    vectors: int,
    dim: int,
    shards: int,
    queries: int,
    peer_shards: int,
    out: Path | None,
    figure: Path | None,
    scratch: Path | None,
) -> None:
    """Measures, prints a table and writes what was asked for; parameters as the options say."""
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
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
