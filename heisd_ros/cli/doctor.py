"""`heisd doctor`: finds what will not work on this machine and in a running system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heisd_ros.cli.machine_checks import Finding, look

if TYPE_CHECKING:
    from heisd_ros.robot.parameters import VlaNodeParameters

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    robot: Annotated[
        Path | None,
        typer.Option(help="Parameter file of a robot whose drivers run: listen to them too."),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the VLA node, with --robot.")] = "",
    seconds: Annotated[
        float, typer.Option(help="How long to listen, with --robot.", min=0.5)
    ] = 5.0,
) -> None:
    """Look at Python, ROS, GPU, renderer, memory, threads and clock, and at a robot's topics.

    Exit code: 1 where something does not work; warnings do not count.
    """
    bad = 0
    for finding in _findings(robot, namespace, seconds):
        bad += finding.level == "bad"
        typer.echo(f"{finding.level:8} {finding.name}: {finding.text}")
    raise typer.Exit(1 if bad else 0)


def _findings(robot: Path | None, namespace: str, seconds: float) -> Iterator[Finding]:
    yield from look()
    try:
        from heisd_ros.nodes.running_checks import installation, running, wanted
    except ImportError as error:
        yield Finding(
            "bad", "ROS", f"cannot be imported ({error}): source Jazzy or newer, or `make install`"
        )
        return
    yield from (Finding(*seen) for seen in installation())
    if robot is None:
        return
    from heisd_ros.robot.robot_file import read_robot_file
    from heisd_ros.serving.address import is_address

    try:
        cell = read_robot_file(robot)
    except ValueError as error:
        yield Finding("bad", str(robot), str(error))
        return
    if is_address(cell.model.path):
        yield served(cell)
    yield from (Finding(*seen) for seen in wanted(cell))
    yield from (Finding(*seen) for seen in running(cell, namespace, seconds))


def served(parameters: VlaNodeParameters) -> Finding:
    """Whether the server of a model answers, and what it says of the model."""
    from heisd_ros.control.remote_policy import connect
    from heisd_ros.errors import RemoteModelError

    try:
        link = connect(parameters)
    except (RemoteModelError, ValueError) as error:
        return Finding("bad", "model", str(error))
    layout = link.layout
    link.close()
    words = f"mode {layout.mode}" if layout.own else "a server that says nothing of its model"
    views, space = ", ".join(layout.views), layout.action_space or "not said"
    return Finding(
        "good",
        "model",
        f"{link.uri} answers: {words}, views {views}, {layout.rate_hz:g} Hz, action space {space}",
    )
