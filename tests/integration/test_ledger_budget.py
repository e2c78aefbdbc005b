"""Attempts, their pauses, and how long a job is kept: against a real mongod."""

from typing import Any

import pytest
from ledger_bench import Bench

from contracts.errors import NotFound
from contracts.job import Job, JobError
from contracts.messages import Grant, Notify, Order, RunningJob
from contracts.status import ErrorKind, JobStatus, NotificationState, NotifyOn, Outcome
from results_service.notifier.outbox import Outbox

DAY = 86400


def pause(bench: Bench, pid: str) -> float:
    """Seconds until the job is due."""
    document = bench.database.jobs.find_one({"_id": pid})
    assert document is not None
    return float((document["due_at"] - bench.clock.now()).total_seconds())


def cancel(bench: Bench, pid: str) -> None:
    """The order itself."""
    bench.ledger.orders.cancel(Order(pid=pid, owner="local"))


def finish(bench: Bench, grant: Grant, outcome: Outcome, **changes: Any) -> None:
    """A worker's report; it gives back what the grant said."""
    assert bench.finish(grant, outcome, retention_days=grant.retention_days, **changes).finish == "stored"


def test_a_job_that_kills_its_worker_every_time_ends_as_failed(bench: Bench) -> None:
    """Each loss is an attempt: the first is repeated at once, the next after a pause, the last one is the end.

    To see it fail, have `transitions.lost` set the job back to pending whatever its budget says.
    """
    pid = bench.register(max_attempts=3)
    for number in (1, 2, 3):
        (grant,) = bench.claim(worker=f"w{number}")
        assert grant.attempt == number
        bench.fall_silent(RunningJob(pid=pid, fence=grant.fence), worker=f"w{number}")
        if number == 1:
            assert pause(bench, pid) == 0
        elif number == 2:
            assert 1 <= pause(bench, pid) <= 2
            bench.clock.advance(2)
    job = Job.model_validate(bench.job(pid))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.kind is ErrorKind.WORKER_LOST
    assert [(a.number, a.worker, a.outcome, a.error and a.error.kind) for a in job.attempts] == [
        (number, f"w{number}", Outcome.FAILED, ErrorKind.WORKER_LOST) for number in (1, 2, 3)
    ]
    assert all(a.finished_at is not None and a.finished_at > a.started_at for a in job.attempts)
    bench.clock.advance(DAY)
    bench.ledger.sweep(broker_ready=True)
    assert bench.claim() == []


def test_the_first_lost_worker_costs_no_pause_whatever_failed_before(bench: Bench) -> None:
    """It is losses that are counted here, not attempts."""
    pid = bench.register()
    bench.fail(bench.claim()[0])
    bench.clock.advance(2)
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=grant.fence))
    assert bench.job(pid)["attempt"] == 2
    assert pause(bench, pid) == 0


def test_an_attempt_is_recorded_with_what_is_known_of_it(bench: Bench) -> None:
    """Worker, start, end, outcome, error, CPU seconds and peak memory; null where nobody knows."""
    pid = bench.register()
    (grant,) = bench.claim()
    (running,) = bench.job(pid)["attempts"]
    assert running["worker"] == "w1"
    assert [running[name] for name in ("finished_at", "outcome", "error", "cpu_seconds", "peak_memory_bytes")] == [
        None
    ] * 5
    bench.clock.advance(3)
    bench.finish(grant, result=1, cpu_seconds=2.5, peak_memory_bytes=7)
    (ended,) = Job.model_validate(bench.job(pid)).attempts
    assert (ended.outcome, ended.cpu_seconds, ended.peak_memory_bytes) == (Outcome.SUCCEEDED, 2.5, 7)
    assert ended.finished_at is not None
    assert (ended.finished_at - ended.started_at).total_seconds() == 3


def test_every_kind_of_failure_is_counted(bench: Bench) -> None:
    """Prometheus sees each attempt once, by outcome and kind, also the one whose finish was repeated."""
    for kind in (ErrorKind.TIMEOUT, ErrorKind.OUT_OF_MEMORY, ErrorKind.CRASHED):
        bench.register(max_attempts=1)
        (grant,) = bench.claim()
        for _ in range(2):
            bench.finish(grant, Outcome.FAILED, error=JobError(kind=kind, message="no"), retriable=True)
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=grant.fence))
    bench.finish(bench.claim()[0], result=1)
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in bench.ledger.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "coatcheck_attempts_total"
    }
    ones = {("failed", kind) for kind in ("timeout", "out_of_memory", "crashed", "worker_lost")} | {("succeeded", "")}
    assert {labels for labels, count in counted.items() if count} == ones
    assert set(counted.values()) == {0.0, 1.0}


def test_the_last_twenty_attempts_are_kept_and_all_are_counted(bench: Bench) -> None:
    """A job that is handed back for ever neither grows nor forgets how often it was tried."""
    pid = bench.register(max_attempts=1)
    for _ in range(25):
        bench.finish(bench.claim()[0], Outcome.HANDED_BACK)
    job = Job.model_validate(bench.job(pid))
    assert (job.attempts_total, job.attempt) == (25, 0)
    assert [attempt.number for attempt in job.attempts] == list(range(6, 26))


@pytest.mark.parametrize(
    ("policy", "longest"),
    [
        ({}, [1, 2, 4, 8]),
        ({"first_retry_seconds": 10.0}, [10, 20, 40, 80]),
        ({"first_retry_seconds": 10.0, "last_retry_seconds": 15.0}, [10, 15, 15, 15]),
        ({"last_retry_seconds": 3.0}, [1, 2, 3, 3]),
        ({"first_retry_seconds": 1000.0}, [1000, 1000, 1000, 1000]),
        ({"first_retry_seconds": 0.0}, [0, 0, 0, 0]),
    ],
)
def test_pauses_double_up_to_a_cap_with_jitter(bench: Bench, policy: dict[str, float], longest: list[float]) -> None:
    """The task's own back-off goes before the settings'; each pause is between half of its length and all of it."""
    pid = bench.register(max_attempts=5, **policy)
    for seconds in longest:
        bench.fail(bench.claim()[0])
        assert seconds / 2 <= pause(bench, pid) <= seconds
        bench.clock.advance(seconds)


def test_the_tasks_own_wish_goes_before_every_back_off(bench: Bench) -> None:
    """``raise Retry(after=7)`` means 7 seconds."""
    pid = bench.register(first_retry_seconds=100.0)
    bench.finish(bench.claim()[0], Outcome.FAILED, retriable=True, retry_after_seconds=7)
    assert pause(bench, pid) == 7


@pytest.mark.parametrize("days", [None, 0.5, 400.0])
@pytest.mark.parametrize(
    "end", ["succeeded", "failed", "last attempt", "cancelled", "cancelled first", "worker lost", "taken back"]
)
def test_a_job_is_kept_for_its_own_time(bench: Bench, end: str, days: float | None) -> None:
    """However it ended, it is there until its retention is over and gone afterwards; without its own, 30 days."""
    pid = bench.register(max_attempts=1, retention_days=days)
    if end == "cancelled first":
        cancel(bench, pid)
    else:
        (grant,) = bench.claim()
        if end == "succeeded":
            finish(bench, grant, Outcome.SUCCEEDED)
        elif end == "failed":
            finish(bench, grant, Outcome.FAILED)
        elif end == "last attempt":
            finish(bench, grant, Outcome.FAILED, retriable=True)
        elif end == "cancelled":
            cancel(bench, pid)
            finish(bench, grant, Outcome.CANCELLED)
        elif end == "worker lost":
            bench.fall_silent(RunningJob(pid=pid, fence=grant.fence))
        else:
            cancel(bench, pid)
            for _ in range(3):
                bench.beat()
    job = Job.model_validate(bench.job(pid))
    assert job.finished_at is not None
    assert job.expires_at is not None
    assert (job.expires_at - job.finished_at).total_seconds() == (days or 30) * DAY
    bench.clock.advance((days or 30) * DAY - 1)
    bench.ledger.sweep(broker_ready=True)
    assert bench.job(pid)["pid"] == pid
    bench.clock.advance(1)
    bench.ledger.sweep(broker_ready=True)
    with pytest.raises(NotFound):
        bench.job(pid)
    assert bench.database.jobs.count_documents({}) == 0


def test_nothing_expires_while_somebody_has_to_be_told(bench: Bench) -> None:
    """A mail server that is away for longer than the retention: the job stays until its mail is settled."""
    pid = bench.register(notify=Notify(email="ada@example.org", on=[NotifyOn.SUCCEEDED]), retention_days=1)
    (grant,) = bench.claim()
    finish(bench, grant, Outcome.SUCCEEDED, result=1)
    bench.clock.advance(2 * DAY)
    bench.ledger.sweep(broker_ready=True)
    assert bench.job(pid)["notifications"][0]["state"] == NotificationState.DUE
    outbox = Outbox(bench.database.jobs, lease_seconds=60, clock=bench.clock)
    lease = outbox.lease(take_over=True)
    assert lease is not None
    assert outbox.settle(lease, NotificationState.SENT)
    bench.ledger.sweep(broker_ready=True)
    with pytest.raises(NotFound):
        bench.job(pid)


def test_an_active_job_does_not_expire(bench: Bench) -> None:
    """Retention begins at the end: a job may wait or run for longer than it is kept."""
    waiting = bench.register(retention_days=0.1)
    running = bench.register(retention_days=0.1)
    bench.claim()
    bench.clock.advance(30 * DAY)
    bench.ledger.sweep(broker_ready=True)
    assert bench.job(running)["expires_at"] is None
    assert bench.job(waiting)["expires_at"] is None
