"""Names of the engines (`engines.make_engine`), separate since settings need no PyTorch."""

from __future__ import annotations

from typing import Literal

EngineChoice = Literal["auto", "plain", "static", "compiled"]
