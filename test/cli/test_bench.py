"""`heisd bench node`: the sum of its parts, and a run over DDS."""

from __future__ import annotations

import json

import numpy as np
import pytest
from heisd_ros.msg import StepLatency, StepTelemetry
from typer.testing import CliRunner

from heisd_ros.cli.bench import summary
from heisd_ros.cli.main import app
from heisd_ros.nodes.tools.bench_probe import Measurement, evaluate


def test_the_summary_counts_what_got_no_command():
    parts = {"transport": np.array([1.0, 2.0, 3.0])}
    latency = np.array([1.0, 2.0, 3.0])
    result = summary(Measurement(5, latency, latency + 0.5, parts), 12.0)
    assert result["latency_ms"]["p50"] == 2.0 and result["arrival_ms"]["p50"] == 2.5
    assert result["split_ms"] == {"transport": 2.0}
    assert (result["frames"], result["dropped"], result["cpu_percent"]) == (5, 2, 12.0)


def test_the_parts_of_a_step_sum_up_to_its_latency():
    def step(speed):
        message = StepTelemetry(twist=[speed, 0, 0, 0, 0, 0])
        message.latency = StepLatency(wait=1.0, convert=0.5, preprocess=3.0, inference=3.0, total=6)
        return message

    commands = [(0.1, 7_500_000, 8_000_000), (0.1, 39_000_000, 40_000_000), (0.3, 1, 2)]
    seen = evaluate(3, [step(0.1), step(0.2)], commands)
    assert seen.latency_ms.tolist() == [7.5] and seen.arrival_ms.tolist() == [8.0]
    assert {name: float(ms[0]) for name, ms in seen.split_ms.items()} == pytest.approx(
        {"transport": 2.0, "wait": 1.0, "conversion": 0.5, "preprocessing": 3.0, "publish": 1.5}
    )


def test_search_is_measured_at_a_small_size(tmp_path):
    file, figure = tmp_path / "retrieval.json", tmp_path / "growth.png"
    size = ["--vectors", "3000", "--dim", "64", "--shards", "3", "--queries", "10"]
    command = ["bench", "retrieval", *size, "--json", str(file), "--figure", str(figure)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert (measured["vectors"], measured["dim"], measured["shards"]) == (3000, 64, 3)
    assert 0.0 < measured["query_ms"]["p50"] <= measured["query_ms"]["p99"]
    assert 0.9 <= measured["recall_at_5"] <= 1.0 and measured["recall_at_1"] >= 0.9
    assert measured["peers"]["exact"]["recall_at_5"] == 1.0
    assert set(measured["peers"]) == {"exact", "faiss_hnsw"}
    for name in ("resident_mib", "disk_mib", "build_s", "open_s"):
        assert measured[name] > 0.0
    sizes = [row["vectors"] for row in measured["unsharded"]["measured"]["ours"]]
    assert sizes == [300, 750, 3000] and figure.stat().st_size > 1000


def test_a_served_model_is_measured(tmp_path):
    file = tmp_path / "serving.json"
    command = ["bench", "serving", "--side", "32", "--rounds", "20", "--json", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert 0.0 < measured["over_local_ms"]["p50"] <= measured["over_local_ms"]["p99"]
    assert 6.0 < measured["kib"] < 7.0 and "over local: p50" in result.output


@pytest.mark.slow
def test_a_node_is_measured(tmp_path):
    file = tmp_path / "node.json"
    result = CliRunner().invoke(app, ["bench", "node", "--seconds", "2", "--json", str(file)])
    assert result.exit_code == 0, result.output
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert 0.0 < measured["latency_ms"]["p50"] <= measured["latency_ms"]["p99"]
    assert 0 <= measured["dropped"] < measured["frames"]
    assert set(measured["split_ms"]) > {"transport", "conversion", "preprocessing", "publish"}
