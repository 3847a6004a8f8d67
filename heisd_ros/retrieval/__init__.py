"""Demonstrated frames to draft from: a database searched by the model's own visual features.

Modules: `entries` (what is stored of a frame, and what a search returns), `projection`, `quantiser`
and `key_space` (how keys are stored), `index` (faiss), `shard` (one task), `arrays` and `manifest`
(the folder), `database` (opening one) and `writer` (writing one).
"""
