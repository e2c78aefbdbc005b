"""Promise 2, in the ledger: a job gets one outcome, and no outage of ours makes it run twice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger_bench import LEASE_SECONDS, Bench

from contracts.broker import LAST_RETRY_SECONDS
from contracts.errors import NotCancellable
from contracts.ids import new_id
from contracts.messages import Claim, Finish, GetJob, Notify, Order, RunningJob, Settle, Verdict
from contracts.status import TERMINAL, JobStatus, NotificationState, NotifyOn, Outcome
from results_service.ledger.leases import LOOKS_PER_LEASE, RECONNECT_SECONDS

RACES = 40
ENDS = [NotifyOn.SUCCEEDED, NotifyOn.FAILED, NotifyOn.CANCELLED]


def say(bench: Bench, pid: str, fence: int, outcome: Outcome, **changes: object) -> Verdict:
    """What a worker reports about one fence."""
    finish = Finish(pid=pid, fence=fence, worker_id="w1", outcome=outcome, **changes)
    return bench.settle(Settle(finishes=[finish])).verdicts[0]


def test_racing_ends_leave_one_outcome(bench: Bench) -> None:
    """Reports of the current and of an old fence, repeats and cancels at the same moment: one of them is stored.

    Half of the jobs are at their second claim, the others wait for it.
    Break: results_service/ledger/settle.py `_open_attempt` without the fence.
    """
    pids = [bench.register(notify=Notify(email="ada@example.org", on=ENDS)) for _ in range(RACES)]
    fences = {grant.pid: grant.fence for grant in bench.claim(RACES)}
    bench.fall_silent(*(RunningJob(pid=pid, fence=1) for pid in pids))
    fences |= {grant.pid: grant.fence for grant in bench.claim(RACES // 2, worker="w2")}
    assert sorted(fences.values()) == [1] * (RACES // 2) + [2] * (RACES // 2)
    for pid in pids:
        if fences[pid] == 2:
            assert say(bench, pid, 1, Outcome.SUCCEEDED, result="old").finish == "superseded"
    start = threading.Barrier(6)

    def cancel(pid: str) -> str | None:
        try:
            bench.ledger.orders.cancel(Order(pid=pid, owner="local"))
        except NotCancellable:
            return None
        return JobStatus.CANCELLED

    def report(pid: str, back: int, outcome: Outcome, result: str | None) -> str | None:
        verdict = say(bench, pid, fences[pid] - back, outcome, result=result)
        return verdict.status if verdict.finish == "stored" and not back else None

    def race(act: Callable[[str], str | None]) -> dict[str, str | None]:
        start.wait(10)
        return {pid: act(pid) for pid in pids}

    racers: list[Callable[[str], str | None]] = [
        lambda pid: report(pid, 0, Outcome.SUCCEEDED, "current"),
        lambda pid: report(pid, 0, Outcome.SUCCEEDED, "current"),
        lambda pid: report(pid, 0, Outcome.FAILED, None),
        lambda pid: report(pid, 1, Outcome.SUCCEEDED, "old"),
        lambda pid: report(pid, 1, Outcome.FAILED, None),
        lambda pid: cancel(pid) if pids.index(pid) % 2 else None,
    ]
    with ThreadPoolExecutor(len(racers)) as pool:
        answers = list(pool.map(race, racers))
    for pid in pids:
        say(bench, pid, fences[pid], Outcome.SUCCEEDED, result="at last")
        document = bench.database.jobs.find_one({"_id": pid})
        assert document is not None
        assert document["status"] in TERMINAL
        told = {answer[pid] for answer in answers} - {None}
        assert told <= {document["status"]}, document
        assert document.get("result") in {"current", "at last", None}
        states = sorted(entry["state"] for entry in document["notifications"])
        assert states == [NotificationState.DUE, NotificationState.SKIPPED, NotificationState.SKIPPED]
        assert [entry["on"] for entry in document["notifications"] if entry["state"] == "due"] == [document["status"]]


def test_a_late_report_does_not_undo_a_cancel(bench: Bench) -> None:
    """A job that was cancelled while it waited for its next claim stays cancelled, though the old fence is current.

    Break: results_service/ledger/settle.py `_open_attempt` without the status.
    """
    pid = bench.register()
    (grant,) = bench.claim()
    bench.fall_silent(RunningJob(pid=pid, fence=grant.fence))
    assert bench.ledger.orders.cancel(Order(pid=pid, owner="local")).status is JobStatus.CANCELLED
    assert bench.finish(grant, result="late").finish == "superseded"
    assert bench.job(pid)["status"] == JobStatus.CANCELLED
    assert bench.job(pid)["result"] is None


def test_the_first_report_under_a_fence_is_the_outcome(bench: Bench) -> None:
    """A failure that goes to another attempt cannot be turned into a success by the same fence.

    Break: results_service/ledger/settle.py `_open_attempt` without the settled fence.
    """
    pid = bench.register()
    (grant,) = bench.claim()
    assert bench.fail(grant).status is JobStatus.PENDING
    assert bench.finish(grant, result="changed my mind").status is JobStatus.PENDING
    assert bench.job(pid)["status"] == JobStatus.PENDING
    assert bench.job(pid)["attempts"][0]["outcome"] == Outcome.FAILED


def test_a_dead_worker_is_noticed_as_soon_as_its_lease_is_over(bench: Bench) -> None:
    """Seen first by a sweep that is late, its job is free again when the lease has run from there, not a sweep later.

    With the default lease of 15 s, looked at every 3 s, another worker has the job within 20 s.
    Break: results_service/ledger/sweep.py `_lease_end` returning None.
    """
    late = 4.0
    pid = bench.register()
    bench.claim()
    bench.watch(RECONNECT_SECONDS)
    bench.beat(RunningJob(pid=pid, fence=1))
    died_at = bench.clock.monotonic()
    bench.clock.advance(late)
    while (wake_at := bench.ledger.sweep(broker_ready=True)) or bench.job(pid)["status"] == JobStatus.RUNNING:
        pause = (wake_at - bench.clock.now()).total_seconds() if wake_at else late
        bench.clock.advance(min(late, max(0.1, pause)))
        assert bench.clock.monotonic() - died_at < 2 * LEASE_SECONDS
    assert bench.clock.monotonic() - died_at <= late + LEASE_SECONDS
    assert LEASE_SECONDS / LOOKS_PER_LEASE + LEASE_SECONDS < 20


def test_a_sweeper_that_stood_still_gives_nobody_up(bench: Bench) -> None:
    """A results service that was stopped for longer than the lease takes nobody's job when it goes on.

    Break: results_service/ledger/leases.py `overdue` without the look at the gap.
    """
    pid = bench.register()
    bench.claim()
    bench.watch(RECONNECT_SECONDS)
    bench.beat(RunningJob(pid=pid, fence=1))
    bench.watch(1)
    bench.clock.advance(10 * LEASE_SECONDS)
    bench.watch(1)
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    bench.watch(RECONNECT_SECONDS + LEASE_SECONDS)
    assert bench.job(pid)["status"] == JobStatus.PENDING


@pytest.mark.parametrize("seconds", [1, 2 * LEASE_SECONDS])
def test_after_an_outage_workers_have_time_to_come_back(bench: Bench, seconds: float) -> None:
    """However short the lease, a worker that reconnects within seconds of an outage's end keeps its jobs.

    Break: results_service/ledger/leases.py `RECONNECT_SECONDS = 0`, or `interrupt` doing nothing.
    """
    pid = bench.register()
    bench.claim()
    bench.watch(RECONNECT_SECONDS)
    bench.beat(RunningJob(pid=pid, fence=1))
    bench.watch(LEASE_SECONDS - 1)
    for _ in range(int(seconds)):
        bench.ledger.sweep(broker_ready=False)
        bench.clock.advance(1)
    bench.watch(LEASE_SECONDS + LAST_RETRY_SECONDS)
    assert bench.job(pid)["status"] == JobStatus.RUNNING


def test_what_a_claim_on_its_way_was_granted_is_not_taken_back(bench: Bench) -> None:
    """Beats of a worker that still waits for the answer to its claim do not make its jobs run elsewhere.

    Break: results_service/ledger/heartbeats.py `_orders` without the look at `claiming`.
    """
    pid = bench.register()
    claim = Claim(claim_id=new_id(), worker_id="w1", pool="default", tasks=["bmi"], count=1)
    bench.settle(Settle(claim=claim))
    for _ in range(5):
        bench.beat(claiming=claim.claim_id)
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    (grant,) = bench.settle(Settle(claim=claim, repeated=True)).grants
    bench.beat(RunningJob(pid=pid, fence=grant.fence))
    assert bench.finish(grant, result=1).status is JobStatus.SUCCEEDED
    for _ in range(3):
        bench.beat()
    answer = bench.ledger.queries.get([GetJob(pid=pid, owner="local")])[0]
    assert isinstance(answer, dict)
    assert (answer["status"], answer["attempt"]) == (JobStatus.SUCCEEDED, 1)
