"""`heisd model`: what a checkpoint folder holds, and whether it gives another's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from heisd_ros.families.openvla.vla import VLA

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def model() -> None:
    """Look at a checkpoint, and verify it against reference outputs."""


@app.command()
def verify(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the model, or of a LoRA adapter.")],
    reference: Annotated[
        Path, typer.Argument(help="Folder of reference.json, reference.npz and the pictures.")
    ],
    path: Annotated[
        str, typer.Option(help="Way of decoding; heisd_ros/evaluation/decode_paths.py lists them.")
    ] = "eager",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[
        Literal["both", "float32", "bfloat16"],
        typer.Option(help="float32: every stage; bfloat16: tokens."),
    ] = "both",
) -> None:
    """Compare a checkpoint with the outputs of another implementation, stage by stage.

    Prompt ids, pixels (bit for bit), towers, projector, logits of each step, tokens, actions. Stops
    at the first comparison that fails, with exit code 1.
    """
    from heisd_ros.errors import HeisdError
    from heisd_ros.evaluation import verify as verification

    table = Table("case", "stage", "difference", "accepted", "")
    dtypes = ("float32", "bfloat16") if dtype == "both" else (dtype,)
    failed, done = None, 0
    try:
        for row in verification.verify(
            checkpoint, reference, path=path, device=device, dtypes=dtypes
        ):
            mark = {True: "[green]ok", False: "[red]FAILED", None: "-"}[row.passed]
            cells = (row.case, row.stage, _short(row.measured), _short(row.accepted))
            table.add_row(*(_plain(cell) for cell in cells), mark)
            done += row.passed is not None
            if row.passed is False:
                failed = row
                break
    except HeisdError as error:
        raise typer.BadParameter(str(error)) from error
    finally:
        if table.row_count:
            Console().print(table)
    if failed is not None:
        place = f"{failed.case}: {failed.stage}"
        typer.echo(f"{place}: {failed.measured}; accepted: {failed.accepted}", err=True)
        raise typer.Exit(1)
    if done == 0:
        typer.echo(f"{reference} holds nothing to compare", err=True)
        raise typer.Exit(1)
    typer.echo(f"{done} comparisons, all good (path {path}, {device}, {' and '.join(dtypes)})")


@app.command()
def info(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the model, or of a LoRA adapter.")],
) -> None:
    """Say what a checkpoint is, after checking that every tensor fits its config."""
    from heisd_ros.errors import HeisdError
    from heisd_ros.families.openvla.checkpoint import load_checkpoint
    from heisd_ros.vla.checkpoint_files import CheckpointFiles

    try:
        files = CheckpointFiles.find(checkpoint)
        vla = load_checkpoint(checkpoint, "meta", any_statistics=True)
    except HeisdError as error:
        raise typer.BadParameter(str(error)) from error
    size = sum(path.stat().st_size for path in files.weights)
    adapter = "none" if files.adapter is None else f"{files.adapter}, merged when it is loaded"
    console = Console()
    for name, text in (
        *_network(vla),
        ("files", f"{len(files.weights)} of weights, {size / 1e9:.2f} GB; {files.tokenizer.name}"),
        ("adapter", adapter),
        ("statistics", ", ".join(sorted(vla.statistics))),
    ):
        console.print(f"{name:>12}  {_plain(text)}", highlight=False, soft_wrap=True)


def _network(vla: VLA) -> list[tuple[str, str]]:
    config, language = vla.config, vla.config.language
    parameters = sum(parameter.numel() for parameter in vla.model.parameters())
    towers = (f"{t.blocks_run} blocks of {t.width}, {t.image_size} px" for t in config.towers)
    known = "any" if config.instructions is None else f"{len(config.instructions)} known"
    rate = "unknown" if config.control_rate_hz is None else f"{config.control_rate_hz:g} Hz"
    return [
        ("parameters", f"{parameters:,} that are run"),
        ("towers", "; ".join(towers)),
        ("language", f"{language.num_hidden_layers} layers of {language.hidden_size}"),
        ("views", ", ".join(config.views)),
        ("prompt", repr(config.prompt)),
        ("instructions", known),
        ("control rate", rate),
    ]


def _short(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _plain(text: str) -> str:
    """Text in which rich finds no markup."""
    from rich.markup import escape

    return escape(text)
