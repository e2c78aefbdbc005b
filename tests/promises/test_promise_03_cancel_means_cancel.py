"""Promise 3: after an accepted cancel a job ends as cancelled, with all it has started, and nobody else notices."""

import email
import email.policy
import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Smtp
from crew import Crew, crew, eventually, runs
from pymongo import MongoClient
from shared_servers import Servers

GRACE_SECONDS = 0.5
LATE_SECONDS = 2.0
ROUNDS = 200
SEED = 20261121
SLOTS = 2


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One of each service."""
    folder = tmp_path_factory.mktemp("cancel")
    settings = {"CANCEL_GRACE_SECONDS": str(GRACE_SECONDS), "SWEEP_SECONDS": "1"}
    with crew(servers, folder, "gateway", "results", "notifier", "compute", **settings) as one:
        yield one


def processes(trace: Path) -> list[psutil.Process]:
    """Those that a task has written down."""
    numbers = [int(line.split()[1]) for line in trace.read_text().splitlines() if line.startswith("process")]
    return [psutil.Process(number) for number in numbers]


def test_a_cancelled_pending_job_never_starts(stack: Crew, tmp_path: Path) -> None:
    """A job that is cancelled while it waits is over at once, and no trace of it is ever seen.

    Break: results_service/ledger/orders.py `end.operators,`, to `{"$set": {"tags": []}},`.
    """
    trace = tmp_path / "trace"
    holding = [stack.submit("go_on", {"how": "swallow"}) for _ in range(SLOTS)]
    for pid in holding:
        stack.wait(pid, "running")
    waiting = [stack.submit("trace", {"file": str(trace)}) for _ in range(20)]
    for pid in waiting:
        assert stack.cancel(pid).status_code == 202
        assert stack.job(pid)["status"] == "cancelled"
    for pid in holding:
        stack.cancel(pid)
    last = stack.submit("trace", {"file": str(trace)})
    assert stack.wait(last)["status"] == "succeeded"
    assert {line.split()[1] for line in trace.read_text().splitlines()} == {last}
    assert [stack.job(pid)["attempts"] for pid in waiting] == [[]] * len(waiting)


def test_a_job_in_c_is_stopped_with_all_it_has_started(stack: Crew, tmp_path: Path) -> None:
    """A job that never returns from C ends within the grace, and so do its processes, in whatever session.

    The other slot's job goes on, in the same process and the same attempt.
    Break: compute_service/slots.py `if attempt.kill_at is not None and now >= attempt.kill_at:`, to `if False:`.
    """
    trace = tmp_path / "trace"
    other = stack.submit("trace", {"file": str(tmp_path / "other"), "seconds": 4})
    stack.started(other)
    pid = stack.submit("stay_in_c", {"file": str(trace)})
    stack.started(pid)
    eventually(lambda: len(processes(trace)) == 4, "four processes")
    started = processes(trace)
    began = time.monotonic()
    assert stack.cancel(pid).status_code == 202
    job = stack.wait(pid)
    assert time.monotonic() - began < GRACE_SECONDS + LATE_SECONDS
    assert job["status"] == "cancelled"
    eventually(lambda: not any(map(runs, started)), "the end of the job's processes", 1)
    undisturbed = stack.wait(other)
    assert (undisturbed["status"], len(undisturbed["attempts"])) == ("succeeded", 1)
    assert (tmp_path / "other").read_text().count("begin") == 1


def test_cancel_and_finish_race_to_one_story(stack: Crew, smtp_sink: Smtp) -> None:
    """Hundreds of cancels at the moment of the finish: API, result, attempts and mail tell the same outcome.

    A cancel that was accepted means cancelled; one that was refused means the job had ended before.
    Break: results_service/ledger/settle.py `_open_attempt(finish) | {"cancel_requested_at": None}`,
    to `_open_attempt(finish)`.
    """
    to = f"{uuid.uuid4().hex}@example.org"
    dice = random.Random(SEED)  # noqa: S311 -- a race, not a secret
    delays = [dice.uniform(0, 0.03) for _ in range(ROUNDS)]

    def one_round(delay: float) -> tuple[str, int]:
        notify = {"email": to, "on": ["succeeded", "failed", "cancelled"]}
        pid = stack.submit("noop", notify=notify)
        time.sleep(delay)
        return pid, stack.cancel(pid).status_code

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(one_round, delays))
    outcomes: dict[str, str] = {}
    for pid, answer in answers:
        job = stack.wait(pid)
        outcomes[pid] = job["status"]
        assert job["status"] == {202: "cancelled", 409: "succeeded"}[answer], job
        result = stack.http.get(f"/jobs/{pid}/result")
        if answer == 202:
            assert (result.status_code, result.json()["type"].rpartition("/")[2]) == (409, "job-cancelled")
            assert job["result"] is None
            assert [attempt["outcome"] for attempt in job["attempts"]] in ([], ["cancelled"])
        else:
            assert result.status_code == 200
            assert [attempt["outcome"] for attempt in job["attempts"]] == ["succeeded"]
    assert set(outcomes.values()) == {"cancelled", "succeeded"}, "no race was run: change the delays"
    eventually(lambda: len(mails_to(smtp_sink, to)) >= len(outcomes), "a mail for every job", 90)
    told = mails_to(smtp_sink, to)
    assert dict(mail["Message-ID"].strip(" <").split(".")[:2] for mail in told) == outcomes
    assert len(told) == len(outcomes)


def test_a_cancel_whose_message_is_lost_lands_with_the_heartbeat(stack: Crew) -> None:
    """A results service accepts a cancel and dies before it says so: the worker's next beat tells it.

    Break: results_service/ledger/heartbeats.py `elif document.get("cancel_requested_at") or …:`, to `elif False:`.
    """
    pid = stack.submit("go_on", {"how": "swallow"})
    stack.started(pid)
    with MongoClient[dict[str, Any]](stack.environment["MONGODB_URI"]) as client:
        jobs = client[stack.environment["DATABASE"]]["jobs"]
        jobs.update_one({"_id": pid}, {"$set": {"cancel_requested_at": datetime.now(UTC)}})
    assert stack.wait(pid, seconds=15)["status"] == "cancelled"


def mails_to(sink: Smtp, recipient: str) -> list[Any]:
    """What has arrived for *recipient*."""
    found = []
    for file in sink.mails():
        content = file.read_bytes()
        if recipient.encode() in content:
            found.append(email.message_from_bytes(content, policy=email.policy.default))
    return found
