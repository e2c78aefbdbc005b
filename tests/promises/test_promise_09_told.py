"""Promise 9: a mail that is due is sent at least once, and twice only if the notifier dies in between."""

import threading
from collections.abc import Iterator

import pytest
from breaking import Api, away, eventually, jobs_of, kill, serves
from customers import BMI, mails_of
from running_stack import RunningStack
from shared_servers import Servers

DATABASE = "promise_9"
MAILS = 12


@pytest.fixture(scope="module")
def counter(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with a mail server of its own; a notifier that died loses its mail to the next after 8 s."""
    environment = {
        "AMQP_URI": servers.make_vhost(DATABASE),
        "MONGODB_URI": servers.mongodb_uri(DATABASE),
        "DATABASE": DATABASE,
        "SMTP_TIMEOUT": "1",
        "SMTP_DATA_TIMEOUT": "1",
        "SMTP_PROBE_SECONDS": "1",
        "MAIL_LEASE_SECONDS": "8",
        "MAIL_POLL_SECONDS": "1",
        "MAIL_BACKOFF_FIRST": "1",
    }
    stack = RunningStack(tmp_path_factory.mktemp("promise-9") / "local", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def api(counter: RunningStack) -> Iterator[Api]:
    """A client of the stack, healed from the test before."""
    eventually(lambda: serves(counter), "ready and serving")
    with counter.client() as http:
        yield Api(http)


def submit(api: Api, number: int) -> list[str]:
    """Jobs that want a mail at their acceptance and at their end; half of them fail."""
    notify = {"email": "ada@example.org", "on": ["accepted", "succeeded", "failed"]}
    tasks = (("bmi", BMI), ("arithmetic", {"operation": "div", "value": 1, "other": 0}))
    return [api.submit(*tasks[turn % 2], notify=notify) for turn in range(number)]


def states(stack: RunningStack, pids: list[str]) -> set[tuple[str, ...]]:
    """How the mails of these jobs stand, in the order accepted, succeeded, failed."""
    with jobs_of(stack, DATABASE) as jobs:
        return {
            tuple(entry["state"] for entry in document["notifications"])
            for document in jobs.find({"_id": {"$in": pids}}, {"notifications": 1})
        }


SETTLED = {("sent", "sent", "skipped"), ("sent", "skipped", "sent")}


def test_a_mail_server_that_is_down_delays_and_loses_nothing(api: Api, counter: RunningStack) -> None:
    """Jobs end while nothing listens for mail; when it is back each of their mails comes, and comes once.

    Break: results_service/notifier/courier.py `_deliver` settling as failed when the server is away.
    """
    with away(counter, "smtp"):
        pids = submit(api, MAILS)
        for pid in pids:
            api.ended(pid)
        threading.Event().wait(4)  # several tries in vain
        assert states(counter, pids) == {("due", "due", "skipped"), ("due", "skipped", "due")}
    eventually(lambda: states(counter, pids) == SETTLED, "all mails sent")
    found = mails_of(counter)
    assert {pid: found[pid] for pid in pids} == dict.fromkeys(pids, 2)


def test_a_notifier_that_dies_sends_at_least_once(api: Api, counter: RunningStack) -> None:
    """Killed -9 in the middle of delivering, again and again: every mail comes; at most one per death comes twice.

    Break: results_service/notifier/outbox.py `lease` marking the entry as sent before it is.
    """
    before = sum(mails_of(counter).values())
    pids = submit(api, MAILS)
    deaths = 0
    for reached in (3, 9):
        eventually(lambda reached=reached: sum(mails_of(counter).values()) - before >= reached, "some mails delivered")
        kill(counter, "notifier")
        deaths += 1
    eventually(lambda: states(counter, pids) == SETTLED, "all mails sent")
    found = mails_of(counter)
    assert all(found[pid] >= 2 for pid in pids)
    assert sum(found[pid] - 2 for pid in pids) <= deaths
