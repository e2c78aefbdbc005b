"""Reports of workers that were given up: they count until the next claim, and nothing else gives way to them."""

from ledger_bench import Bench

from contracts.ids import new_id
from contracts.messages import Claim, Finish, RunningJob, Settle
from contracts.status import ErrorKind, JobStatus, Outcome


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
