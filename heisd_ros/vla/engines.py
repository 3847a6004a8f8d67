"""Makes the engine that runs a model's passes, by name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from heisd_ros.errors import EngineError
from heisd_ros.vla.engine import Engine, Network, PlainEngine
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.static_engine import StaticEngine

COMPILER = "inductor"
"""PyTorch's own backend of ``torch.compile``; on a CPU it writes C++."""
_CPP = ("g++", "clang++", "c++")


def make_engine(model: Network, choice: EngineChoice, prompts: Sequence[int] = ()) -> Engine:
    """Makes an engine for a model.

    Args:
        model: the network.
        choice: ``plain``; ``static``: fixed shapes, as CUDA graphs on a GPU; ``compiled``: the
            same, compiled, which takes minutes; ``auto``: static on a GPU, else plain.
        prompts: numbers of columns of expected prompts, for which ``compiled`` compiles the plain
            loop now, and passes with drafts at the first prompt that brings or announces any; of
            other lengths they run as they are.

    Raises:
        EngineError: there is no C++ compiler, which ``compiled`` needs.
    """
    device = model.language_model.lm_head.weight.device.type
    if choice == "plain" or (choice == "auto" and device != "cuda"):
        return PlainEngine(model)
    if choice != "compiled":
        return StaticEngine(model)
    if device == "cpu" and not any(map(shutil.which, _CPP)):
        raise EngineError(
            f"engine 'compiled' needs a C++ compiler ({', '.join(_CPP)}) on a CPU; none was found: "
            "install one, or choose engine 'plain'"
        )
    engine = StaticEngine(model, compiler=COMPILER, prompts=prompts)
    engine.prepare(prompts)
    return engine
