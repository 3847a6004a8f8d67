"""The command `heisd`. Sub-commands are imported when they are called, so that help is quick."""

from __future__ import annotations

import importlib
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "check": "Validate a robot's parameter file without ROS running.",
    "doctor": "Find what will not work on this machine and in a running system, and why.",
    "demo": "A simulated Panda does what an instruction says, over ROS 2.",
    "demos": "Record demonstrations with the scripted expert.",
    "relabel": "Ask the expert again in recorded demonstrations.",
    "record": "Record a robot's topics to a bag, with the instruction and the settings.",
    "data": "Look at recordings as they would be read.",
    "db": "Build, change and look at the retrieval database.",
    "train": "Train the models that ship with the package.",
    "calibrate": "Find how far retrieved actions may be executed unverified.",
    "model": "Look at a checkpoint, and verify it against reference outputs.",
    "eval": "Measure success rate and latency of decoding modes on held-out initial states.",
    "replay": "Replay a recording through the node's inputs and decoding.",
    "view": "Look at the robot in a browser: live, a recording, or an evaluation's episodes.",
    "play": "Publish a recording over DDS, with /clock.",
    "bench": "Measure what decoding costs, and the node beside it.",
    "serve": "Run policy and decoding for a robot on another machine, without ROS.",
    "predictor": "Fit what predicts that a draft passes, from the steps of an evaluation.",
    "report": "Write a page with the results of evaluations.",
}
"""Sub-command `name` lives in the module `heisd_ros.cli.name`, which has a typer.Typer `app`."""

ROS = re.compile(r"(rclpy|rosidl_\w+|\w+_(msgs|srvs|interfaces)|heisd_ros\.(msg|action))(\..*)?")
"""Modules that come with ROS 2, or with the messages that are built for it."""


class LazyGroup(TyperGroup):
    """Loads the module of a sub-command only when that sub-command is wanted."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all sub-commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The sub-command; while help is listed, its name and help line alone."""
        if cmd_name not in COMMANDS:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name])
        module = importlib.import_module(f"heisd_ros.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Runs the sub-command; says so where it needs ROS and there is none."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if not ROS.fullmatch(error.name or ""):
                raise
            words = "source the setup.bash of ROS 2 and of the workspace with heisd_ros"
            typer.echo(f"this command needs ROS 2, and there is no {error.name}: {words}", err=True)
            raise typer.Exit(1) from error

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help page with all sub-commands."""
        self._listing = True
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="heisd", cls=LazyGroup, no_args_is_help=True, pretty_exceptions_show_locals=False
)


@app.callback()
def heisd() -> None:
    """Vision-language-action control of robot arms over ROS 2."""


if __name__ == "__main__":
    app()
