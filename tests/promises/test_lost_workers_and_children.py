"""A worker or a child that is killed: nothing of it is left, and its jobs run elsewhere, soon and on record."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from crew import Crew, crew, eventually, hoppers
from shared_servers import Servers

ELSEWHERE_SECONDS = 20.0
"""With the default lease of 15 s."""
GONE_SECONDS = 5.0


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Two workers, and every setting that matters here at its default."""
    folder = tmp_path_factory.mktemp("lost")
    with crew(servers, folder, "gateway", "results", "compute", "compute") as one:
        yield one


def test_a_killed_child_is_another_attempt_after_its_back_off(stack: Crew, tmp_path: Path) -> None:
    """Kill -9 of the process of an attempt: told in well under a second, run again when its back-off is over.

    Break: compute_service/slots.py `except (EOFError, OSError, BrokenFrameError):`, to `except BrokenFrameError:`.
    """
    trace = tmp_path / "trace"
    pid = stack.submit("trace", {"file": str(trace), "seconds": 2})
    stack.started(pid)
    psutil.Process(int(trace.read_text().split()[3])).kill()
    killed = time.monotonic()
    job = stack.wait(pid, "pending", "succeeded", "failed", seconds=5)
    assert time.monotonic() - killed < 0.9
    assert job["status"] == "pending"
    assert job["not_before"] is not None
    assert stack.wait(pid)["status"] == "succeeded"
    first, second = stack.job(pid)["attempts"]
    assert (first["outcome"], first["error"]["kind"], first["error"]["signal"]) == ("failed", "crashed", "SIGKILL")
    assert second["outcome"] == "succeeded"
    assert second["started_at"] >= job["not_before"]


def test_a_killed_worker_leaves_nothing_and_its_jobs_run_elsewhere(stack: Crew, tmp_path: Path) -> None:
    """Kill -9 of a worker in the middle of its jobs: no process of theirs is left, and all run again in 20 s.

    The lost attempt is on record with its worker; the next one waits for no back-off.
    Break: compute_service/guardian.py `kill_all(groups)`, deleted, for the processes;
    results_service/ledger/sweep.py `self._give_up(worker_id, beats[worker_id])`, to `pass`, for the jobs.
    """
    one, other = [member for member in stack.members if "compute" in member.log.stem]
    for member in (one, other):
        eventually(member.children, "a child of each worker")
    trace = tmp_path / "trace"
    pids = [stack.submit("trace", {"file": str(trace), "seconds": 4}) for _ in range(4)]
    hopping = stack.submit("hop_about")
    for pid in pids:
        stack.started(pid)
    assert len({stack.job(pid)["attempts"][-1]["worker"] for pid in pids}) == 2, "both workers are at work"
    for pid in pids:
        stack.wait(pid)
    stack.started(hopping)
    lost = stack.job(hopping)["attempts"][-1]["worker"]
    victim = one if lost in one.log.read_text() else other
    mine = [stack.submit("trace", {"file": str(trace), "seconds": 3}) for _ in range(3)]
    eventually(lambda: all(stack.job(pid)["status"] == "running" for pid in mine), "all at work")
    victim.below()
    started = [stack.job(pid)["attempts"][-1]["worker"] == lost for pid in mine]
    assert any(started)
    victim.signal(signal.SIGKILL)
    killed = time.monotonic()
    eventually(
        lambda: not victim.survivors() and not hoppers(hopping), "the end of every process of the worker", GONE_SECONDS
    )
    for pid, was_there in zip(mine, started, strict=True):
        if was_there:
            eventually(
                lambda pid=pid: len(stack.job(pid)["attempts"]) == 2 and stack.job(pid)["status"] != "pending",
                "another attempt elsewhere",
                ELSEWHERE_SECONDS - (time.monotonic() - killed),
            )
    for pid, was_there in zip(mine, started, strict=True):
        job = stack.wait(pid)
        assert job["status"] == "succeeded"
        assert len(job["attempts"]) == 1 + was_there
        if was_there:
            first, second = job["attempts"]
            assert (first["worker"], first["outcome"], first["error"]["kind"]) == (lost, "failed", "worker_lost")
            assert second["worker"] != lost
            assert job["not_before"] is None or second["started_at"] >= job["not_before"]
    stack.cancel(hopping)
