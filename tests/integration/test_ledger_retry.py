"""An explicit retry against a real mongod: same pid, a new budget, and nothing of the old run gets in."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from ledger_bench import Bench
from ledger_faults import FrailDatabase

from contracts.errors import CoatcheckError, NotFound, NotRetryable
from contracts.ids import new_id
from contracts.job import Job
from contracts.messages import Notify, Order, RunningJob, Ticket
from contracts.status import ErrorKind, JobStatus, NotificationState, NotifyOn, Outcome
from results_service.ledger.bootstrap import Ledger
from results_service.notifier.outbox import Outbox

ADA = Notify(email="ada@example.org", on=list(NotifyOn))


def retry(bench: Bench, pid: str, owner: str = "local") -> Ticket:
    """The order itself."""
    return bench.ledger.orders.retry(Order(pid=pid, owner=owner))


def failed(bench: Bench, notify: Notify | None = None) -> str:
    """A job that has failed at its only attempt."""
    pid = bench.register(max_attempts=1, notify=notify)
    bench.fail(bench.claim()[0])
    return pid


def states(bench: Bench, pid: str) -> list[tuple[str, str]]:
    """The outbox, in its order."""
    return [(entry["on"], entry["state"]) for entry in bench.job(pid)["notifications"]]


def outbox(bench: Bench) -> Outbox:
    """The notifier's view of the same jobs."""
    return Outbox(bench.database.jobs, lease_seconds=60, clock=bench.clock)


def test_a_failed_job_runs_again_under_its_pid(bench: Bench) -> None:
    """The old outcome is in the attempts and nowhere else, the budget is new, and the pool is woken."""
    pid = failed(bench)
    bench.events.states.clear()
    ticket = retry(bench, pid)
    assert (ticket.pid, ticket.status, ticket.due) == (pid, JobStatus.PENDING, True)
    assert bench.events.states == [(pid, JobStatus.PENDING)]
    assert bench.events.rings == ["default"]
    job = Job.model_validate(bench.job(pid))
    assert (job.error, job.finished_at, job.expires_at, job.started_at, job.not_before) == (None,) * 5
    assert (job.attempt, job.max_attempts, job.queue_position) == (0, 1, 1)
    assert [(a.number, a.outcome, a.error and a.error.kind) for a in job.attempts] == [
        (1, Outcome.FAILED, ErrorKind.CRASHED)
    ]
    (grant,) = bench.claim()
    assert grant.attempt == 1
    assert bench.finish(grant, result=1).status == JobStatus.SUCCEEDED
    job = Job.model_validate(bench.job(pid))
    assert [(a.number, a.outcome) for a in job.attempts] == [(1, Outcome.FAILED), (2, Outcome.SUCCEEDED)]
    assert (job.attempts_total, job.attempt, job.result) == (2, 1, 1)


def test_a_job_cancelled_before_it_ran_has_no_attempt_to_keep(bench: Bench) -> None:
    """It runs again all the same, and the cancel does not follow it."""
    pid = bench.register()
    bench.ledger.orders.cancel(Order(pid=pid, owner="local"))
    retry(bench, pid)
    assert bench.job(pid)["attempts"] == []
    (grant,) = bench.claim()
    assert bench.finish(grant, result=1).status == JobStatus.SUCCEEDED


def test_the_cancel_of_a_running_attempt_does_not_reach_the_next_run(bench: Bench) -> None:
    """The accepted cancel is forgotten: the next run may succeed, and no heartbeat stops it."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.ledger.orders.cancel(Order(pid=pid, owner="local"))
    bench.finish(grant, Outcome.CANCELLED)
    retry(bench, pid)
    (again,) = bench.claim()
    assert bench.beat(RunningJob(pid=pid, fence=again.fence)) == []
    assert bench.finish(again, result=1).status == JobStatus.SUCCEEDED
    assert [a["outcome"] for a in bench.job(pid)["attempts"]] == [Outcome.CANCELLED, Outcome.SUCCEEDED]


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.HANDED_BACK])
def test_a_late_finish_of_a_worker_given_up_does_not_touch_the_next_run(bench: Bench, outcome: Outcome) -> None:
    """Given up, failed, retried: what the old worker still reports is void, before the next claim and after it.

    To see it fail, take ``"$inc": {"fence": 1}`` out of `transitions.run_again`.
    """
    pid = bench.register(max_attempts=1)
    (old,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=old.fence))
    assert bench.job(pid)["error"]["kind"] == ErrorKind.WORKER_LOST
    retry(bench, pid)
    assert bench.finish(old, outcome, retriable=True).finish == "superseded"
    assert [(stop.fence, stop.reason) for stop in bench.beat(RunningJob(pid=pid, fence=old.fence))] == [
        (old.fence, "superseded")
    ]
    (new,) = bench.claim(worker="w2")
    assert bench.finish(old, outcome, retriable=True).finish == "superseded"
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    assert bench.finish(new, result="right").finish == "stored"
    assert bench.job(pid)["result"] == "right"


def test_a_worker_that_comes_back_after_its_job_has_failed_is_told_to_stop(bench: Bench) -> None:
    """Its outcome stands, so nothing is gained by running on; a finish whose answer is on its way is left alone."""
    lost, ended = bench.register(max_attempts=1), bench.register(max_attempts=1)
    grants = {grant.pid: grant for grant in bench.claim(count=2)}
    bench.fail(grants[ended])
    running = [RunningJob(pid=grant.pid, fence=grant.fence) for grant in grants.values()]
    bench.fall_silent(*running)
    assert bench.job(lost)["error"]["kind"] == ErrorKind.WORKER_LOST
    assert [(stop.pid, stop.reason) for stop in bench.beat(*running)] == [(lost, "superseded")]


def test_a_finish_that_was_stored_is_still_said_to_be_stored(bench: Bench) -> None:
    """Its answer was lost, and the job runs again meanwhile: the repetition changes nothing."""
    pid = bench.register(max_attempts=1)
    (grant,) = bench.claim()
    bench.fail(grant)
    retry(bench, pid)
    assert bench.fail(grant).finish == "stored"
    assert bench.job(pid)["status"] == JobStatus.PENDING


def test_what_is_active_or_has_succeeded_cannot_be_retried(bench: Bench) -> None:
    """The refusal says where the job stands, and nothing has changed."""
    pid = bench.register()
    for status in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCEEDED):
        before = bench.database.jobs.find_one({"_id": pid})
        with pytest.raises(NotRetryable) as refusal:
            retry(bench, pid)
        assert refusal.value.members == {"job_status": status}
        assert bench.database.jobs.find_one({"_id": pid}) == before
        if status is JobStatus.PENDING:
            (grant,) = bench.claim()
        elif status is JobStatus.RUNNING:
            bench.finish(grant, result=1)


def test_what_is_unknown_deleted_or_another_owners_is_not_found(bench: Bench) -> None:
    """A retry brings nothing back from the dead, and nobody else's job."""
    pid = failed(bench)
    for wrong, owner in ((new_id(), "local"), (pid, "somebody")):
        with pytest.raises(NotFound):
            retry(bench, wrong, owner)
    bench.ledger.orders.delete(Order(pid=pid, owner="local"))
    with pytest.raises(NotFound):
        retry(bench, pid)


def test_retries_at_the_same_moment_are_one(bench: Bench) -> None:
    """Of many that come at once one is accepted, and the job runs once more."""
    pid = failed(bench)

    def attempt(_: int) -> object:
        try:
            return retry(bench, pid)
        except CoatcheckError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(attempt, range(8)))
    assert sum(isinstance(answer, Ticket) for answer in answers) == 1
    assert sum(isinstance(answer, NotRetryable) for answer in answers) == 7
    assert len(bench.claim(count=2)) == 1


def test_a_delete_that_races_with_a_retry_ends_the_job(bench: Bench) -> None:
    """A job that runs again just before it is hidden does not run on as a tombstone: the delete cancels it."""
    pid = failed(bench)
    slow = FrailDatabase(bench.database)
    ledger = Ledger(slow, bench.events, bench.ledger.settings, bench.clock)  # type: ignore[arg-type]
    slow.plan.begin(interlude=lambda: retry(bench, pid) and None, at=4)  # before the write that hides
    ledger.orders.delete(Order(pid=pid, owner="local"))
    assert bench.claim() == []
    bench.ledger.sweep(broker_ready=True)
    assert bench.database.jobs.count_documents({}) == 0


def test_whoever_asked_for_mail_is_told_of_the_next_outcome(bench: Bench) -> None:
    """What was sent stays as history; every outcome is waited for again, also what had been skipped."""
    pid = failed(bench, ADA)
    for _ in range(2):
        lease = outbox(bench).lease(take_over=True)
        assert lease is not None
        assert outbox(bench).settle(lease, NotificationState.SENT)
    retry(bench, pid)
    waiting = [("succeeded", "waiting"), ("failed", "waiting"), ("cancelled", "waiting")]
    assert states(bench, pid) == [("accepted", "sent"), ("failed", "sent"), *waiting]
    bench.finish(bench.claim()[0], result=1)
    outcome = [("succeeded", "due"), ("failed", "skipped"), ("cancelled", "skipped")]
    assert states(bench, pid) == [("accepted", "sent"), ("failed", "sent"), *outcome]


def test_a_mail_that_is_still_due_tells_of_its_own_outcome(bench: Bench) -> None:
    """The mail server was away when the job failed: its mail still goes, about that failure, whatever comes next."""
    pid = failed(bench, Notify(email="ada@example.org", on=[NotifyOn.FAILED]))
    ended = bench.job(pid)
    bench.clock.advance(5)
    retry(bench, pid)
    (again,) = bench.claim()
    lease = outbox(bench).lease(take_over=True)
    assert lease is not None
    assert lease.job["error"] == {"kind": ErrorKind.CRASHED, "message": "killed by signal 9"}
    assert (lease.job["finished_at"], lease.job["fence"]) == (ended["finished_at"], 1)
    bench.fail(again)
    assert outbox(bench).settle(lease, NotificationState.SENT)
    assert states(bench, pid) == [("failed", "sent"), ("failed", "due")]
    lease = outbox(bench).lease(take_over=True)
    assert lease is not None
    assert lease.job["fence"] == again.fence


def test_the_history_of_mails_is_bounded(bench: Bench) -> None:
    """However often a job is run again, its outbox does not grow without end."""
    pid = failed(bench, ADA)
    for _ in range(30):
        retry(bench, pid)
        bench.fail(bench.claim()[0])
    found = states(bench, pid)
    assert found.count(("accepted", "due")) == 1
    assert len(found) == 1 + 20 + 3
    assert bench.job(pid)["attempts_total"] == 31
    assert [a["number"] for a in bench.job(pid)["attempts"]] == list(range(12, 32))


def test_a_retry_starts_behind_those_that_wait(bench: Bench) -> None:
    """Its place in the queue is that of a job that comes now."""
    pid = failed(bench)
    bench.clock.advance(1)
    first = bench.register()
    bench.clock.advance(1)
    retry(bench, pid)
    assert [grant.pid for grant in bench.claim(count=2)] == [first, pid]


def test_a_job_that_runs_again_does_not_expire(bench: Bench) -> None:
    """The expiry of the old outcome is gone with it."""
    pid = failed(bench)
    bench.clock.advance(29 * 86400)
    retry(bench, pid)
    bench.clock.advance(2 * 86400)
    bench.ledger.sweep(broker_ready=True)
    (grant,) = bench.claim()
    bench.fail(grant)
    assert bench.job(pid)["expires_at"] == bench.clock.now() + timedelta(days=30)
