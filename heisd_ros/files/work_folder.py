"""The folder of a long job's unfinished work: locked, and resumed by the same job only."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import Error, read_object

PLAN = "plan.json"


class WorkFolder:
    """A folder that holds what a job has done so far, until the job is complete.

    It is a context manager; one process may hold it at a time. A killed job leaves the folder, and
    the same job resumes with what is in it.

    Args:
        folder: Its place; it is made on entering where it does not exist.
        plan: Inputs and options of the job, as JSON values; only the same plan is resumed.
        error: Makes the exception to raise from one line of text.
        job: What the job is called in messages, for instance `build`.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], error: Error, job: str) -> None:
        self.folder = folder
        self._plan = json.loads(json.dumps(plan))
        self._error, self._job = error, job

    def __enter__(self) -> WorkFolder:
        """Locks the folder.

        Raises:
            Exception: What `error` makes, if another process has it, or it is of another plan.
            OSError: It cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_plan()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, BlockingIOError):
                raise self._error(
                    f"{self.folder} is in use: another process {self._job}s"
                ) from error
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def remove(self) -> None:
        """Removes the folder: the job is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_plan(self) -> None:
        path = self.folder / PLAN
        if not path.is_file():
            replace_text(path, json.dumps(self._plan, indent=1))
            return
        found = read_object(path, lambda text: self._error(f"{text}; remove {self.folder}"))
        if found != self._plan:
            keys = found.keys() | self._plan.keys()
            other = sorted(key for key in keys if found.get(key) != self._plan.get(key))
            half = f"half of {'an' if self._job[0] in 'aeiou' else 'a'} {self._job}"
            raise self._error(
                f"{self.folder} is {half} with other {', '.join(other)}; give the same options to "
                "resume it, or remove it to start from the beginning"
            )
