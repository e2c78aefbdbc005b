"""Promise 6: a job may run for days; no acknowledgement time-out of the broker touches it."""

import long_job
import pytest
from conftest import Servers
from running_stack import MakeStack

SECONDS = 150


@pytest.mark.begin_early
@pytest.mark.timeout(600)
def test_a_job_outlives_the_patience_of_the_broker(new_stack: MakeStack, servers: Servers) -> None:
    """With ``consumer_timeout`` at 60 s a job of 150 s runs once and ends once, and no channel is closed.

    Break: in `compute_service.ledger.BrokerBells.acknowledge`, acknowledge nothing. Then a message is held while
    the job runs, and the broker closes the channel that holds it.
    """
    stack = new_stack(
        "impatient",
        MONGODB_URI=servers.mongodb_uri("impatient"),
        DATABASE="impatient",
        SMTP_URI=servers.smtp,
        MAIL_ALLOW="*",
    )
    long_job.make_impatient(stack)
    stack.start()
    long_job.run(stack, SECONDS)
