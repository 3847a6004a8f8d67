"""Comparisons of training runs."""

from __future__ import annotations

from operator import attrgetter

import torch


def tensors(trainer, modules):
    """Everything that decides how a run goes on: of its modules, by name, and of the optimiser."""
    state = {
        f"{module}.{k}": v
        for module in modules
        for k, v in attrgetter(module)(trainer).state_dict().items()
    }
    for number, moments in trainer.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
    return state


def assert_same_state(left, right, modules):
    a, b = tensors(left, modules), tensors(right, modules)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert left.schedule.get_last_lr() == right.schedule.get_last_lr()
    assert (left.step, left.losses) == (right.step, right.losses)
