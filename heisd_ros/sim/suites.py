"""The tasks that have a scripted expert, by suite, without loading a simulator."""

SCRIPTED = {
    "libero_spatial": tuple(range(10)),
    "libero_object": tuple(range(10)),
    "libero_goal": (1, 2, 4, 6, 8),
    "heisd_curves": (0, 1, 2),
}
"""Of libero_goal, those that only put something somewhere."""
_MANY = {"libero_90": 90}
"""Number of tasks of the suites that have not ten, nor are listed above."""


def tasks_of(suite: str, scripted: bool = True) -> tuple[int, ...]:
    """Returns the tasks of a suite; of those with a scripted expert these alone, if so asked."""
    if scripted and suite in SCRIPTED:
        return SCRIPTED[suite]
    return tuple(range(_MANY.get(suite, 10)))
