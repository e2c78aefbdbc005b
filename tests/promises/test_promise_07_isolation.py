"""Promise 7: what a task does to its process happens to nobody else, and reaches no other job."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from crew import hoppers, runs
from slot_bench import PATIENCE_SECONDS, PYTHONPATH, Bench, wait_until

from compute_service.guardian import kill_all
from compute_service.procfs import descendants
from contracts.status import ErrorKind, Outcome

LEFT_BEHIND = [
    "threads",
    "bare threads",
    "child",
    "zombie",
    "daemon",
    "hopper",
    "directory",
    "environment",
    "umask",
    "sys.stdout",
    "closed streams",
    "other stdout",
    "open files",
    "blocked signals",
    "own handler",
    "ignored SIGCHLD",
    "alarm",
    "limits",
    "priority",
    "affinity",
]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One slot for all tests of this file: each is the next job of the one before."""
    one = Bench(tasks="worker_tasks", cancel_grace_seconds=0.3)
    yield one
    one.close()


@pytest.fixture(scope="module")
def clean(bench: Bench) -> dict[str, Any]:
    """What the first job of a fresh process finds."""
    return look_around(bench)


def look_around(bench: Bench) -> dict[str, Any]:
    finish = bench.run("look_around")
    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    found: dict[str, Any] = finish.result
    return found


def strays(bench: Bench) -> list[psutil.Process]:
    """Processes below this one that do not belong to the slot."""
    ours = {bench.groups.guardian_id, *bench.groups._groups}
    found = []
    for process_id in descendants(os.getpid()):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(process_id))
    return [one for one in found if one.pid not in ours and runs(one)]


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_nothing_that_a_job_leaves_reaches_the_next(bench: Bench, clean: dict[str, Any], what: str) -> None:
    """The job succeeds, what it left is ended with its process, and the next job finds a process like new.

    Break: compute_service/slots.py `if report["leftovers"]:`, to `if False:`.
    """
    before = set(strays(bench))
    finish = bench.run("leave_behind", what=what)
    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    assert look_around(bench) == clean
    wait_until(lambda: not set(strays(bench)) - before, "the end of every process that was left")


def test_a_clean_process_is_kept(bench: Bench) -> None:
    """Looking for leftovers finds none where there are none: the warm process runs one job after the other.

    Break: compute_service/slots.py `if report["leftovers"]:`, to `if True:`.
    """
    assert len({bench.run("leave_behind", what="nothing").result for _ in range(5)}) == 1


@pytest.mark.parametrize(
    ("how", "number", "exit_code", "signal"),
    [
        ("exit", 0, 0, None),
        ("exit", 3, 3, None),
        ("exit in thread", 0, 0, None),
        ("signal", 9, None, "SIGKILL"),
        ("signal", 11, None, "SIGSEGV"),
        ("signal", 6, None, "SIGABRT"),
        ("signal", 15, None, "SIGTERM"),
    ],
)
def test_a_process_that_dies_is_a_crash_with_its_cause(
    bench: Bench, how: str, number: int, exit_code: int | None, signal: str | None
) -> None:
    """However the process dies, with exit code 0 as well, the attempt is `crashed` and says how; the next job runs.

    Break: compute_service/slots.py `except (EOFError, OSError, BrokenFrameError):`, without `EOFError`.
    """
    finish = bench.run("die", how=how, number=number)
    assert finish.outcome is Outcome.FAILED
    assert finish.error is not None
    assert (finish.error.kind, finish.error.exit_code, finish.error.signal) == (ErrorKind.CRASHED, exit_code, signal)
    assert finish.retriable
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("first", [0, 3])
def test_closing_every_descriptor_is_a_crash(bench: Bench, first: int) -> None:
    """A task that closes the pipe to its worker is found out at once and told so.

    Break: compute_service/attempts.py `elif attempt.pipe_broken:`, to `elif False:`.
    """
    began = time.monotonic()
    finish = bench.run("die", how="close", number=first)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.CRASHED
    assert "pipe" in finish.error.message or finish.error.exit_code == 1
    assert time.monotonic() - began < 5
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("number", range(5))
def test_garbage_in_the_pipe_is_a_crash(bench: Bench, number: int) -> None:
    """Whatever a task writes into the pipe is no frame, and neither blocks the slot nor passes as a report.

    Break: compute_service/frames.py `if not _MARK.startswith(…):`, to `if False:`.
    """
    began = time.monotonic()
    finish = bench.run("die", how="garbage", number=number, time_limit=8)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.CRASHED
    assert "pipe" in finish.error.message
    assert time.monotonic() - began < 5
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


def test_a_killed_child_is_noticed_at_once(bench: Bench) -> None:
    """Kill -9 of the child, by the kernel or anybody: the attempt's end is there in well under a second.

    Break: compute_service/slots.py `except (EOFError, OSError, BrokenFrameError):`, to `except BrokenFrameError:`.
    """
    bench.progress.clear()
    thread, finishes = bench.run_aside("go_on", how="swallow")
    child = bench.slot._child
    assert child is not None
    psutil.Process(child.process_id).kill()
    began = time.monotonic()
    thread.join(PATIENCE_SECONDS)
    assert time.monotonic() - began < 0.7
    assert finishes[0] is not None
    assert finishes[0].error is not None
    assert finishes[0].error.signal == "SIGKILL"


def test_a_daemon_that_holds_the_pipe_hides_no_death(bench: Bench) -> None:
    """Kill -9 of a child whose fork, in another session, holds the pipe open: noticed, and the fork ends too.

    Break: compute_service/children.py `self._groups.end_orphans()`, deleted.
    """
    bench.progress.clear()
    thread, finishes = bench.run_aside("hold_the_pipe")
    child = bench.slot._child
    assert child is not None
    psutil.Process(child.process_id).kill()
    began = time.monotonic()
    thread.join(PATIENCE_SECONDS)
    assert time.monotonic() - began < 1.2
    assert finishes[0] is not None
    assert finishes[0].error is not None
    assert finishes[0].error.kind is ErrorKind.CRASHED
    assert strays(bench) == []


LEADER = """
import ctypes, sys
from compute_service.child import PR_SET_CHILD_SUBREAPER
from compute_service.sdk import Job
from worker_tasks import hop_about

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
hop_about(Job(pid=sys.argv[1], report=lambda build: print("started", flush=True)))
"""
"""The process of a job, without a worker that would look for what it leaves."""


def test_processes_that_keep_forking_are_caught() -> None:
    """One kill, as the guardian's, ends a crowd of processes that replace themselves in new sessions all the time.

    Break: compute_service/guardian.py `_send(process_id, signal.SIGKILL, group=False)`, deleted.
    """
    pid = uuid.uuid4().hex
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER, pid],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"started\n"
    kill_all([leader.pid])
    leader.wait(PATIENCE_SECONDS)
    try:
        wait_until(lambda: not hoppers(pid), "the end of every process of the job", 2)
    finally:
        for left in hoppers(pid):
            left.kill()
