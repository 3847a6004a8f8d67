"""The inference thread and restarts."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from heisd_ros.control.worker import InferenceWorker


class Runner:
    """Answers at once with the set that it was given."""

    def infer(self, observation, instruction, generation, now):
        return SimpleNamespace(generation=generation, observation=observation)

    def settle(self, inference):
        return None


def test_a_set_that_was_taken_before_a_restart_is_not_acted_on_after_it():
    ready, done, sets, answered = threading.Event(), threading.Event(), ["before", "after"], []

    def take(timeout_sec):
        ready.wait(60.0)
        taken = sets.pop(0) if sets else None
        if taken == "before":  # the executor acts between the taking and the inference
            worker.restart("go")
        return taken

    def on_done():
        answered.append(worker.collect().observation)
        if answered[-1] == "after":
            done.set()

    worker = InferenceWorker(Runner(), take, on_done)
    worker.restart("go")
    ready.set()
    assert done.wait(60.0) and worker.stop(60.0)
    assert answered == ["after"]
