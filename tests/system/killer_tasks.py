"""A task that takes its worker with it."""

import os
import signal

from compute_service.sdk import task


@task(retries=1)
def kills_its_worker() -> None:
    """Kills the worker, not only its own process."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
