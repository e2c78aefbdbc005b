"""Promise 6 at full length. Not part of `make test`; `make soak` runs it."""

import long_job
import pytest
from running_stack import MakeStack

SECONDS = 3600


@pytest.mark.timeout(SECONDS + 900)
def test_a_job_of_an_hour_runs_once(new_stack: MakeStack) -> None:
    """Sixty times the broker's patience, twice its default: the job runs once and ends once."""
    stack = new_stack()
    long_job.make_impatient(stack)
    stack.start()
    long_job.run(stack, SECONDS)
