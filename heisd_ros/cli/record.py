"""`heisd record`: a robot's topics to a bag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heisd_ros.robot.cell_parameters import CellParameters

app = typer.Typer(add_completion=False)
NODE = "/vla_node"
TELEMETRY = f"{NODE}/telemetry"


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="The bag: a folder that does not exist yet.")],
    params: Annotated[
        Path | None, typer.Option(help="The robot's YAML: its recording topics are recorded.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="A further topic; may be repeated.")
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="What the robot is told, kept in the bag; empty: as in the YAML.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="Name of the model, kept in the bag; empty: the running node's.")
    ] = "",
    seconds: Annotated[
        float, typer.Option(help="Stop by itself after this time; 0: on Ctrl-C.", min=0.0)
    ] = 0.0,
    compressed: Annotated[bool, typer.Option(help="Compress with zstd.")] = False,
) -> None:
    """Record to mcap until Ctrl-C, with definitions, instruction, YAML and model inside."""
    from heisd_ros.data.recording_notes import INSTRUCTION_NOTE, MODEL_NOTE, PARAMETERS_NOTE
    from heisd_ros.files.bounded import naming, read_text
    from heisd_ros.nodes.process import run_node
    from heisd_ros.nodes.tools.recorder_node import RecorderNode
    from heisd_ros.robot.robot_file import read_cell_file

    topics, notes = list(topic or []), {}
    if params is not None:
        try:
            cell = read_cell_file(params)
        except ValueError as error:
            typer.echo(naming(params, error), err=True)
            raise typer.Exit(1) from error
        topics += _topics(cell)
        instruction = instruction or cell.instruction
        notes[PARAMETERS_NOTE] = read_text(params)
    if instruction.strip():
        notes[INSTRUCTION_NOTE] = instruction.strip()
    if model.strip():
        notes[MODEL_NOTE] = model.strip()
    said: list[str] = []

    def run(node: RecorderNode, executor: object, stopping: object) -> int:
        code = node.run(executor, stopping, seconds)  # type: ignore[arg-type]
        said.append(node.summary())
        return code

    code = run_node(
        lambda: RecorderNode(
            folder, list(dict.fromkeys(topics)), notes, compressed, "" if model.strip() else NODE
        ),
        run,
        [],
    )
    for line in said:
        typer.echo(f"{folder}: {line}")
    raise typer.Exit(code)


def _topics(cell: CellParameters) -> list[str]:
    """What a robot's recordings consist of, and what the node says of itself."""
    recording = cell.recording
    described = [recording.robot_description] if cell.robot.source == "topic" else []
    named = (recording.instruction, recording.marker, recording.action_topic, recording.gripper)
    return [
        *recording.images,
        recording.joint_states,
        *described,
        *(name for name in named if name),
        TELEMETRY,
    ]
