"""Makes demonstrations with the scripted expert, in LIBERO's file layout.

Three quarters of the episodes are disturbed: autocorrelated noise and short pushes act on the arm,
while the recorded label stays what the expert would do from there. Every episode starts from a
slightly different arm pose and is recorded on through release and retreat. An episode that fails,
drops the object, or takes too long is not recorded.

With a policy in the lead an episode begins with that policy's own actions, labelled all the same
with what the expert would do, and the expert finishes it (DAgger, arXiv 1011.0686): so the states
where a trained policy stalls come with the way out of them. Or the policy leads until it stalls,
its own actions are recorded, and the expert takes over as a person would (HG-DAgger, arXiv
1810.02890): the expert's steps are marked as a person's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.marks import Outcome
from heisd_ros.sim.curve_expert import candidates, expert_of
from heisd_ros.sim.scene import OPEN_GRIPPER, RENDERING, LiberoScene
from heisd_ros.sim.stall import Stall

DEMONSTRATION_STATES = range(40)
"""Initial states that may be used for training."""
HELD_OUT_STATES = range(40, 50)
"""Initial states for evaluation only, never rendered for training."""
MAX_STEPS = 170
_VIEWS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}


@dataclass(frozen=True)
class Disturbance:
    """Disturbance of the arm in an episode, in action units.

    Attributes:
        noise: Standard deviation of the autocorrelated noise on the translation.
        push_rate: Probability that a push starts at a step.
        push: Size of a push.
        start_steps: At most so many random steps before the episode.
    """

    noise: float = 0.2
    push_rate: float = 0.015
    push: float = 0.6
    start_steps: int = 10

    def scaled(self, share: float) -> Disturbance:
        """Returns the disturbance scaled by a factor."""
        return replace(self, noise=self.noise * share, push=self.push * share)


CALM = Disturbance(noise=0.0, push_rate=0.0)
_SLOW_SHARE = 0.5
"""Share of the usual disturbance in slow tasks, whose own motion is as large as the noise."""


def disturbance_of(scene: LiberoScene) -> Disturbance:
    """Returns the disturbance of a scene's task."""
    return Disturbance() if scene.curve is None else Disturbance().scaled(_SLOW_SHARE)


LeadPolicy = Callable[[LiberoScene], np.ndarray]
"""Maps a scene to the (7,) action of a trained policy."""
LEAD_STEPS = (20, 160)
"""Least and largest number of steps for which a policy leads an episode."""
MOST_LEAD_STEPS = 300
"""Largest number of steps for which it leads until it stalls."""


def collect_task(
    suite: str,
    task_index: int,
    folder: Path,
    episodes: int,
    *,
    first_seed: int = 0,
    stride: int = 2,
    image_size: int = 128,
    lead: LeadPolicy | None = None,
    until_stall: bool = False,
    on_episode: Callable[[int], None] = lambda recorded: None,
) -> Path:
    """Records demonstrations of one task until its file holds `episodes` of them.

    Args:
        suite: One of `heisd_ros.sim.scene.SUITES`.
        task_index: Task of the suite.
        folder: Where `<task>_demo.hdf5` is written; an existing file is continued.
        episodes: Number of episodes that the file shall hold.
        first_seed: Seed of the file's first episode; the next ones count up.
        stride: Record (and render) every n-th control step.
        image_size: Height and width of the images, pixels.
        lead: A policy whose own actions begin each episode; None: the expert alone.
        until_stall: Whether the policy leads until it stalls, and its own actions are recorded.
        on_episode: Called with the number of recorded episodes after each.

    Returns:
        The file.

    Raises:
        SceneError: No such task, or no scripted expert knows it.
    """
    scene = LiberoScene(suite, task_index, image_size=image_size)
    path = folder / f"{scene.task_name}_demo.hdf5"
    environment = {"suite": suite, "task_index": task_index, "rendering": RENDERING}
    writer = LiberoWriter(path, scene.instruction, scene.bddl_path.name, environment)
    seeds = writer.seeds()
    recorded, seed = len(seeds), max(seeds, default=first_seed - 1) + 1
    on_episode(recorded)
    grasp = writer.grasp_candidate
    if recorded < episodes and grasp is None:
        grasp = writer.grasp_candidate = choose_grasp(scene)
    failures = 0
    while recorded < episodes:
        # In confined spaces such as a drawer, the task limits the disturbance.
        disturbance = disturbance_of(scene).scaled(0.7**failures)
        stall = Stall() if until_stall else None
        result = record_episode(scene, grasp or 0, seed, stride, disturbance, lead, stall)
        failures = 0 if result is not None else failures + 1
        if result is not None:
            episode, states = result
            writer.add(episode, seed, states, scene.model_xml())
            recorded += 1
            on_episode(recorded)
        seed += 1
    scene.close()
    return path


def choose_grasp(scene: LiberoScene, trials: int = 8) -> int:
    """Returns the first grasp candidate that solves all trials, else the one that solves most.

    One grasp a task keeps the demonstrations consistent: two ways to take the same object from the
    same view average to none.
    """
    scene.reset(DEMONSTRATION_STATES[0])
    solved: list[int] = []
    if candidates(scene) == 1:
        return 0
    for candidate in range(candidates(scene)):
        best, failures = max(solved, default=0), 0
        for trial in range(trials):
            failures += run_expert(scene, candidate, seed=trial) is None
            if trials - failures <= best:
                break
        solved.append(trials - failures)
        if failures == 0:
            break
    return int(np.argmax(solved))


def run_expert(
    scene: LiberoScene,
    grasp_index: int,
    seed: int,
    on_step: Callable[[np.ndarray], None] = lambda action: None,
    state: int | None = None,
    disturbance: Disturbance | None = None,
    lead: LeadPolicy | None = None,
    drops_fail: bool = True,
    stall: Stall | None = None,
) -> int | None:
    """Runs the expert through one disturbed episode.

    Args:
        scene: The scene; it is reset.
        grasp_index: Which grasp candidate to use.
        seed: Decides initial state, start pose and disturbance; every fourth episode is calm.
        on_step: Called before each step with the expert's (7,) clean action, or with that of a
            policy that leads until it stalls.
        state: Initial state; None lets the seed choose among `DEMONSTRATION_STATES`.
        disturbance: What acts on the episodes that are not calm; None takes the task's.
        lead: A policy that acts for the first steps, as many as the seed says of `LEAD_STEPS`.
        drops_fail: Whether an object dropped on the way ends the episode; else the expert takes it
            up again, which is no demonstration to learn from.
        stall: Ends the lead, instead of the seed; the expert acts from then on.

    Returns:
        The number of steps until the object was placed and the hand withdrawn, or None if that
        failed, or if the expert dropped the object or took more than `MAX_STEPS`, twice as many
        after a stall.
    """
    rng = np.random.default_rng([scene.task_index, seed])
    disturbance = CALM if seed % 4 == 0 else disturbance or disturbance_of(scene)
    scene.reset(DEMONSTRATION_STATES[seed % len(DEMONSTRATION_STATES)] if state is None else state)
    expert = expert_of(scene, grasp_index, corrects=stall is not None)
    # A person who takes over may have to take the object up twice.
    most = MAX_STEPS if stall is None else 2 * MAX_STEPS
    _wander(scene, rng, disturbance)
    noise, push, held = np.zeros(6), np.zeros(6), False
    lead_steps = 0 if lead is None else int(rng.integers(*LEAD_STEPS))
    if lead is not None and stall is not None:
        lead_steps = MOST_LEAD_STEPS
    for step in count():
        if stall is not None and step < lead_steps and stall.note(scene.tip_pose().position, step):
            lead_steps = step
        if stall is not None and step == lead_steps:
            stall.at = step
        if step >= lead_steps + most:
            return None
        action = expert.action()
        led = lead(scene) if lead is not None and step < lead_steps else None
        on_step(action if led is None or stall is None else led)
        if led is not None:
            scene.step(led)
            if expert.finished():
                return step + 1 if scene.success() else None
            continue
        noise = 0.8 * noise + 0.6 * disturbance.noise * rng.normal(size=6) * _TURN_SHARE
        if rng.random() < disturbance.push_rate:
            direction = rng.normal(size=3)
            push = np.zeros(6)
            push[:3] = disturbance.push * direction / np.linalg.norm(direction)
        elif rng.random() < 0.2:
            push = np.zeros(6)
        scene.step(np.append(np.clip(action[:6] + noise + push, -1.0, 1.0), action[6]))
        held = held or expert.held()
        if drops_fail and held and expert.lost() and not expert.placed():
            return None
        if expert.finished():
            return step + 1 if scene.success() else None
    raise AssertionError("it counts without end")


_TURN_SHARE = np.array([1.0, 1.0, 1.0, 0.3, 0.3, 0.3])


def _wander(scene: LiberoScene, rng: np.random.Generator, disturbance: Disturbance) -> None:
    """Moves the arm a little from its rest pose, mostly sideways."""
    drift = rng.uniform(-0.5, 0.5, size=6) * np.array([1, 1, 0.5, 0.1, 0.1, 0.1])
    for _ in range(rng.integers(disturbance.start_steps + 1)):
        scene.step(np.append(drift, OPEN_GRIPPER))


def record_episode(
    scene: LiberoScene,
    grasp_index: int,
    seed: int,
    stride: int,
    disturbance: Disturbance,
    lead: LeadPolicy | None = None,
    stall: Stall | None = None,
) -> tuple[Episode, np.ndarray] | None:
    """Records one episode; None if the expert failed in it.

    Returns:
        The episode and its (T, S) simulator states.
    """
    rows: list[dict[str, np.ndarray]] = []
    steps = 0
    task = expert_of(scene, grasp_index).task

    def record(action: np.ndarray) -> None:
        nonlocal steps
        if steps % stride == 0:
            rows.append(
                {
                    "actions": action,
                    "joint_positions": scene.joint_positions(),
                    "joint_velocities": scene.joint_velocities(),
                    "gripper_opening": np.array(scene.gripper_opening()),
                    "landmarks": np.concatenate(
                        [scene.body(task.item).centre, scene.region_position(task.target)]
                    ),
                    "states": scene.simulator_state(),
                }
            )
        steps += 1

    # A person who drops the object takes it up again: the way out of the stall is worth recording.
    finished = run_expert(
        scene, grasp_index, seed, record, disturbance=disturbance, lead=lead, stall=stall,
        drops_fail=stall is None,
    )  # fmt: skip
    if finished is None:
        return None
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    # Rendering costs more than the physics, so only what succeeded is drawn, from its states.
    pictures = [scene.images_of(state) for state in columns["states"]]
    episode = Episode(
        instruction=scene.instruction,
        images={v: np.stack([images[c] for images in pictures]) for v, c in _VIEWS.items()},
        actions=columns["actions"],
        joint_positions=columns["joint_positions"],
        joint_velocities=columns["joint_velocities"],
        gripper_opening=columns["gripper_opening"],
        landmarks=columns["landmarks"],
        init_state=DEMONSTRATION_STATES[seed % len(DEMONSTRATION_STATES)],
        stride=stride,
        person=None if stall is None else _persons(stall, steps)[::stride],
        outcome=Outcome.SUCCESS.value,
    )
    return episode, columns["states"]


def _persons(stall: Stall, steps: int) -> np.ndarray:
    """Returns in which steps (T,) the expert had taken over from the policy."""
    return np.arange(steps) >= (steps if stall.at is None else stall.at)
