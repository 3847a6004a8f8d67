"""What the demo shows while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from heisd_ros.nodes.tools.demo_monitor import Snapshot

LINE_PERIOD_SEC = 2.0


class View(Protocol):
    """Shows snapshots and says things."""

    def show(self, headline: str, now: Snapshot) -> None:
        """Shows the state of the running episode."""

    def say(self, text: str) -> None:
        """Prints a line that stays."""

    def close(self) -> None:
        """Restores the terminal."""


class LiveView:
    """A table that is updated in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def show(self, headline: str, now: Snapshot) -> None:
        """Updates the table."""
        self._live.update(state_table(headline, now))

    def say(self, text: str) -> None:
        """Prints a line above the table."""
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Removes the table."""
        self._live.stop()


class PlainView:
    """Prints a line every two seconds."""

    def __init__(self) -> None:
        self._last = 0.0

    def show(self, headline: str, now: Snapshot) -> None:
        """Prints a line when it is time for one."""
        if time.monotonic() - self._last >= LINE_PERIOD_SEC:
            self._last = time.monotonic()
            print(state_line(headline, now), flush=True)

    def say(self, text: str) -> None:
        """Prints the line."""
        print(text, flush=True)

    def close(self) -> None:
        """Does nothing, since the terminal was not changed."""


def make_view() -> View:
    """The live table where there is a terminal, else plain lines."""
    return LiveView(Console()) if sys.stdout.isatty() else PlainView()


def state_rows(now: Snapshot) -> dict[str, str]:
    """Returns the values to show, by name."""
    length, radius, speed = now.metric_parts
    linear, angular = now.twist[:3], now.twist[3:]
    latency = now.latency_ms
    split = ", ".join(f"{part} {latency[part]:.1f}" for part in latency if part != "total")
    return {
        "instruction": now.instruction,
        "step": f"{now.step} ({now.source})" if now.source else "none yet",
        "inputs": ", ".join(f"{name} {rate:.1f} Hz" for name, rate in now.rates_hz.items()),
        "latency": f"{latency['total']:.1f} ms ({split})" if latency else "none yet",
        "metric": (
            f"{now.metric:.2f} (path {length:.3f} m, radius {radius:.2f} m, speed {speed:.3f} m/s)"
            if math.isfinite(now.metric)
            else "window not full yet"
        ),
        "command": (
            f"({', '.join(f'{v:+.2f}' for v in linear)}) m/s, "
            f"({', '.join(f'{v:+.2f}' for v in angular)}) rad/s, gripper {now.gripper:.3f} m"
        ),
        "arm": f"held, {now.hold}" if now.hold else "moving",
    }


def state_table(headline: str, now: Snapshot) -> Table:
    """Formats the values as a table."""
    table = Table(title=headline, show_header=False, title_justify="left", expand=False)
    for name, value in state_rows(now).items():
        table.add_row(name, value)
    return table


def state_line(headline: str, now: Snapshot) -> str:
    """Formats the values as one line."""
    rows = state_rows(now)
    shown = ("instruction", "step", "inputs", "latency", "metric", "command", "arm")
    return f"{headline} | " + " | ".join(f"{name}: {rows[name]}" for name in shown)
