"""The inference thread: always the newest observation, one result at a time. Imports no ROS.

Callbacks of an executor must stay short, so the model runs here. Results are not acted on in this
thread: they wait in a slot until the node's executor, woken by `on_done`, collects them. All
publishing then happens in one thread, and a stop command can never be overtaken by a late action.
An answer of several control steps pauses the worker until it is asked for the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from heisd_ros.control.inference import Inference, PolicyRunner
from heisd_ros.control.inputs import NANOSECONDS, ObservationSet


class InferenceWorker:
    """Runs a policy on the newest observation set in a thread of its own; `now` is steady, ns.

    Args:
        runner: Maps a set to a result.
        take: Waits up to the given seconds for a set that was not taken yet.
        on_done: Called in the worker's thread when a result is ready.
        pauses: Whether the worker waits to be asked after a result, as after one that lasts for
            several control steps.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        take: Callable[[float], ObservationSet | None],
        on_done: Callable[[], None],
        pauses: Callable[[Inference], bool] = lambda inference: False,
    ) -> None:
        self._runner, self._take, self._on_done = runner, take, on_done
        self._pauses = pauses
        self._lock = threading.Lock()
        self._instruction = ""
        self._generation = 0
        self._done: Inference | None = None
        self._enabled = threading.Event()
        self._asked = threading.Event()
        self._asked.set()
        self._idle = threading.Event()
        self._idle.set()
        self._inferring_since: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def restart(self, instruction: str) -> None:
        """Works on this instruction from now on; results of earlier work are dropped.

        Args:
            instruction: The instruction; empty: the worker pauses.
        """
        with self._lock:
            self._generation += 1
            self._instruction, self._done = instruction, None
            self._asked.set()
        if instruction:
            self._enabled.set()
        else:
            self._enabled.clear()

    def end_episode(self, success: bool) -> None:
        """Tells the decoder, before its next step, how the episode ended."""
        with self._lock:
            self._generation += 1
            self._done = None
            self._asked.set()
            self._runner.end_episode(success)

    def note_hold(self) -> None:
        """Tells the decoder, with its next observation, that the arm was held."""
        self._runner.note_hold()

    def ask(self) -> None:
        """Asks for the next result after one that paused the worker.

        While a result waits to be collected nothing is asked for: it is the next one.
        """
        with self._lock:
            if self._done is None:
                self._asked.set()

    def collect(self) -> Inference | None:
        """Returns the newest result not collected yet; None if there is none."""
        with self._lock:
            done, self._done = self._done, None
            return done

    def inferring_sec(self, now: int) -> float:
        """Returns how long the running inference has taken so far, s; 0 if none runs."""
        since = self._inferring_since
        return 0.0 if since is None else (now - since) / NANOSECONDS

    def wait_idle(self, timeout_sec: float) -> bool:
        """Waits until no inference runs, but no longer than this.

        Returns:
            Whether none runs.
        """
        return self._idle.wait(timeout_sec)

    def stop(self, timeout_sec: float) -> bool:
        """Ends the thread; a model that does not return in time is left behind.

        Returns:
            Whether the thread ended.
        """
        self.restart("")
        self._stopping.set()
        self._enabled.set()
        self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._enabled.wait()
            if not self._asked.wait(0.1):
                continue
            # Read before the set is taken: a restart may come between the two.
            with self._lock:
                generation, instruction = self._generation, self._instruction
            observation = self._take(0.1)
            if observation is None or not instruction or generation != self._generation:
                continue
            self._idle.clear()
            self._work(observation, instruction, generation)
            self._idle.set()

    def _work(self, observation: ObservationSet, instruction: str, generation: int) -> None:
        now = self._inferring_since = time.monotonic_ns()
        inference = self._runner.infer(observation, instruction, generation, now)
        self._inferring_since = None
        if self._offer(inference):
            failed = self._runner.settle(inference)
            if failed is not None:
                self._offer(failed)

    def _offer(self, inference: Inference) -> bool:
        """Puts a result where the executor collects it, unless its generation is over."""
        with self._lock:
            if inference.generation != self._generation:
                return False
            self._done = inference
            if self._pauses(inference):
                self._asked.clear()
        self._on_done()
        return True
