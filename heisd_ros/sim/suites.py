"""The tasks that have a scripted expert, by suite, without loading a simulator."""

SCRIPTED = {
    "libero_spatial": tuple(range(10)),
    "libero_object": tuple(range(10)),
    "libero_goal": (1, 2, 4, 6, 8),
    "heisd_curves": (0, 1, 2),
}
"""Of libero_goal, those that only put something somewhere."""
