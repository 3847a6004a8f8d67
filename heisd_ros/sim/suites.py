"""The expert's tasks in LIBERO's suites, without loading a simulator."""

PICK_AND_PLACE = {
    "libero_spatial": tuple(range(10)),
    "libero_object": tuple(range(10)),
    "libero_goal": (1, 2, 4, 6, 8),
}
"""The tasks that the expert knows; of libero_goal, those that only put something somewhere."""
