"""Promise 2, in the whole stack: one stored outcome; an outage of ours runs nothing twice; an old claim says nothing."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from breaking import Api, away, eventually, frozen, jobs_of, serves
from customers import mails_of
from running_stack import ROOT, RunningStack

LEASE_SECONDS = 3.0
OUTAGE_SECONDS = 8.0
SHORT_SECONDS = 3.0
"""A job that ends during the outage; another one outlasts it by more than the lease."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with servers of its own and a lease that is shorter than the outages."""
    environment = {
        "LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        "WORKER_HEARTBEAT_SECONDS": "0.5",
        "SWEEP_SECONDS": "1",
        "SLOTS": "2",
        "TASK_MODULES": "compute_service.tasks,counted_tasks",
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
    }
    stack = RunningStack(tmp_path_factory.mktemp("promise-2") / "local", environment)
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


def lines(trace: Path) -> list[list[str]]:
    """What the jobs have left in *trace*: start or end, pid, attempt, process id."""
    return [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []


OUTAGES: dict[str, Callable[[RunningStack], contextlib.AbstractContextManager[None]]] = {
    "rabbitmq killed": lambda stack: away(stack, "rabbitmq"),
    "rabbitmq frozen": lambda stack: frozen(stack.pid("rabbitmq")),
    "mongodb killed": lambda stack: away(stack, "mongodb"),
    "results frozen": lambda stack: frozen(stack.pid("results")),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_longer_than_the_lease_runs_nothing_twice(
    api: Api, counter: RunningStack, tmp_path: Path, outage: str
) -> None:
    """What ran on during 8 s without a server at a lease of 3 s, and what ended meanwhile, has one attempt and one end.

    Break: results_service/ledger/sweep.py `__call__` without the look at `broker_ready` (rabbitmq killed);
    results_service/ledger/events.py `broker_answers` returning True for an open connection (rabbitmq frozen). What
    holds for the other two, the beat that comes just in time usually hides; `test_promise_02_one_outcome_ledger.py`
    takes it away.
    """
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    pids = [
        api.submit("counted", {"file": str(trace), "seconds": SHORT_SECONDS}),
        api.submit("counted", {"file": str(trace), "gate": str(gate)}),
    ]
    eventually(lambda: len(lines(trace)) == len(pids), "both started")
    eventually(lambda: all(api.job(pid).get("status") == "running" for pid in pids), "both shown as running")
    with OUTAGES[outage](counter):
        threading.Event().wait(OUTAGE_SECONDS)
        assert [line[0] for line in lines(trace)] == ["start", "start", "end"]
    eventually(lambda: serves(counter), "ready and serving")
    threading.Event().wait(LEASE_SECONDS)
    gate.touch()
    jobs = [api.ended(pid) for pid in pids]
    assert [(job["status"], job["result"], job["attempt"], len(job["attempts"])) for job in jobs] == [
        ("succeeded", 1, 1, 1)
    ] * 2
    assert sorted(line[0] for line in lines(trace)) == ["end", "end", "start", "start"]


@contextlib.contextmanager
def another_worker(stack: RunningStack, log: Path) -> Iterator[int]:
    """A second compute service beside the stack's own; answers its process id."""
    environment = stack.environment | {"AMQP_URI": stack.state.amqp_uri}
    command = [str(Path(sys.executable).with_name("nameko")), "run", "--config", "compute_service/config.yaml"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "compute_service.service"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def workers(stack: RunningStack) -> int:
    """How many workers the ledger knows."""
    with jobs_of(stack) as jobs:
        return jobs.database["workers"].count_documents({})


def test_a_worker_that_was_given_up_can_say_no_more(api: Api, counter: RunningStack, tmp_path: Path) -> None:
    """A worker frozen past its lease loses its jobs to another; back again, its report is discarded, its child stopped.

    There is one outcome, which is the other worker's, and one mail.
    Break: results_service/ledger/settle.py `_open_attempt` without the fence and the settled fence (the old report is
    stored); results_service/ledger/heartbeats.py `_orders` without "superseded" (the child runs on).
    """
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    common = {"file": str(trace), "seconds": 3}
    mail = {"email": "a@example.org", "on": ["succeeded"]}
    reporting = api.submit("counted", common | {"gate": str(gate)}, notify=mail)
    endless = api.submit("counted", common | {"gate": str(tmp_path / "never")}, notify=mail)
    eventually(lambda: len(lines(trace)) == 2, "both started")
    first_child = next(int(line[3]) for line in lines(trace) if line[1] == endless)
    with another_worker(counter, tmp_path / "worker.log"):
        eventually(lambda: workers(counter) == 2, "a second worker")
        with frozen(counter.pid("compute")):
            gate.touch()
            eventually(lambda: ["end", reporting, "1"] in [line[:3] for line in lines(trace)], "the first one's end")
            eventually(lambda: ["start", reporting, "2"] in [line[:3] for line in lines(trace)], "the second attempt")
        jobs = [api.ended(reporting), api.ended(endless)]
        eventually(lambda: not psutil.pid_exists(first_child), "the superseded child's end")
    for job in jobs:
        assert (job["status"], job["result"], job["attempt"]) == ("succeeded", 2, 2)
        assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed", "succeeded"]
        assert job["attempts"][0]["error"]["kind"] == "worker_lost"
        eventually(lambda pid=job["pid"]: [n["state"] for n in api.job(pid)["notifications"]] == ["sent"], "the mail")
    assert [mails_of(counter)[pid] for pid in (reporting, endless)] == [1, 1]
    assert sorted(line[0:3:2] for line in lines(trace) if line[1] == endless) == [
        ["end", "2"],
        ["start", "1"],
        ["start", "2"],
    ]
