"""What robots learn from each other: episodes kept in a journal, and shared through a server.

Nothing here waits for the network on behalf of the control loop. Modules: `layout` (whose frames
fit whose), `episode` (what is kept of one), `recorder` (collecting it), `journal` (keeping it),
`growth` (all of that for a node), `milvus` (the server) and `link` (the thread that talks to it).
"""
