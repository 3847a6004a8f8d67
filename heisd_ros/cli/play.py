"""`heisd play`: a recording over DDS, for live replay where `ros2 bag` is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heisd_ros.cli.refusals import failing

app = typer.Typer(add_completion=False)


@app.command()
def play(
    bag: Annotated[Path, typer.Argument(help="The recording: a rosbag2 folder, or a file of it.")],
    rate: Annotated[float, typer.Option(help="Seconds of the recording in a second.")] = 1.0,
    loop: Annotated[bool, typer.Option(help="Begin again at the end.")] = False,
    topics: Annotated[
        list[str] | None, typer.Option(help="Play only this topic; may be given several times.")
    ] = None,
    remap: Annotated[
        list[str] | None, typer.Option("--remap", "-r", help="FROM:=TO, as ros2 takes it.")
    ] = None,
    clock: Annotated[float, typer.Option(help="Rate (Hz) of /clock; 0: none.")] = 40.0,
    delay: Annotated[float, typer.Option(help="Seconds to wait before the first message.")] = 1.0,
) -> None:
    """Publish a recording, byte by byte as it was recorded, with /clock.

    Exit code: 0; 1 where it cannot be played; 2 where it breaks off before its end.
    """
    from heisd_ros.errors import ReplayError
    from heisd_ros.nodes.process import run_node
    from heisd_ros.nodes.tools.player import Player, PlaySettings, run
    from heisd_ros.replay.topics import read_remaps

    rules = [part for rule in remap or () for part in ("-r", rule)]
    with failing((ReplayError, ValueError)):
        read_remaps(remap or ())
        settings = PlaySettings(bag, rate, loop, tuple(topics or ()), clock, delay)
    arguments = ["heisd", "--ros-args", *rules] if rules else ["heisd"]
    raise typer.Exit(run_node(lambda: Player(settings), run, arguments))
