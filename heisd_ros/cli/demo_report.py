"""Settings and results of the demo."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the demo runs; names are those of its options."""

    suite: str
    tasks: tuple[int, ...]
    init_states: tuple[int, ...]
    model: str
    mode: str
    max_steps: int
    budget_sec: float
    real_time: bool
    domain_id: int
    output: Path
    film: Path | None = None
    ros_parameters: tuple[str, ...] = ()
    view: bool = False

    def __post_init__(self) -> None:
        if len(self.tasks) != len(self.init_states) or not self.tasks:
            raise ValueError(
                f"{len(self.tasks)} tasks and {len(self.init_states)} initial states; "
                "accepted: as many of one as of the other, at least one"
            )


@dataclass(frozen=True)
class Episode:
    """How an episode went; times in seconds, latencies in ms."""

    suite: str
    task_index: int
    init_state: int
    instruction: str
    success: bool
    steps: int
    seconds: float
    latency_ms: dict[str, dict[str, float]]
    rates_hz: dict[str, float]
    metric: float | None
    sources: dict[str, int]
    holds: list[str] = field(default_factory=list)
    picture: str | None = None


def latency_summary(latencies: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, median and 95th percentile of each part, ms."""
    import numpy as np

    if not latencies:
        return {}
    columns = {part: np.array([entry[part] for entry in latencies]) for part in latencies[0]}
    return {
        part: {
            "mean": float(values.mean()),
            "p50": float(np.percentile(values, 50)),
            "p95": float(np.percentile(values, 95)),
        }
        for part, values in columns.items()
    }


def write_json(
    file: Path, settings: Settings, episodes: list[Episode], seconds: float, code: int
) -> None:
    """Writes everything that was shown."""
    content = {
        "settings": {
            **asdict(settings),
            "output": str(settings.output),
            "film": settings.film and str(settings.film),
        },
        "episodes": [asdict(episode) for episode in episodes],
        "successes": sum(episode.success for episode in episodes),
        "seconds": seconds,
        "exit_code": code,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
