"""Waits, and says how long it still will."""

import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from compute_service.sdk import Job, task

MAX_WAIT_SECONDS = 24 * 3600
REPORT_EVERY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Waited:
    """The message, and how long it took."""

    message: str
    waited_seconds: float


@task(time_limit=MAX_WAIT_SECONDS + 60, example={"message": "Your table is ready.", "seconds": 5})
def wait(
    message: Annotated[str, Field(max_length=1000, description="What comes back in the end.")],
    seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait.")],
    job: Job,
) -> Waited:
    """Waits some seconds, reports its progress every second, and gives the message back."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds:
        job.progress(round(waited, 1), seconds, f"waiting, {seconds - waited:.0f} s to go", stage="waiting")
        time.sleep(min(REPORT_EVERY_SECONDS, seconds - waited))
    job.progress(seconds, seconds, "done", stage="waiting")
    return Waited(message=message, waited_seconds=round(waited, 3))
