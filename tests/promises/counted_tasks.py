"""Tasks that leave a trace outside the system; loaded through TASK_MODULES."""

import os
import time
from pathlib import Path

from compute_service.sdk import Job, task


@task(retries=4, example={"file": "/dev/null"})
def counted(file: str, job: Job, seconds: float = 0, gate: str | None = None) -> int:
    """Takes *seconds*, its first attempt until the file *gate* is there; each start and each end is a line of *file*."""

    def leave(word: str) -> None:
        with Path(file).open("a") as trace:
            trace.write(f"{word} {job.pid} {job.attempt} {os.getpid()}\n")

    leave("start")
    time.sleep(seconds)
    while job.attempt == 1 and gate is not None and not Path(gate).exists():
        time.sleep(0.05)
    leave("end")
    return job.attempt
