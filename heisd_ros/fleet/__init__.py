"""What robots learn from each other: episodes kept in a journal and shared through a server.

The control loop never waits for the network here. Modules: `collection_layout` (which frames may
be searched together), `recorded_episode` (what is kept of an episode), `episode_recorder`
(collects it), `episode_journal` (stores it), `online_growth` (all of that for a node), `milvus`
(the server) and `link` (the thread that talks to it).
"""
