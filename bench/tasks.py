"""A task for the bench alone; loaded by ``TASK_MODULES=compute_service.tasks,bench.tasks``."""

import time
from typing import Annotated

from pydantic import Field

from compute_service.sdk import task


@task(title="Burn CPU", time_limit=3600, retries=0, example={"milliseconds": 50})
def burn(
    milliseconds: Annotated[int, Field(ge=0, le=600_000, description="CPU time to use up.")],
) -> int:
    """Computes until it has used up so much CPU time, however long that takes; returns the rounds."""
    rounds = 0
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        rounds += 1
    return rounds
