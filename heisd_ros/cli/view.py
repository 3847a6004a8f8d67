"""`heisd view`: the robot in a browser, live or as it was recorded."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heisd_ros.cli.node_process import terminate_as_interrupt
from heisd_ros.cli.refusals import failing
from heisd_ros.cli.view_server import LOOPBACK, PAGE, PORT, ViewServer
from heisd_ros.errors import ViewError

if TYPE_CHECKING:
    from heisd_ros.data.bag import Bag
    from heisd_ros.robot.cell_parameters import CellParameters
    from heisd_ros.view.screen import Screen

app = typer.Typer(add_completion=False)
MOST_EPISODES = 100
"""More episodes at once make the viewer slow."""
POLL_SEC, FINISH_SEC = 0.5, 2.0
INCOMPLETE, INTERRUPTED = 2, 130


@app.command()
@failing()
def view(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A bag, or the results of `heisd eval` or `heisd replay` (JSON); none: the robot, "
            "live.",
            show_default=False,
        ),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="The robot's YAML (config/robots), to draw the arm; none: what `heisd record` "
            "noted in the bag, else a Panda."
        ),
    ] = None,
    node: Annotated[
        str, typer.Option(help="The VLA node, with its namespace; none: the first one.")
    ] = "",
    mode: Annotated[str, typer.Option(help="Only episodes of this mode.")] = "",
    task: Annotated[int | None, typer.Option(help="Only episodes of this task.")] = None,
    state: Annotated[int | None, typer.Option(help="Only episodes of this initial state.")] = None,
    port: Annotated[int, typer.Option(help="Port of the page; the next two are used too.")] = PORT,
    bind: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all, for anybody who can reach it.")
    ] = LOOPBACK[0],
    memory: Annotated[
        str, typer.Option(help="What is kept for browsers that come later; then the oldest goes.")
    ] = "1GB",
    save: Annotated[
        Path | None, typer.Option(help="Write a new .rrd file for Rerun instead of serving a page.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser where there is a screen.")] = True,
) -> None:
    """Look at the robot in a browser: live, a recording, or an evaluation's episodes.

    It runs until Ctrl-C; with --save a recording is written and the command ends. Exit code: 1
    where an input is bad or the server ends; 2 where a recording breaks off before its end.
    """
    from heisd_ros.view import sdk

    opened = partial(_output, bind, port, memory, save, browser)
    try:
        sdk.load()
        with terminate_as_interrupt():
            if source is None:
                code = _live(opened, params, node)
            elif source.suffix == ".json":
                code = _episodes(opened, source, mode, task, state)
            else:
                code = _bag(opened, source, params, node)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


class Output:
    """Where recordings go: a file, or a server that browsers read from."""

    def __init__(self, target: str | Path, server: ViewServer | None) -> None:
        self._target, self.server = target, server

    def screen(self, name: str, live: bool = False, **options: Any) -> Screen:
        """Begins a recording."""
        from heisd_ros.view import sdk
        from heisd_ros.view.screen import Screen

        return Screen(sdk.record(name, self._target), live, **options)

    def finish(self, screen: Screen) -> None:
        """Ends a live recording; a server that hangs is not waited for, since it ends now.

        Raises:
            ViewError: A file is not written in time.
        """
        if self.server is None:
            screen.close()
            return

        def close() -> None:
            with suppress(ViewError):
                screen.close(FINISH_SEC)

        # In a thread, since Rerun waits for a server that hangs without end.
        closing = threading.Thread(target=close, name="close view", daemon=True)
        closing.start()
        closing.join(FINISH_SEC)

    def problem(self) -> str:
        """Why the server has ended; empty while it runs, or if there is none."""
        return self.server.problem if self.server else ""

    def wait(self, code: int) -> int:
        """Waits for Ctrl-C where a page is served; returns the exit code."""
        if self.server is not None:
            typer.echo("all of it is there")
        try:
            while self.server is not None and not self.server.problem:
                time.sleep(POLL_SEC)
        except KeyboardInterrupt:
            return code
        if self.server is not None:
            raise ValueError(self.server.problem)
        return code


Opened = Callable[[], AbstractContextManager[Output]]


@contextmanager
def _output(
    bind: str, port: int, memory: str, save: Path | None, browser: bool
) -> Iterator[Output]:
    if save is not None:
        if save.exists() or not save.parent.is_dir():
            raise ValueError(f"--save {save}; accepted: a new file in a folder that exists")
        try:
            yield Output(save, None)
        except BaseException:
            save.unlink(missing_ok=True)
            raise
        typer.echo(f"written: {save}")
        return
    with ViewServer(bind, port, memory) as server:
        typer.echo(f"{PAGE}{server.url} (Ctrl-C ends it)")
        if bind not in LOOPBACK:
            typer.echo(f"anybody who reaches {bind} can see the cameras", err=True)
        if browser and _has_screen():
            webbrowser.open(server.url)
        try:
            yield Output(server.target, server)
        except ViewError as error:
            raise ViewError(server.problem or str(error)) from error


def _live(opened: Opened, params: Path | None, node: str) -> int:
    from heisd_ros.nodes.process import run_node
    from heisd_ros.nodes.tools.view_node import ViewNode
    from heisd_ros.view.feed import Feed

    cell = _cell(params)
    with opened() as output:
        screen = output.screen("live", live=True, base_frame=cell.robot.base_frame)
        feed = Feed(screen, cell)

        def run(shown: ViewNode, executor: Any, stopping: threading.Event) -> int:
            return shown.run(executor, stopping, output.problem)

        code = run_node(lambda: ViewNode(screen, feed, node), run, ["heisd"])
        output.finish(screen)
        return code


def _bag(opened: Opened, path: Path, params: Path | None, node: str) -> int:
    from heisd_ros.data.bag import Bag
    from heisd_ros.view.bag_view import show_bag

    with Bag(path) as bag:
        remarks: list[str] = []
        cell = _cell(params) if params else _noted_cell(bag, remarks)
        with opened() as output:
            screen = output.screen(path.resolve().name, base_frame=cell.robot.base_frame)
            for line in [*remarks, *show_bag(bag, screen, cell, node)]:
                typer.echo(line, err=True)
            return output.wait(INCOMPLETE if bag.damage else 0)


def _episodes(opened: Opened, path: Path, mode: str, task: int | None, state: int | None) -> int:
    from heisd_ros.view.episodes import show_episode, title

    modes, rows = _rows(path)
    chosen = [
        row
        for row in rows
        if row.get("mode") == (mode or row.get("mode"))
        and (task is None or row.get("task_index") == task)
        and (state is None or row.get("init_state") == state)
    ]
    if not chosen:
        raise ValueError(
            f"{path}: none of {len(rows)} episodes is as asked for; modes: {', '.join(modes)}"
        )
    with opened() as output:
        if len(chosen) > 1 and output.server is None:
            raise ValueError(
                f"{path}: {len(chosen)} episodes, and a file takes one; choose with --mode, "
                "--task and --state"
            )
        for row in chosen[:MOST_EPISODES]:
            screen = output.screen(title(row), since_start=True, listed=len(chosen) > 1)
            boundary = modes.get(row["mode"], {}).get("boundary") or {}
            show_episode(row, screen, float(boundary.get("value", math.nan)))
        if len(chosen) > MOST_EPISODES:
            left = f"the first {MOST_EPISODES} of {len(chosen)} episodes are shown"
            typer.echo(f"{left}; choose with --mode, --task and --state", err=True)
        return output.wait(0)


def _rows(path: Path) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Returns the modes and the episodes of a results file; a replay has one episode a mode."""
    from heisd_ros.evaluation.results import MOST_BYTES, MOST_VALUES, read_results
    from heisd_ros.files.bounded import read_object
    from heisd_ros.replay.baseline import read_baseline

    if read_object(path, most=MOST_BYTES, values=MOST_VALUES).get("kind") == "replay":
        data = read_baseline(path)
        rows = [{"mode": name, **columns} for name, columns in data["steps"].items()]
        return data["modes"], rows
    data = read_results(path)
    return data["modes"], data["episodes"]


def _cell(params: Path | None) -> CellParameters:
    """Returns the robot of a file, or a Panda."""
    from heisd_ros.files.bounded import naming
    from heisd_ros.robot.cell_parameters import CellParameters
    from heisd_ros.robot.robot_file import read_cell_file

    if params is None:
        return CellParameters()
    try:
        return read_cell_file(params)
    except ValueError as error:
        raise ValueError(naming(params, error)) from error


def _noted_cell(bag: Bag, remarks: list[str]) -> CellParameters:
    """Returns the robot that a recorder noted in a bag, or a Panda, with a remark."""
    from heisd_ros.data.recording_notes import PARAMETERS_NOTE, read_notes
    from heisd_ros.robot.robot_file import read_cell_text

    text = read_notes(bag).get(PARAMETERS_NOTE, "")
    try:
        return read_cell_text(text) if text else _cell(None)
    except ValueError as error:
        remarks.append(f"the parameters in the bag cannot be used: {error}; see --params")
        return _cell(None)


def _has_screen() -> bool:
    # Elsewhere Python would run a browser in this terminal, if there is one.
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
