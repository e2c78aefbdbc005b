"""What the end of an attempt becomes, without a process."""

from collections.abc import Callable

import pytest

from compute_service.attempts import AttemptState, Ending, died, refused, reported, unstarted
from contracts.messages import Finish, Grant

GRANT = Grant(
    pid="p",
    fence=3,
    task="bmi",
    task_version="1",
    params={},
    attempt=1,
    max_attempts=3,
    time_limit=60,
    claim_id="c",
    notify=True,
    retention_days=0.5,
)
REPORT = {
    "outcome": "succeeded",
    "result": 1,
    "error": None,
    "retriable": False,
    "retry_after_seconds": None,
    "progress": None,
    "cpu_seconds": 0.1,
    "peak_memory_bytes": 1,
}
ENDS: dict[str, Callable[[AttemptState], Finish | None]] = {
    "reported": lambda attempt: reported(attempt, "w1", REPORT),
    "died": lambda attempt: died(attempt, "w1", 1, 0.1),
    "unstarted": lambda attempt: unstarted(attempt.grant, "w1", Ending.HANDED_BACK),
    "refused": lambda attempt: refused(unstarted(attempt.grant, "w1", Ending.HANDED_BACK), "too long"),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_finish_gives_back_what_the_grant_said(end: str) -> None:
    """Without it the ledger would have to look the job up before it ends it."""
    finish = ENDS[end](AttemptState(grant=GRANT))
    assert finish is not None
    assert (finish.pid, finish.fence, finish.notify, finish.retention_days) == ("p", 3, True, 0.5)
