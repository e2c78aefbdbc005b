"""Limits of time and memory: the task may answer, and is stopped if it does not, whatever it does."""

import threading
import time
from collections.abc import Iterator

import pytest
from slot_bench import PATIENCE_SECONDS, Bench

from compute_service.attempts import Ending
from contracts.messages import Finish
from contracts.status import ErrorKind, Outcome

GRACE_SECONDS = 0.4
LIMIT_SECONDS = 0.4
LATE_SECONDS = 2.0
"""How much later than limit plus grace a task may be stopped."""
WAYS_TO_GO_ON = ["swallow", "ignore", "block", "stop", "sum", "backtrack", "hash"]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One slot for all tests of this file."""
    one = Bench(tasks="worker_tasks", cancel_grace_seconds=GRACE_SECONDS)
    one.slot.warm_up()
    yield one
    one.close()


def test_a_task_may_catch_its_time_limit(bench: Bench) -> None:
    """At the limit `TimeLimitExceeded` is raised in the task, and what it answers within the grace is its result.

    Break: compute_service/slots.py `self._interrupt(child, attempt, TIME_LIMIT_SIGNAL)`, with `CANCEL_SIGNAL`.
    """
    began = time.monotonic()
    finish = bench.run("ask_nicely", time_limit=LIMIT_SECONDS)
    assert finish.outcome is Outcome.SUCCEEDED
    assert finish.result == ["TimeLimitExceeded", "False"]
    assert LIMIT_SECONDS <= time.monotonic() - began < LIMIT_SECONDS + LATE_SECONDS


@pytest.mark.parametrize("how", WAYS_TO_GO_ON)
def test_a_task_that_goes_on_is_stopped_on_time(bench: Bench, how: str) -> None:
    """Limit and grace ignored, signals blocked, never back from C: killed within 2 s of both, and a `timeout`.

    Break: compute_service/slots.py `if attempt.kill_at is not None and now >= attempt.kill_at:`, to `if False:`.
    """
    bench.slot.warm_up()
    began = time.monotonic()
    finish = bench.run("go_on", how=how, time_limit=LIMIT_SECONDS)
    assert time.monotonic() - began < LIMIT_SECONDS + GRACE_SECONDS + LATE_SECONDS
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.TIMEOUT
    assert finish.retriable


@pytest.mark.parametrize("how", WAYS_TO_GO_ON)
def test_a_cancelled_task_that_goes_on_is_stopped_on_time(bench: Bench, how: str) -> None:
    """The same for a cancel: killed within 2 s of the grace, and `cancelled`, however late its time limit is.

    Break: compute_service/slots.py `if attempt.kill_at is not None and now >= attempt.kill_at:`, to `if False:`.
    """
    thread, finishes = start(bench, "go_on", how=how)
    began = time.monotonic()
    bench.slot.stop("p1", 1, Ending.CANCELLED)
    thread.join(PATIENCE_SECONDS)
    assert time.monotonic() - began < GRACE_SECONDS + LATE_SECONDS
    assert finishes[0] is not None
    assert finishes[0].outcome is Outcome.CANCELLED


def test_a_cancel_reaches_a_task_in_time_to_tidy_up(bench: Bench) -> None:
    """A cancel raises `Cancelled` in the task, which then ends at once and not with the grace.

    Break: compute_service/slots.py `self._interrupt(child, attempt, CANCEL_SIGNAL)`, to `self._kill(child, attempt)`.
    """
    thread, finishes = start(bench, "ask_nicely")
    bench.slot.stop("p1", 1, Ending.CANCELLED)
    thread.join(PATIENCE_SECONDS)
    assert finishes[0] is not None
    assert finishes[0].outcome is Outcome.CANCELLED
    assert finishes[0].cpu_seconds is not None, "the child has reported, it was not killed"
    assert finishes[0].peak_memory_bytes is not None


@pytest.mark.parametrize("task", ["allocate_at_once", "allocate_in_crumbs"])
def test_an_allocation_above_the_limit_is_out_of_memory(bench: Bench, task: str) -> None:
    """The allocation fails, the attempt says so even when not a byte is left, and the next job has its memory.

    Break: compute_service/child.py `meter.limit_memory(None)  # or there is no memory to say so`, deleted,
    for the crumbs; compute_service/metering.py `resource.setrlimit(…)`, deleted, for both.
    """
    finish = bench.run(task)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.OUT_OF_MEMORY, finish.error
    assert finish.retriable
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("own_session", [False, True])
def test_memory_below_the_task_counts(bench: Bench, own_session: bool) -> None:  # noqa: FBT001
    """Grandchildren, in sessions of their own too, that are too large together: all are killed, `out_of_memory`.

    Break: compute_service/slots.py `if used > attempt.memory_limit_mb * MIB and not attempt.killed:`, to `if False:`.
    """
    finish = bench.run("allocate_in_grandchild", own_session=own_session, time_limit=15)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.OUT_OF_MEMORY, finish.error
    assert (finish.peak_memory_bytes or 0) > 150 * 1024 * 1024
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


def start(bench: Bench, task: str, **params: object) -> tuple[threading.Thread, list[Finish | None]]:
    """Run *task* in a thread; it has begun when this returns."""
    bench.progress.clear()
    return bench.run_aside(task, **params)
