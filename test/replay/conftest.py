"""Fixtures of the replay tests."""

from __future__ import annotations

import pytest
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import save_tiny_checkpoint


@pytest.fixture(scope="session")
def equipped(tmp_path_factory):
    """Folder of a tiny random model with a database and a drafter."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("replayed") / "model")
    save_tiny_parts(folder)
    return folder
