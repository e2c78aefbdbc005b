"""Promise 7 under load: tasks that take every processor starve neither heartbeats nor cancels."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crew import Crew, crew, eventually
from shared_servers import Servers

LEASE_SECONDS = 3.0
BURN_SECONDS = 10.0
"""Longer than a lease, with the time to connect that a results service allows after its start."""
LATE_SECONDS = 3.0


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A worker whose silence of a few seconds would cost it its jobs, and its connection."""
    folder = tmp_path_factory.mktemp("busy")
    settings = {
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "WORKER_HEARTBEAT_SECONDS": "1",
        "HEARTBEAT": "5",
        "CANCEL_GRACE_SECONDS": "0.5",
    }
    with crew(servers, folder, "gateway", "results", "compute", **settings) as one:
        yield one


def test_every_slot_burns_and_nobody_else_notices(stack: Crew, tmp_path: Path) -> None:
    """Four processes burn in each slot for longer than a lease: the worker keeps jobs and connection, and hears a cancel.

    Break: compute_service/heart.py `self._beat += 1`, deleted, for the lease;
    compute_service/pool.py `slot.stop(stop.pid, stop.fence, ending)`, to `pass`, for the cancel.
    """
    trace = tmp_path / "trace"
    pids = [stack.submit("burn_everything", {"processes": 3, "file": str(trace)}) for _ in range(2)]
    for pid in pids:
        stack.started(pid)
    end = time.monotonic() + BURN_SECONDS
    eventually(lambda: time.monotonic() > end, "more than a lease of burning")
    assert [(job["status"], job["attempt"]) for job in map(stack.job, pids)] == [("running", 1)] * 2
    began = time.monotonic()
    assert stack.cancel(pids[0]).status_code == 202
    assert stack.wait(pids[0])["status"] == "cancelled"
    assert time.monotonic() - began < 0.5 + LATE_SECONDS
    assert (stack.job(pids[1])["status"], stack.job(pids[1])["attempt"]) == ("running", 1)
    stack.cancel(pids[1])
    assert stack.wait(pids[1])["status"] == "cancelled"
    assert stack.log_count("worker_lost") == stack.log_count("broker_lost") == 0
    assert trace.read_text().count("begin") == 2
