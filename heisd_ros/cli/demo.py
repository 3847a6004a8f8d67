"""`heisd demo`: both nodes as processes, three episodes, what happens shown live."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heisd_ros.cli.demo_report import Episode, Settings, latency_summary, write_json
from heisd_ros.cli.model_options import ModelOption
from heisd_ros.cli.node_process import (
    ChildProcess,
    NodeProcess,
    environment,
    terminate_as_interrupt,
)
from heisd_ros.cli.refusals import refusing
from heisd_ros.cli.view_server import PAGE

if TYPE_CHECKING:
    from heisd_ros.cli.demo_view import View
    from heisd_ros.nodes.tools.demo_monitor import DemoMonitor

app = typer.Typer(add_completion=False)
REMAPPINGS = {
    "/vla_node/input/image": "/sim_arm_node/image",
    "/vla_node/input/image_wrist": "/sim_arm_node/image_wrist",
    "/vla_node/input/joint_states": "/sim_arm_node/joint_states",
    "/vla_node/input/instruction": "/sim_arm_node/instruction",
    "/sim_arm_node/command/twist": "/vla_node/output/twist",
    "/sim_arm_node/command/gripper": "/vla_node/output/gripper",
}
"""The wiring of the two nodes; the same rules serve both processes."""
PATIENCE = {
    "input.image_timeout_sec": 30.0,
    "input.joint_state_timeout_sec": 30.0,
    "command.max_action_age_sec": 30.0,
    "input.follow_distance_m": 0.0,
}
"""Parameters of the VLA node: a scene that is rendered in software takes its time. To hold the arm
meanwhile would only drop inferences that are half done. A real arm that does not follow, since it
pushes against something, is held until it is activated again; here that episode goes on and fails,
and the next one begins."""
SLOW_MOTION = {"input.max_stamp_age_sec": 0.0, "input.frozen_joint_sec": 0.0}
"""Further ones in real time. A scene that renders more slowly than 20 times a second runs in slow
motion: by the clock its arm does not go as far as it is told to."""
HELD_SEC = 40.0
"""Time for which the arm is held after which an episode failed: longer than any patience. A model
whose answer stands for no action says the same of a picture that stays the same."""
FILMS = (".gif", ".webp")
NEEDED_SUCCESSES = 2
INTERRUPTED = 130


class NodeEndedError(RuntimeError):
    """A node's process ended by itself."""


@app.command()
def demo(
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    task: Annotated[
        list[int] | None, typer.Option(help="Task of each episode, from 0.", show_default="1 3 0")
    ] = None,
    init_state: Annotated[
        list[int] | None,
        typer.Option(help="Initial state of each episode; 40 to 49 are held out from training."),
    ] = None,
    model: ModelOption = "",
    mode: Annotated[
        str, typer.Option(help="Decoding mode: a name in config/modes, or a YAML file.")
    ] = "ar",
    max_steps: Annotated[int, typer.Option(help="Steps after which an episode failed.")] = 300,
    budget_sec: Annotated[float, typer.Option(help="Time for everything, s.")] = 280.0,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="20 steps a second instead of lock-step.")
    ] = False,
    domain_id: Annotated[
        int | None, typer.Option(help="ROS domain.", show_default="a free one", min=0, max=232)
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for pictures and logs.")] = Path("out/demo"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for everything that was shown.")
    ] = None,
    film: Annotated[
        Path | None, typer.Option(help="GIF or WebP file for an animation of the last episode.")
    ] = None,
    view: Annotated[
        bool, typer.Option("--view", help="Show it in a browser as well: `heisd view`.")
    ] = False,
    ros_parameter: Annotated[
        list[str] | None, typer.Option(help="NAME:=VALUE for the nodes, as after -p; repeatable.")
    ] = None,
) -> None:
    """A simulated Panda does what an instruction says, over ROS 2.

    Exit code 0 where at least two episodes succeed (or the only one).
    """
    from heisd_ros.cli.demo_view import make_view
    from heisd_ros.models import find_model
    from heisd_ros.nodes.tools.domain import free_domain_id

    if film is not None and film.suffix.lower() not in FILMS:
        raise typer.BadParameter(f"{film}; accepted: a name that ends in {' or '.join(FILMS)}")
    tasks = tuple(task or (1, 3, 0))
    states = tuple(init_state or (40 + number % 10 for number in range(len(tasks))))
    with refusing():
        settings = Settings(
            suite=suite,
            tasks=tasks,
            init_states=states,
            model=str(find_model(model)) if model and "://" not in model else model,
            mode=mode,
            max_steps=max_steps,
            budget_sec=budget_sec,
            real_time=real_time,
            domain_id=free_domain_id() if domain_id is None else domain_id,
            output=output,
            film=film,
            ros_parameters=tuple(ros_parameter or ()),
            view=view,
        )
    output.mkdir(parents=True, exist_ok=True)
    screen = make_view()
    episodes: list[Episode] = []
    began = time.monotonic()
    try:
        with terminate_as_interrupt():
            code = _run(settings, screen, episodes)
    except KeyboardInterrupt:
        screen.say("interrupted: the arm was stopped")
        code = INTERRUPTED
    finally:
        screen.close()
    won = sum(episode.success for episode in episodes)
    seconds = time.monotonic() - began
    print(f"{won} of {len(tasks)} episodes succeeded in {seconds:.0f} s", flush=True)
    if json_file is not None:
        write_json(json_file, settings, episodes, seconds, code)
    raise typer.Exit(code)


def _run(settings: Settings, view: View, episodes: list[Episode]) -> int:
    """Runs all episodes; fills the list; returns the exit code."""
    os.environ.update(environment({}, settings.domain_id))
    from heisd_ros.nodes.tools.demo_monitor import DemoError, DemoMonitor

    deadline = time.monotonic() + settings.budget_sec
    mode = "real time" if settings.real_time else "lock-step"
    view.say(f"ROS domain {settings.domain_id}, {mode}; loading the scene and the model")
    with ExitStack() as stack:
        monitor = DemoMonitor(settings.domain_id)
        stack.callback(monitor.close)
        # Ends run in reverse: the VLA node first, so that its stop command still finds the arm.
        nodes: list[NodeProcess] = []
        for module, arguments in _node_arguments(settings).items():
            log = settings.output / f"{module.split('.')[-1]}.log"
            nodes.append(NodeProcess(module, arguments, settings.domain_id, log))
            stack.callback(nodes[-1].stop)
        try:
            if settings.view:
                stack.callback(_open_view(settings, view, deadline).stop)
            for number in range(len(settings.tasks)):
                episodes.append(_episode(settings, number, monitor, nodes, view, deadline))
        except (DemoError, NodeEndedError) as error:
            view.say(f"error: {error}")
            for node in nodes:
                if node.ended():
                    view.say(f"{node.name} ended ({node.log}):\n{node.last_lines()}")
            return 1
    needed = min(NEEDED_SUCCESSES, len(settings.tasks))
    return 0 if sum(episode.success for episode in episodes) >= needed else 1


def _open_view(settings: Settings, view: View, deadline: float) -> ChildProcess:
    """Starts `heisd view` beside the nodes, and says where its page is.

    Raises:
        NodeEndedError: It does not start.
    """
    command = [sys.executable, "-m", "heisd_ros.cli.main", "view"]
    log = settings.output / "view.log"
    child = ChildProcess("view", command, log, environment(os.environ, settings.domain_id))
    while not (said := log.read_text(encoding="utf-8", errors="replace")).startswith(PAGE):
        if child.ended() or time.monotonic() > deadline:
            child.stop()
            raise NodeEndedError(f"heisd view did not start: {said.strip()}")
        time.sleep(0.1)
    view.say(said.splitlines()[0])
    return child


def _place(model: str) -> str:
    """The absolute path of a model, or the address of one that is served."""
    return str(Path(model).resolve()) if model and "://" not in model else model


def _node_arguments(settings: Settings) -> dict[str, list[str]]:
    """ROS arguments of each node by its module, in the order of their start."""
    wiring = [part for rule in REMAPPINGS.items() for part in ("-r", ":=".join(rule))]
    arm = {
        "suite": settings.suite,
        "task_index": settings.tasks[0],
        "init_state": settings.init_states[0],
        "lockstep": str(not settings.real_time).lower(),
    }
    vla = {
        "autostart": "true",
        "model.path": f"'{_place(settings.model)}'",
        "decoding.mode": f"'{settings.mode}'",
        "command.stamp": "now" if settings.real_time else "observation",
        **PATIENCE,
        **(SLOW_MOTION if settings.real_time else {}),
    }
    extra = [part for value in settings.ros_parameters for part in ("-p", value)]
    return {
        module: [*wiring, *(p for k, v in values.items() for p in ("-p", f"{k}:={v}")), *extra]
        for module, values in (("sim.sim_arm_node", arm), ("vla_node", vla))
    }


def _episode(
    settings: Settings,
    number: int,
    monitor: DemoMonitor,
    nodes: list[NodeProcess],
    view: View,
    deadline: float,
) -> Episode:
    from heisd_ros.cli.demo_figure import save_film, save_strip

    task, state = settings.tasks[number], settings.init_states[number]
    headline = f"episode {number + 1}/{len(settings.tasks)}: task {task}, initial state {state}"
    _wait_for_nodes(monitor, nodes, deadline)
    monitor.begin_episode(settings.suite, task, state, max(1.0, deadline - time.monotonic()))
    began = moved = time.monotonic()
    now = monitor.snapshot()
    while not now.success and now.step < settings.max_steps and time.monotonic() < deadline:
        monitor.spin(0.1)
        _check(nodes)
        now = monitor.snapshot()
        view.show(headline, now)
        if not now.hold:
            moved = time.monotonic()
        elif time.monotonic() - moved > HELD_SEC:
            break
    seconds = time.monotonic() - began
    picture = None
    frames = monitor.frames()
    if frames:
        picture = settings.output / f"episode_{number + 1}.png"
        verdict = "success" if now.success else "failure"
        title = f"{now.instruction}: {verdict} after {now.step} steps"
        save_strip(picture, title, frames)
        if settings.film is not None and number + 1 == len(settings.tasks):
            save_film(settings.film, now.instruction, frames)
    episode = Episode(
        suite=settings.suite,
        task_index=task,
        init_state=state,
        instruction=now.instruction,
        success=now.success,
        steps=now.step,
        seconds=seconds,
        latency_ms=latency_summary(monitor.latencies),
        rates_hz=now.rates_hz,
        sources=dict(monitor.sources),
        metric=now.metric if math.isfinite(now.metric) else None,
        holds=list(monitor.holds),
        picture=str(picture) if picture else None,
    )
    result = "SUCCESS" if episode.success else "FAILURE"
    view.say(f"{headline}: {result} after {now.step} steps, {seconds:.1f} s: {now.instruction}")
    view.say("  " + ", ".join(f"{count} {source}" for source, count in episode.sources.items()))
    return episode


def _wait_for_nodes(monitor: DemoMonitor, nodes: list[NodeProcess], deadline: float) -> None:
    """Waits until both nodes have spoken, which is when their scene and model are loaded."""
    while not (monitor.arm_seen and monitor.vla_seen):
        if time.monotonic() > deadline:
            raise NodeEndedError("the nodes were not ready in time")
        monitor.spin(0.1)
        _check(nodes)


def _check(nodes: list[NodeProcess]) -> None:
    for node in nodes:
        if node.ended():
            raise NodeEndedError(f"{node.name} ended by itself")
