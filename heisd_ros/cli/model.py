"""`heisd model`: what a checkpoint folder holds, and whether it gives another's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.refusals import refusing
from heisd_ros.errors import HeisdError

if TYPE_CHECKING:
    from heisd_ros.vla.token_model import TokenModel

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def model() -> None:
    """Look at a checkpoint, and verify it against reference outputs."""


@app.command()
@refusing(HeisdError)
def verify(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the model, or of a LoRA adapter.")],
    reference: Annotated[
        Path, typer.Argument(help="Folder of reference.json, reference.npz and the pictures.")
    ],
    path: Annotated[
        str, typer.Option(help="Engine that decodes: plain, static, compiled or transformers.")
    ] = "plain",
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
    from heisd_ros.evaluation import verify as verification

    table = Table("case", "stage", "difference", "accepted", "")
    dtypes = ("float32", "bfloat16") if dtype == "both" else (dtype,)
    failed, done, ties = None, 0, 0
    try:
        for row in verification.verify(
            checkpoint, reference, path=path, device=device, dtypes=dtypes
        ):
            mark = {True: "[green]ok", False: "[red]FAILED", None: "-"}[row.passed]
            cells = (row.case, row.stage, _short(row.measured), _short(row.accepted))
            table.add_row(*(_plain(cell) for cell in cells), mark)
            done += row.passed is not None
            ties += row.passed is None and row.measured.startswith("tie")
            if row.passed is False:
                failed = row
                break
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
    tied = f", {ties} answers in bfloat16 that differ from a tie on" if ties else ""
    typer.echo(
        f"{done} comparisons, all good{tied} (path {path}, {device}, {' and '.join(dtypes)})"
    )


@app.command()
@refusing(HeisdError)
def info(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the model, or of a LoRA adapter.")],
) -> None:
    """Say what a checkpoint is, after checking that every tensor fits its config."""
    from heisd_ros.families.checkpoint import family_of, load_checkpoint

    family = family_of(checkpoint)
    model = load_checkpoint(checkpoint, "meta", any_statistics=True)
    lines = {"family": family, **_common(model), **_own(model, checkpoint)}
    for name, text in lines.items():
        Console().print(f"{name:>12}  {_plain(text)}", highlight=False, soft_wrap=True)


def _common(model: TokenModel) -> dict[str, str]:
    """Returns the lines that all families have."""
    spec, codec = model.spec, model.codec
    rate, known = spec.control_rate_hz, spec.instructions
    network = getattr(model, "model", None) or getattr(model, "network", None)
    actions = "1 action" if codec.horizon == 1 else f"{codec.horizon} actions"
    ends = "" if codec.counted else "at most "
    return {
        "parameters": f"{sum(p.numel() for p in network.parameters()):,} that are run"
        if network is not None
        else "unknown",
        "views": f"{', '.join(spec.views)}; {spec.image_size} px",
        "state": f"{spec.proprio_size} numbers" if spec.proprio_size else "none",
        "instructions": "any" if known is None else f"{len(known)} known",
        "control rate": "unknown" if rate is None else f"{rate:g} Hz",
        "answer": f"{actions} of {codec.dimensions} numbers, in {ends}{codec.max_tokens} tokens",
    }


def _own(model: TokenModel, checkpoint: Path) -> dict[str, str]:
    """What a family says of itself, and its files."""
    from heisd_ros.files.bounded import expanded
    from heisd_ros.vla.checkpoint_files import CheckpointFiles, weight_files

    if not hasattr(model, "describe"):
        return {}
    lines: dict[str, str] = model.describe()
    if not hasattr(model, "convention"):  # no adapter is merged into it
        files = weight_files(expanded(checkpoint))
        size = sum(path.stat().st_size for path in files)
        return {**lines, "files": f"{len(files)} of weights, {size / 1e9:.2f} GB"}
    found = CheckpointFiles.find(checkpoint)
    size = sum(path.stat().st_size for path in found.weights)
    adapter = "none" if found.adapter is None else f"{found.adapter}, merged when it is loaded"
    weights = f"{len(found.weights)} of weights, {size / 1e9:.2f} GB; {found.tokenizer.name}"
    return {**lines, "files": weights, "adapter": adapter}


def _short(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _plain(text: str) -> str:
    """Text in which rich finds no markup."""
    from rich.markup import escape

    return escape(text)
