"""`heisd check`: what configure would say of a parameter file, without ROS running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Parameter file of the VLA node.")],
    urdf: Annotated[
        Path | None,
        typer.Option(
            help="URDF that the topic robot_description will bring, where robot.source is 'topic'."
        ),
    ] = None,
    guard: Annotated[
        bool,
        typer.Option(
            "--guard",
            help="Check it for heisd_guard too (docs/safety.md); a file with own guard.* is.",
        ),
    ] = False,
) -> None:
    """Validate a robot's YAML: keys, types, ranges, and frames and joints against its URDF.

    The first fault is said in one line with key, value and what is accepted; the exit code is 1.
    """
    from heisd_ros.errors import HeisdError
    from heisd_ros.files.bounded import naming
    from heisd_ros.robot.cell_parameters import guard_settings
    from heisd_ros.robot.declare import with_values
    from heisd_ros.robot.guard_parameters import GuardParameters
    from heisd_ros.robot.robot_arm import make_reader, touching, unguarded, urdf_text
    from heisd_ros.robot.robot_file import read_robot_file
    from heisd_ros.serving.address import Address, is_address

    try:
        parameters = read_robot_file(file)
        if urdf is not None:
            parameters = with_values(parameters, {"robot.source": "file", "robot.urdf": str(urdf)})
        asked = ""
        if guard or parameters.guard != GuardParameters():
            for gap in guard_settings(parameters).gaps():
                typer.echo(f"{file}: {gap}", err=True)
            asked = "; heisd_guard starts with it"
        if is_address(parameters.model.path):  # nothing of PyTorch needs to be here
            server = Address.parse(parameters.model.path)
            asked += f"; {server.uri} is asked by `heisd doctor --robot`"
        else:
            from heisd_ros.decoding.modes import load_mode

            load_mode(parameters.decoding.mode)
        if parameters.robot.source != "topic":
            arm = make_reader(parameters, urdf_text(parameters)).kinematics
            for gap in unguarded(parameters, arm):
                typer.echo(f"{file}: {gap}", err=True)
            for pair in touching(parameters, arm):
                typer.echo(f"{file}: may touch each other: {pair}")
            seen = "keys, values, URDF, frames and joints"
        else:
            seen = "keys and values; frames and joints only with --urdf"
    except (HeisdError, ValueError) as error:
        typer.echo(naming(file, error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file}: good ({seen}{asked})")
