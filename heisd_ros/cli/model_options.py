"""Options that every command has which runs a model on LIBERO."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

ModelOption = Annotated[
    str,
    typer.Option(help="A shipped model by name (panda, reason, fast), or a folder; empty: panda."),
]
SuiteOption = Annotated[
    str, typer.Option(help="LIBERO suite, by which a protocol chooses the statistics.")
]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help="Data convention and episodes: a name in config/protocols, a YAML file, or heisd; "
        "empty: openvla_libero for a checkpoint of OpenVLA's own."
    ),
]
UnnormKeyOption = Annotated[
    str, typer.Option(help="Action statistics of the checkpoint; empty: by the protocol.")
]
DeviceOption = Annotated[str, typer.Option(help="Device of the model: cpu, cuda or cuda:N.")]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option(help="Number format of the weights.")
]
WorkersOption = Annotated[
    int,
    typer.Option(
        help="Processes, which share the cores between them; 0: one a core, one with a GPU.", min=0
    ),
]
