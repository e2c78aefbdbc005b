"""Reports of workers that were given up: they count until the next claim, and nothing else gives way to them."""

from ledger_bench import LEASE_SECONDS, Bench
from ledger_faults import FrailDatabase

from contracts.ids import new_id
from contracts.messages import Claim, Finish, Notify, Order, RunningJob, Settle
from contracts.status import ErrorKind, JobStatus, NotifyOn, Outcome
from results_service.ledger.bootstrap import Ledger
from results_service.ledger.leases import RECONNECT_SECONDS


def test_a_late_success_is_on_record_as_one(bench: Bench) -> None:
    """When a worker that was given up finishes after all, its attempt no longer says that the worker was lost."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=1))
    assert bench.job(pid)["attempts"][0]["error"]["kind"] == ErrorKind.WORKER_LOST
    bench.finish(grant, result=1)
    (attempt,) = bench.job(pid)["attempts"]
    assert (attempt["outcome"], attempt["error"]) == (Outcome.SUCCEEDED, None)


def test_a_claim_does_not_run_over_a_late_report_that_comes_with_it(bench: Bench) -> None:
    """A job fails late, with a pause before its next attempt: a claim served in the same batch keeps to the pause."""
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=1))
    late = Finish(
        pid=pid, fence=grant.fence, worker_id="w1", outcome=Outcome.FAILED, retriable=True, retry_after_seconds=60
    )
    claim = Claim(claim_id=new_id(), worker_id="w2", pool="default", tasks=["bmi"], count=1)
    reported, claimed = bench.ledger.settle([Settle(finishes=[late]), Settle(claim=claim)], repeated=[False, False])
    assert reported.verdicts[0].status == JobStatus.PENDING
    assert claimed.grants == []
    assert bench.job(pid)["status"] == JobStatus.PENDING


def test_a_late_hand_back_does_not_turn_a_success_into_a_retry(bench: Bench) -> None:
    """What an old attempt reports in the same batch has no say in what the current one's report means."""
    pid = bench.register()
    (old,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=old.fence))
    (current,) = bench.claim(worker="w2")
    late = Finish(pid=pid, fence=old.fence, worker_id="w1", outcome=Outcome.HANDED_BACK)
    success = Finish(pid=pid, fence=current.fence, worker_id="w2", outcome=Outcome.SUCCEEDED, result=1)
    first, second = bench.ledger.settle([Settle(finishes=[late]), Settle(finishes=[success])], repeated=[False, False])
    assert (first.verdicts[0].finish, second.verdicts[0].finish) == ("superseded", "stored")
    assert (bench.job(pid)["status"], bench.job(pid)["result"]) == (JobStatus.SUCCEEDED, 1)


def test_a_cancel_that_races_with_giving_up_is_not_left_behind(bench: Bench) -> None:
    """A cancel accepted while the sweep gives its worker up ends the job in that sweep, not a lease later."""
    pid = bench.register()
    bench.claim()
    slow = FrailDatabase(bench.database)
    ledger = Ledger(slow, bench.events, bench.ledger.settings, bench.clock)  # type: ignore[arg-type]
    order = Order(pid=pid, owner="local")
    for _ in range(int(RECONNECT_SECONDS + LEASE_SECONDS)):
        ledger.sweep(broker_ready=True)
        bench.clock.advance(1)
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    slow.plan.begin(interlude=lambda: bench.ledger.orders.cancel(order) and None)
    ledger.sweep(broker_ready=True)
    assert bench.job(pid)["status"] == JobStatus.CANCELLED


def test_a_cancelled_job_that_is_taken_back_wakes_the_notifier(bench: Bench) -> None:
    """Nobody ran the job when its cancel came: taking it back ends it, and the mail about that goes at once."""
    pid = bench.register(notify=Notify(email="ada@example.org", on=[NotifyOn.CANCELLED]))
    bench.claim()
    bench.ledger.orders.cancel(Order(pid=pid, owner="local"))
    for _ in range(3):
        bench.beat()
    assert bench.job(pid)["status"] == JobStatus.CANCELLED
    assert bench.events.mails == [pid]
