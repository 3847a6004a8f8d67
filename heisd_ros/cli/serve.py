"""`heisd serve`: policy and decoding behind a websocket, for nodes on other machines."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from heisd_ros.cli.model_options import DeviceOption, DtypeOption, UnnormKeyOption
from heisd_ros.cli.refusals import failing

app = typer.Typer(add_completion=False)

LEAVE_SEC = 5.0
"""How long a step that runs is waited for at the end."""


@app.command()
def serve(
    model: Annotated[
        str, typer.Option(help="Folder of the checkpoint; empty: the shipped model.")
    ] = "",
    mode: Annotated[str, typer.Option(help="Decoding mode: a name in config/modes, or YAML.")] = (
        "ar"
    ),
    database: Annotated[
        str, typer.Option(help="Folder of the database; empty: in the checkpoint's.")
    ] = "",
    drafter: Annotated[
        str, typer.Option(help="Folder of the drafter; empty: in the checkpoint's.")
    ] = "",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    threads: Annotated[int, typer.Option(min=0, help="Of a CPU; 0: one less than cores.")] = 0,
    protocol: Annotated[
        str, typer.Option(help="As the node's parameter 'model.protocol'; empty: nothing.")
    ] = "",
    unnorm_key: UnnormKeyOption = "",
    action_space: Annotated[
        str,
        typer.Option(
            help="As the node's parameter 'model.action_space', for a model that does not say it: "
            "end_effector, joint_velocity or joint_position."
        ),
    ] = "",
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0: all, with a token in HEISD_MODEL_TOKEN."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8000,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM of the certificate: serves wss:// with it.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="PEM of its key, where it is in another file.")
    ] = None,
    clients: Annotated[
        int, typer.Option(min=1, max=64, help="At one time; more than one with 'ar' only.")
    ] = 1,
) -> None:
    """Serve a policy by openpi's websocket protocol. See docs/serving.md.

    A token that clients have to show is read from the environment variable HEISD_MODEL_TOKEN.
    """
    from heisd_ros.control.policy import load_policy
    from heisd_ros.control.remote_policy import layout_of
    from heisd_ros.control.session import warm_up
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.kinematics.pose import JOINT_SPACES
    from heisd_ros.robot.declare import from_values
    from heisd_ros.robot.parameters import VlaNodeParameters
    from heisd_ros.serving.address import is_address, own_token
    from heisd_ros.serving.server import ModelServer, tls_context
    from heisd_ros.vla.checkpoint_files import fingerprint
    from heisd_ros.vla.device_memory import device_memory_errors

    with failing(), device_memory_errors(device, "the model"):
        if is_address(model):
            raise ValueError(f"--model is {model!r}; accepted: a folder of this machine")
        if clients > 1 and load_mode(mode).propose != "none":
            raise ValueError(
                f"--clients is {clients}; accepted with --mode {mode}: 1, as it remembers its steps"
            )
        token = own_token()
        if key and not certificate:
            raise ValueError(f"--key is {key}; accepted: with --certificate, or it serves ws://")
        parameters = from_values(
            VlaNodeParameters,
            {
                "model.path": model,
                "model.device": device,
                "model.dtype": dtype,
                "model.unnorm_key": unnorm_key,
                "model.protocol": protocol,
                "model.action_space": action_space,
                **({"command.interface": action_space} if action_space in JOINT_SPACES else {}),
                "model.threads": threads,
                "decoding.mode": mode,
                "decoding.database": database,
                "decoding.drafter": drafter,
            },
        )
        policy = load_policy(parameters)
        warm_ms = warm_up(policy, policy.decoder)
        server = ModelServer(
            policy.decoder,
            layout_of(policy, mode, fingerprint(policy.folder)),
            plain=policy.plain,
            host=host,
            port=port,
            token=token,
            tls=tls_context(str(certificate), str(key) if key else "") if certificate else None,
            clients=clients,
            say=typer.echo,
        )
    typer.echo(f"{policy.folder} in mode {mode}, warm step {warm_ms:.0f} ms, at {server.uri}")
    _run(server)


def _run(server: Any) -> None:
    """Serves until a signal; a step that hangs is left behind."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        server.run()
    except KeyboardInterrupt:
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        closing.join(LEAVE_SEC)
        if closing.is_alive():
            os._exit(1)  # the interpreter would wait for the thread of that step
