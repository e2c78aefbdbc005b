"""A slot with a real child, and a short way to run tasks in it."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from compute_service.groups import ProcessGroups
from compute_service.settings import ComputeSettings
from compute_service.slots import Slot
from contracts.job import Progress
from contracts.messages import Finish, Grant

ROOT = Path(__file__).parents[1]
TASK_FOLDERS = (ROOT / "tests" / "integration", ROOT / "tests" / "promises")
PYTHONPATH = os.pathsep.join(map(str, (ROOT, *TASK_FOLDERS)))
PATIENCE_SECONDS = 20.0


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for *condition*, at most *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)


def gone(process_id: int) -> bool:
    return not psutil.pid_exists(process_id) or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE


class Bench:
    """A slot, what it reported on the way, and a short way to run a task in it."""

    def __init__(self, *, tasks: str = "compute_tasks", **settings: Any) -> None:
        self.progress: list[Progress] = []
        self.groups = ProcessGroups()
        self.groups.start()
        chosen = {"slots": 1, "cancel_grace_seconds": 0.5, "memory_poll_seconds": 0.1, **settings}
        self.slot = Slot(
            worker_id="w",
            settings=ComputeSettings(task_modules=tasks, **chosen),
            groups=self.groups,
            on_progress=lambda _grant, progress: self.progress.append(progress),
            environ={**os.environ, "PYTHONPATH": PYTHONPATH, "AMQP_URI": "secret"},
        )

    def run(self, task: str, *, time_limit: float = 60, **params: Any) -> Finish:
        """Run a task to its end."""
        finish = self.slot.run(grant(task, time_limit=time_limit, **params))
        assert finish is not None
        return finish

    def run_aside(self, task: str, **params: Any) -> tuple[threading.Thread, list[Finish | None]]:
        """Run in a thread; returns when the task has said that it has started."""
        finishes: list[Finish | None] = []
        thread = threading.Thread(target=lambda: finishes.append(self.slot.run(grant(task, **params))))
        thread.start()
        wait_until(lambda: self.progress, "the task's first progress")
        return thread, finishes

    def close(self) -> None:
        """End every process."""
        self.slot.close()
        self.groups.stop()


def grant(task: str, *, time_limit: float = 60, **params: Any) -> Grant:
    return Grant(
        pid="p1",
        fence=1,
        task=task,
        task_version="1",
        params=params,
        attempt=1,
        max_attempts=3,
        time_limit=time_limit,
        claim_id="c",
    )
