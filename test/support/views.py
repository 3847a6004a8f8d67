"""What a view shows: a screen that remembers, and the content of a recording by Rerun's reader."""

from __future__ import annotations

from collections import defaultdict


class Remembering:
    """Takes what a `Screen` takes; `calls` has the arguments by the name of the method."""

    def __init__(self):
        self.calls = defaultdict(list)

    def __getattr__(self, name):
        return lambda *arguments: self.calls[name].append(arguments)

    @property
    def notes(self):
        return [text for _, text, *_ in self.calls["note"]]

    @property
    def moments(self):
        return [moment for _, moment in self.calls["moment"]]


def read_rrd(path):
    """Rows of a recording by entity: dicts of the components, static ones as well."""
    from rerun.chunk import RrdReader

    found = defaultdict(list)
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        names = [name for name in batch.schema.names if ":" in name]
        for row in batch.select(names).to_pylist():
            found[chunk.entity_path].append({k: v for k, v in row.items() if v is not None})
    return found
