"""Texts that a recorder puts into a bag: what the robot was told, its file, the model."""

from __future__ import annotations

from heisd_ros.data.bag import Bag
from heisd_ros.data.tracks import TEXT

INSTRUCTION_NOTE, PARAMETERS_NOTE = "instruction", "parameters"
MODEL_NOTE, MODE_NOTE = "model", "mode"
_PROMPTS = (INSTRUCTION_NOTE, "lerobot.operator_prompt")
"""Names under which recorders note the instruction: ours, and rosetta's."""
_TOPIC = "/heisd/note/"


def note_topic(name: str) -> str:
    """Returns the topic that repeats a recorder's note, for bags without metadata.yaml."""
    return f"{_TOPIC}{name}"


def read_notes(bag: Bag) -> dict[str, str]:
    """Reads a bag's notes by name: those of metadata.yaml, and those on topics beside them."""
    topics = [
        topic for topic, kind in bag.topics.items() if topic.startswith(_TOPIC) and kind == TEXT
    ]
    missing = [topic for topic in topics if topic.removeprefix(_TOPIC) not in bag.custom]
    found = dict(bag.custom)
    for message in bag.messages(missing) if missing else ():
        found[message.topic.removeprefix(_TOPIC)] = str(message.message.data)
    return found


def noted_instruction(notes: dict[str, str]) -> str:
    """Returns what the robot was told; empty if it is not noted."""
    return next((notes[name].strip() for name in _PROMPTS if notes.get(name, "").strip()), "")
