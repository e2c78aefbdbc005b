"""The ledger against a real mongod: every change of state is one conditional write."""

from datetime import timedelta

import pytest
from ledger_bench import LEASE_SECONDS, Bench

from contracts import codec
from contracts.errors import IdempotencyMismatch, NotCancellable, NotFound
from contracts.ids import new_id
from contracts.job import Job
from contracts.messages import (
    Announcement,
    Claim,
    Finish,
    Idempotency,
    JobQuery,
    Notify,
    Order,
    RunningJob,
    Settle,
)
from contracts.status import ErrorKind, JobStatus, NotifyOn, Outcome, Priority
from results_service.ledger.leases import RECONNECT_SECONDS


def test_a_job_lives_from_register_to_result(bench: Bench) -> None:
    """Register → claim → finish leaves one succeeded job with its result and one recorded attempt."""
    pid = bench.register()
    assert bench.job(pid)["queue_position"] == 1
    (grant,) = bench.claim()
    assert (grant.pid, grant.fence, grant.attempt) == (pid, 1, 1)
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    settled = bench.finish(grant, result={"bmi": 22.9}, cpu_seconds=0.01)
    assert (settled.finish, settled.status) == ("stored", JobStatus.SUCCEEDED)
    job = Job.model_validate(bench.job(pid))
    assert job.result == {"bmi": 22.9}
    assert [(a.number, a.outcome) for a in job.attempts] == [(1, Outcome.SUCCEEDED)]
    assert [status for _, status in bench.events.states] == [JobStatus.RUNNING, JobStatus.SUCCEEDED]


def test_a_batch_is_answered_one_by_one(bench: Bench) -> None:
    """Requests that are served together get the answers they would have got alone."""
    jobs = [bench.new() for _ in range(5)]
    twice = jobs[2]
    answers = bench.ledger.register([*jobs, twice])
    assert [a.pid for a in answers if not isinstance(a, Exception)] == [j.pid for j in [*jobs, twice]]
    claims = [
        Settle(claim=Claim(claim_id=new_id(), worker_id=w, pool="default", tasks=["bmi"], count=2)) for w in "abc"
    ]
    settled = bench.ledger.settle(claims, repeated=[False] * 3)
    granted = [[g.pid for g in s.grants] for s in settled]
    assert [pid for pids in granted for pid in pids] == [j.pid for j in jobs]
    assert [len(pids) for pids in granted] == [2, 2, 1]


def test_a_repeated_registration_stores_one_job(bench: Bench) -> None:
    """A redelivered register answers with the same ticket and stores nothing twice."""
    job = bench.new()
    first, second = bench.ledger.register([job])[0], bench.ledger.register([job])[0]
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    assert first.pid == second.pid
    assert bench.database.jobs.count_documents({}) == 1


def test_an_idempotency_key_is_one_job(bench: Bench) -> None:
    """The same key gives the same pid, also in one batch; another payload is refused; after a day it is free."""
    key = Idempotency(key="order-17", fingerprint="a")
    same = [bench.new(idempotency=key) for _ in range(3)]
    tickets = bench.ledger.register(same)
    pids = {t.pid for t in tickets if not isinstance(t, Exception)}
    assert len(pids) == 1
    assert [t.replayed for t in tickets if not isinstance(t, Exception)].count(True) == 2
    with pytest.raises(IdempotencyMismatch):
        bench.register(idempotency=Idempotency(key="order-17", fingerprint="b"))
    assert bench.register(owner="somebody", idempotency=key) not in pids
    bench.clock.advance(24 * 3600 + 1)
    assert bench.register(idempotency=key) not in pids


def test_a_repeated_claim_gets_the_same_grant(bench: Bench) -> None:
    """A claim whose answer was lost is answered again, and takes no further job."""
    bench.register()
    bench.register()
    claim = Claim(claim_id=new_id(), worker_id="w1", pool="default", tasks=["bmi"], count=1)
    first = bench.settle(Settle(claim=claim))
    second = bench.settle(Settle(claim=claim, repeated=True))
    assert first.grants == second.grants
    assert bench.database.jobs.count_documents({"status": JobStatus.PENDING}) == 1


def test_only_the_tasks_a_worker_has_are_granted(bench: Bench) -> None:
    """Two images can share a pool: a worker gets no job whose task it does not know."""
    bench.register(task="other")
    assert bench.claim(tasks=("bmi",)) == []
    assert len(bench.claim(tasks=("bmi", "other"))) == 1


def test_who_has_heard_nothing_is_not_looked_for(bench: Bench) -> None:
    """A claim that rides on a finish costs no look when nothing was left before; one that heard a bell does."""
    bench.register()
    (grant,) = bench.claim()
    pid = bench.register()
    finish = Finish(pid=grant.pid, fence=grant.fence, worker_id="w1", outcome=Outcome.SUCCEEDED)
    rides = Claim(claim_id=new_id(), worker_id="w1", pool="default", tasks=["bmi"], count=1, heard=False)
    settled = bench.settle(Settle(finishes=[finish], claim=rides))
    assert (settled.grants, settled.more) == ([], False)
    assert [grant.pid for grant in bench.claim()] == [pid]


def test_priority_goes_first_and_ages(bench: Bench) -> None:
    """High before normal before low; a low one that waited long enough passes a fresh normal one."""
    low = bench.register(priority=Priority.LOW)
    normal = bench.register()
    high = bench.register(priority=Priority.HIGH)
    assert [bench.job(pid)["queue_position"] for pid in (high, normal, low)] == [1, 2, 3]
    bench.clock.advance(700)
    late = bench.register()
    assert [grant.pid for grant in bench.claim(count=4)] == [high, normal, low, late]


def test_a_scheduled_job_waits_for_its_time(bench: Bench) -> None:
    """Before not_before a job is neither granted nor queued; the sweep rings when it is due."""
    pid = bench.register(not_before=bench.clock.now() + timedelta(seconds=60))
    assert bench.claim() == []
    assert bench.job(pid)["queue_position"] is None
    assert bench.ledger.sweep(broker_ready=True) == bench.clock.now() + timedelta(seconds=60)
    bench.clock.advance(60)
    bench.beat()
    bench.ledger.sweep(broker_ready=True)
    assert bench.events.rings == ["default"]
    assert [grant.pid for grant in bench.claim()] == [pid]


def test_finish_is_stored_once(bench: Bench) -> None:
    """A finish that is repeated gets the same answer, and another result under the same fence changes nothing."""
    pid = bench.register()
    (grant,) = bench.claim()
    assert bench.finish(grant, result=1).finish == "stored"
    again = bench.finish(grant, result=2)
    assert (again.finish, again.status) == ("stored", JobStatus.SUCCEEDED)
    assert bench.job(pid)["result"] == 1


def test_a_superseded_claim_changes_nothing(bench: Bench) -> None:
    """What an old fence reports after the next claim is discarded."""
    pid = bench.register()
    (old,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=old.fence))
    (new,) = bench.claim(worker="w2")
    assert new.fence == old.fence + 1
    assert bench.finish(old, result="late").finish == "superseded"
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    bench.finish(new, result="right")
    assert bench.job(pid)["result"] == "right"


def test_a_hand_back_is_no_attempt(bench: Bench) -> None:
    """A job handed back keeps its place and its budget, however often the hand-back is repeated."""
    pid = bench.register(max_attempts=1)
    (grant,) = bench.claim()
    bench.finish(grant, Outcome.HANDED_BACK)
    bench.finish(grant, Outcome.HANDED_BACK)
    job = bench.job(pid)
    assert (job["status"], job["attempt"], job["queue_position"]) == (JobStatus.PENDING, 0, 1)
    (grant,) = bench.claim()
    assert grant.attempt == 1
    assert bench.finish(grant, result=1).status == JobStatus.SUCCEEDED


def test_failures_are_retried_within_the_budget(bench: Bench) -> None:
    """A retriable failure goes back to pending with a back-off until the budget is spent."""
    pid = bench.register(max_attempts=2)
    (grant,) = bench.claim()
    assert bench.fail(grant).status == JobStatus.PENDING
    assert bench.claim() == []
    assert bench.job(pid)["not_before"] > bench.clock.now()
    bench.clock.advance(2)
    (grant,) = bench.claim()
    assert bench.fail(grant).status == JobStatus.FAILED
    job = Job.model_validate(bench.job(pid))
    assert job.error is not None
    assert job.error.signal == "SIGKILL"
    assert [a.outcome for a in job.attempts] == [Outcome.FAILED, Outcome.FAILED]


def test_a_final_failure_is_not_retried(bench: Bench) -> None:
    """What the worker calls final ends the job at its first attempt."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fail(grant, retriable=False)
    assert bench.job(pid)["status"] == JobStatus.FAILED


def test_cancel_of_a_pending_job_is_final(bench: Bench) -> None:
    """A pending job that was cancelled never starts; repeating the cancel is harmless."""
    pid = bench.register()
    assert bench.ledger.orders.cancel(Order(pid=pid, owner="local")).status == JobStatus.CANCELLED
    assert bench.claim() == []
    assert bench.ledger.orders.cancel(Order(pid=pid, owner="local")).status == JobStatus.CANCELLED


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED, Outcome.HANDED_BACK])
def test_after_an_accepted_cancel_every_end_is_cancelled(bench: Bench, outcome: Outcome) -> None:
    """Whatever a worker reports after a cancel was accepted, the job ends as cancelled."""
    pid = bench.register()
    (grant,) = bench.claim()
    assert bench.ledger.orders.cancel(Order(pid=pid, owner="local")).status == JobStatus.RUNNING
    assert [order.pid for _, order in bench.events.stops] == [pid]
    settled = bench.finish(grant, outcome, result="late" if outcome is Outcome.SUCCEEDED else None, retriable=True)
    assert (settled.finish, settled.status) == ("stored", JobStatus.CANCELLED)
    assert bench.job(pid)["result"] is None


def test_cancel_after_the_end_says_so(bench: Bench) -> None:
    """A job that has succeeded cannot be cancelled, and an unknown one is not found."""
    pid = bench.register()
    bench.finish(bench.claim()[0], result=1)
    with pytest.raises(NotCancellable):
        bench.ledger.orders.cancel(Order(pid=pid, owner="local"))
    with pytest.raises(NotFound):
        bench.ledger.orders.cancel(Order(pid=new_id(), owner="local"))
    with pytest.raises(NotFound):
        bench.ledger.orders.cancel(Order(pid=pid, owner="somebody"))


def test_a_lost_cancel_event_is_repaired_by_the_heartbeat(bench: Bench) -> None:
    """The reply to a heartbeat names what was cancelled and what was superseded."""
    cancelled, superseded = bench.register(), bench.register()
    grants = {grant.pid: grant for grant in bench.claim(count=2)}
    bench.ledger.orders.cancel(Order(pid=cancelled, owner="local"))
    bench.finish(grants[superseded], Outcome.HANDED_BACK)
    bench.claim(worker="w2")
    stops = bench.beat(*(RunningJob(pid=grant.pid, fence=grant.fence) for grant in grants.values()))
    assert {(stop.pid, stop.reason) for stop in stops} == {(cancelled, "cancelled"), (superseded, "superseded")}


def test_a_job_its_worker_never_heard_of_is_taken_back(bench: Bench) -> None:
    """When the reply to a claim is lost for good, a few beats bring the job back, uncounted."""
    pid = bench.register(max_attempts=1)
    bench.claim()
    for _ in range(3):
        bench.beat()
    job = bench.job(pid)
    assert (job["status"], job["attempt"]) == (JobStatus.PENDING, 0)


def test_a_silent_worker_is_given_up(bench: Bench) -> None:
    """A beat that stands still for the lease gives the job to another worker, and counts the attempt."""
    pid = bench.register()
    bench.claim()
    bench.watch(RECONNECT_SECONDS)
    bench.beat(RunningJob(pid=pid, fence=1))
    bench.watch(LEASE_SECONDS - 1)
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    bench.watch(1)
    job = bench.job(pid)
    assert job["status"] == JobStatus.PENDING
    assert job["attempts"][0]["error"]["kind"] == ErrorKind.WORKER_LOST
    (grant,) = bench.claim(worker="w2")
    assert (grant.fence, grant.attempt) == (2, 2)


def test_a_worker_that_was_never_heard_of_is_given_up(bench: Bench) -> None:
    """A worker that dies between its claim and its first beat does not keep the job for ever."""
    pid = bench.register()
    bench.claim()
    bench.watch(RECONNECT_SECONDS + LEASE_SECONDS)
    assert bench.job(pid)["status"] == JobStatus.PENDING


def test_an_interrupted_giving_up_is_done_again(bench: Bench) -> None:
    """A worker whose record is gone while its job still runs is found by the job it holds."""
    pid = bench.register()
    bench.claim()
    bench.beat(RunningJob(pid=pid, fence=1))
    bench.database.workers.delete_many({})
    bench.watch(RECONNECT_SECONDS + LEASE_SECONDS)
    assert bench.job(pid)["status"] == JobStatus.PENDING


def test_the_finish_of_a_worker_given_up_counts_until_the_next_claim(bench: Bench) -> None:
    """Giving up does not raise the fence: a result that arrives before somebody else claims is kept."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=1))
    assert bench.job(pid)["status"] == JobStatus.PENDING
    assert bench.finish(grant, result="late but first").finish == "stored"
    assert bench.job(pid)["result"] == "late but first"


def test_an_outage_of_the_broker_gives_nobody_up(bench: Bench) -> None:
    """Silence counts only while the sweep has seen the broker healthy all that time."""
    pid = bench.register()
    bench.claim()
    bench.beat(RunningJob(pid=pid, fence=1))
    bench.watch(RECONNECT_SECONDS + LEASE_SECONDS - 1)
    bench.ledger.sweep(broker_ready=False)
    bench.watch(RECONNECT_SECONDS + LEASE_SECONDS - 1)
    assert bench.job(pid)["status"] == JobStatus.RUNNING


def test_a_deleted_job_is_gone_at_once_and_removed_later(bench: Bench) -> None:
    """A running job that is deleted is 404 at once and leaves the database when its attempt has ended."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.ledger.orders.delete(Order(pid=pid, owner="local"))
    with pytest.raises(NotFound):
        bench.job(pid)
    with pytest.raises(NotFound):
        bench.ledger.orders.delete(Order(pid=pid, owner="local"))
    assert bench.ledger.queries.list_jobs(JobQuery(owner="local")).jobs == []
    bench.ledger.sweep(broker_ready=True)
    assert bench.database.jobs.count_documents({}) == 1
    bench.finish(grant, result=1)
    bench.ledger.sweep(broker_ready=True)
    assert bench.database.jobs.count_documents({}) == 0
    assert bench.finish(grant, result=1).finish == "unknown"
    assert bench.finish(grant, Outcome.HANDED_BACK).finish == "unknown"


def test_mail_is_due_with_the_write_that_causes_it(bench: Bench) -> None:
    """The acceptance is due at once; the outcome's entry becomes due with the outcome, the others are skipped."""
    pid = bench.register(notify=Notify(email="ada@example.org", on=list(NotifyOn)))
    assert bench.events.mails == [pid]
    bench.finish(bench.claim()[0], result=1)
    assert bench.events.mails == [pid, pid]
    states = {entry["on"]: entry["state"] for entry in bench.job(pid)["notifications"]}
    assert states == {"accepted": "due", "succeeded": "due", "failed": "skipped", "cancelled": "skipped"}


def test_pages_go_through_all_jobs_newest_first(bench: Bench) -> None:
    """Following the cursor shows every matching job once, without params and results."""
    pids = [bench.register(tags=["even"] if n % 2 == 0 else [], reference=f"r{n}") for n in range(7)]
    seen: list[str] = []
    after = None
    while True:
        page = bench.ledger.queries.list_jobs(JobQuery(owner="local", limit=2, after_pid=after))
        seen += [job["pid"] for job in page.jobs]
        assert all("params" not in job and "result" not in job for job in page.jobs)
        after = page.next_pid
        if after is None:
            break
    assert seen == pids[::-1]
    even = bench.ledger.queries.list_jobs(JobQuery(owner="local", tag="even")).jobs
    assert [job["pid"] for job in even] == pids[::-2]
    assert bench.ledger.queries.latest(JobQuery(owner="local", reference="r3"))["pid"] == pids[3]
    after_last = bench.clock.now() + timedelta(hours=1)
    assert bench.ledger.queries.list_jobs(JobQuery(owner="local", created_after=after_last)).jobs == []
    assert len(bench.ledger.queries.list_jobs(JobQuery(owner="local", created_before=after_last)).jobs) == 7


def test_expired_jobs_go(bench: Bench) -> None:
    """An ended job is kept for the retention and then removed; an active one is not."""
    done, active = bench.register(), bench.register()
    bench.finish(bench.claim()[0], result=1)
    bench.clock.advance(30 * 86400 + 1)
    bench.ledger.sweep(broker_ready=True)
    with pytest.raises(NotFound):
        bench.job(done)
    assert bench.job(active)["status"] == JobStatus.PENDING


def test_json_that_means_something_to_mongodb_survives(bench: Bench) -> None:
    """Members such as $ref, dots in names and 64-bit integers come back as they were sent."""
    odd = {"$ref": "x", "$id": 1, "a.b": {"$where": "1"}, "n": 2**63 - 1, "empty": {"": []}}
    pid = bench.register(params=odd)
    (grant,) = bench.claim()
    bench.finish(grant, result=odd)
    job = codec.loads(codec.dumps(bench.job(pid)))
    assert job["params"] == odd
    assert job["result"] == odd
    assert codec.loads(codec.dumps(grant.model_dump()))["params"] == odd


def test_the_catalogue_knows_who_serves(bench: Bench) -> None:
    """The newest version of a task is offered; it is served while a worker that has it is alive."""
    task = {
        "name": "bmi",
        "title": "BMI",
        "description": "",
        "params_schema": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {}}},
        "result_schema": {},
        "example": {},
        "pool": "default",
        "time_limit": 60,
        "memory_limit_mb": None,
        "max_attempts": 3,
    }
    for version in ("1.9", "1.10"):
        announcement = Announcement.model_validate({"worker_id": "w1", "tasks": [task | {"version": version}]})
        bench.ledger.catalogue.announce(announcement)
    before = bench.ledger.catalogue.read()
    assert [(t.name, t.version, t.serving) for t in before.tasks] == [("bmi", "1.10", False)]
    assert before.tasks[0].params_schema == task["params_schema"]
    bench.beat()
    now = bench.ledger.catalogue.read()
    assert now.tasks[0].serving
    assert now.version != before.version
    bench.clock.advance(8 * 86400)
    assert bench.ledger.catalogue.read().tasks == []
