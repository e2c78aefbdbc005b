"""Promise 5: two active jobs never hold the same lock key, and no lock outlives its job."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from breaking import Api, eventually, serves
from ledger_bench import Bench
from running_stack import RunningStack

from contracts.errors import Conflict
from contracts.ids import new_id
from contracts.messages import Claim, Grant, Idempotency, Order, Settle, Ticket
from contracts.status import JobStatus, OnConflict, Outcome

QUEUE = OnConflict.QUEUE
AT_ONCE = 12


@pytest.fixture
def api(stack: RunningStack) -> Iterator[Api]:
    """A client of the shared stack, ready again if a test before has killed something."""
    eventually(lambda: serves(stack), "ready and serving")
    with stack.client() as http:
        yield Api(http)


def blocking(refusal: pytest.ExceptionInfo[Conflict]) -> list[tuple[str, list[str]]]:
    """Which jobs a refusal names, with the keys."""
    return [(entry["pid"], entry["keys"]) for entry in refusal.value.members["blocking"]]


def holders(bench: Bench, key: str) -> list[str]:
    """The jobs that hold *key*."""
    return [document["_id"] for document in bench.database.jobs.find({"held_locks": key})]


def test_submissions_that_race_for_a_key_are_one_job(bench: Bench) -> None:
    """Twelve submissions at the same moment, each with two of three keys: one is stored, the others are told by whom.

    Break: results_service/ledger/database.py index `locks` without unique.
    """
    start = threading.Barrier(AT_ONCE)
    pairs = [["a", "b"], ["b", "c"], ["a", "c"]]

    def one(number: int) -> Ticket | Exception:
        job = bench.new(locks=pairs[number % 3])
        start.wait(30)
        return bench.ledger.register([job])[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, range(AT_ONCE)))
    (ticket,) = [answer for answer in answers if isinstance(answer, Ticket)]
    refusals = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(refusals) == AT_ONCE - 1
    for refusal in refusals:
        (named,) = refusal.members["blocking"]
        assert (named["pid"], named["task"], named["status"]) == (ticket.pid, "bmi", JobStatus.PENDING)
    assert bench.database.jobs.count_documents({}) == 1


def test_one_batch_knows_its_own_conflicts(bench: Bench) -> None:
    """Jobs of one batch that clash among themselves: the first is stored, others of the batch are not harmed.

    Break: results_service/ledger/register.py `insert_many` with `ordered=True`.
    """
    jobs = [bench.new(locks=["a"]), bench.new(locks=["a", "b"]), bench.new(), bench.new(locks=["b"])]
    first, second, third, fourth = bench.ledger.register(jobs)
    assert isinstance(second, Conflict)
    stored = [answer.pid for answer in (first, third, fourth) if isinstance(answer, Ticket)]
    assert stored == [jobs[0].pid, jobs[2].pid, jobs[3].pid]
    assert [bench.job(pid)["status"] for pid in stored] == [JobStatus.PENDING] * 3


def expect(status: str | None, wanted: str) -> None:
    """The job ended as this case wants it."""
    assert status == wanted


def claim_one(bench: Bench, pid: str) -> Grant:
    """Claim the one job that is due."""
    (grant,) = bench.claim(5)
    assert (grant.pid, grant.locked) == (pid, True)
    return grant


def cancel(bench: Bench, pid: str) -> str:
    """Cancel, and what the answer says."""
    return bench.ledger.orders.cancel(Order(pid=pid, owner="local")).status


def cancel_running(bench: Bench, pid: str) -> None:
    """Cancel while it runs: the keys are free when the worker has reported, not before."""
    grant = claim_one(bench, pid)
    cancel(bench, pid)
    assert holders(bench, "a") == [pid]
    expect(bench.finish(grant).status, JobStatus.CANCELLED)


def lose(bench: Bench, pid: str) -> None:
    """Its worker falls silent, and its budget is spent."""
    claim_one(bench, pid)
    bench.fall_silent()
    expect(bench.job(pid)["status"], JobStatus.FAILED)


ENDS: dict[str, Callable[[Bench, str], None]] = {
    "succeeded": lambda bench, pid: expect(bench.finish(claim_one(bench, pid)).status, JobStatus.SUCCEEDED),
    "failed": lambda bench, pid: expect(bench.fail(claim_one(bench, pid), retriable=False).status, JobStatus.FAILED),
    "cancelled while pending": lambda bench, pid: expect(cancel(bench, pid), JobStatus.CANCELLED),
    "cancelled while running": cancel_running,
    "deleted while pending": lambda bench, pid: bench.ledger.orders.delete(Order(pid=pid, owner="local")),
    "lost for good": lose,
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_frees_the_keys_and_wakes_the_next(bench: Bench, end: str) -> None:
    """However the holder ends, the same write frees its keys, and the first who waits gets them at once.

    Break: results_service/ledger/transitions.py `ended` without `"$unset"`.
    """
    holder = bench.register(locks=["a", "b"], max_attempts=1)
    first = bench.register(locks=["b"], on_conflict=QUEUE)
    second = bench.register(locks=["a", "b"], on_conflict=QUEUE)
    assert bench.job(first)["queue_position"] is None
    bench.events.rings.clear()
    ENDS[end](bench, holder)
    assert (holders(bench, "a"), holders(bench, "b")) == ([], [first])
    assert bench.events.rings
    (grant,) = bench.claim(5)
    assert grant.pid == first
    bench.finish(grant)
    assert [grant.pid for grant in bench.claim(5)] == [second]


def test_keys_stay_while_the_job_is_tried_again(bench: Bench) -> None:
    """Back-off, hand-back and a lost worker leave the keys where they are.

    Break: results_service/ledger/transitions.py `waiting_again` with `"$unset": {"held_locks": ""}`.
    """
    pid = bench.register(locks=["a"], max_attempts=9)
    (grant,) = bench.claim()
    bench.fail(grant)
    assert (bench.job(pid)["status"], holders(bench, "a")) == (JobStatus.PENDING, [pid])
    bench.clock.advance(10)
    (grant,) = bench.claim()
    bench.finish(grant, Outcome.HANDED_BACK)
    assert (bench.job(pid)["status"], holders(bench, "a")) == (JobStatus.PENDING, [pid])
    bench.claim()
    bench.fall_silent()
    assert (bench.job(pid)["status"], holders(bench, "a")) == (JobStatus.PENDING, [pid])
    with pytest.raises(Conflict) as refusal:
        bench.register(locks=["a"])
    assert blocking(refusal) == [(pid, ["a"])]


def test_nobody_overtakes(bench: Bench) -> None:
    """Who waits for two keys keeps the free one from all who come later; a refusal names who waits as well.

    Break: results_service/ledger/locks.py `hand_on` without `spoken_for`.
    """
    a, b = bench.register(locks=["a"]), bench.register(locks=["b"])
    both = bench.register(locks=["a", "b"], on_conflict=QUEUE)
    only_b = bench.register(locks=["b"], on_conflict=QUEUE)
    grants = {grant.pid: grant for grant in bench.claim(5)}
    assert set(grants) == {a, b}
    bench.finish(grants[b])
    assert holders(bench, "b") == []
    with pytest.raises(Conflict) as refusal:
        bench.register(locks=["b", "c"])
    assert blocking(refusal) == [(both, ["b"]), (only_b, ["b"])]
    bench.finish(grants[a])
    assert holders(bench, "b") == [both]
    (grant,) = bench.claim(5)
    bench.finish(grant)
    assert [grant.pid for grant in bench.claim(5)] == [only_b]


def test_the_sweep_hands_on_what_was_forgotten(bench: Bench) -> None:
    """A results service that died between the end and the handing on: the sweep does it, and rings.

    Break: results_service/ledger/sweep.py `self._locks.hand_on()`, deleted.
    """
    bench.register(locks=["a"])
    waiting = bench.register(locks=["a"], on_conflict=QUEUE)
    (grant,) = bench.claim()
    bench.finish(grant.model_copy(update={"locked": False}))
    assert bench.claim() == []
    bench.events.rings.clear()
    bench.ledger.sweep(broker_ready=True)
    assert bench.events.rings
    assert [grant.pid for grant in bench.claim()] == [waiting]


def test_a_scheduled_job_takes_its_keys_when_it_is_due(bench: Bench) -> None:
    """Until then others use them; then it waits for its turn, and the sweep knows when.

    Break: results_service/ledger/documents.py `new_document`, `if due_at > now` for locks, made `if False`.
    """
    due = bench.clock.now().replace(microsecond=0)
    later = bench.register(locks=["a"], not_before=due.replace(year=due.year + 1))
    early = bench.register(locks=["a"])
    assert bench.ledger.sweep(broker_ready=True) == due.replace(year=due.year + 1)
    assert holders(bench, "a") == [early]
    (grant,) = bench.claim()
    bench.clock.advance(367 * 86400)
    bench.ledger.sweep(broker_ready=True)
    assert (holders(bench, "a"), bench.claim()) == ([early], [])
    bench.finish(grant)
    assert [grant.pid for grant in bench.claim()] == [later]


def test_a_repeated_registration_does_not_meet_its_own_locks(bench: Bench) -> None:
    """Redelivered, or repeated under its idempotency key: the answer is the job, not a conflict with itself.

    Break: results_service/ledger/register.py `_look_again` without the look under the pid.
    """
    plain = bench.new(locks=["a"])
    named = bench.new(locks=["b"], idempotency=Idempotency(key="k", fingerprint="f"))
    again = bench.new(locks=["b"], idempotency=Idempotency(key="k", fingerprint="f"))
    answers = [bench.ledger.register([one])[0] for one in (plain, plain, named, named, again)]
    assert [answer.pid for answer in answers if isinstance(answer, Ticket)] == [plain.pid] * 2 + [named.pid] * 3


def test_joining(bench: Bench) -> None:
    """`join` gets the job that holds all keys and runs the same task, and leaves its idempotency key with it.

    Break: results_service/ledger/register.py `_join` without the `$push`.
    """
    holder = bench.register(locks=["a", "b"])
    key = Idempotency(key="k", fingerprint="f")
    (joined,) = bench.ledger.register([bench.new(locks=["a"], on_conflict=OnConflict.JOIN, idempotency=key)])
    assert isinstance(joined, Ticket)
    assert (joined.pid, joined.joined) == (holder, True)
    (replayed,) = bench.ledger.register([bench.new(locks=["a"], on_conflict=OnConflict.JOIN, idempotency=key)])
    assert isinstance(replayed, Ticket)
    assert (replayed.pid, replayed.replayed) == (holder, True)
    for changes in ({"locks": ["a", "c"]}, {"locks": ["a"], "task": "other"}):
        with pytest.raises(Conflict):
            bench.register(on_conflict=OnConflict.JOIN, **changes)


def test_running_again_takes_the_locks_anew(bench: Bench) -> None:
    """A retry whose keys somebody else holds is refused with who that is; when they are free it has them.

    Break: results_service/ledger/transitions.py `run_again` without `held_locks`.
    """
    failed = bench.register(locks=["a"], max_attempts=1)
    (grant,) = bench.claim()
    bench.fail(grant)
    other = bench.register(locks=["a"])
    order = Order(pid=failed, owner="local")
    with pytest.raises(Conflict) as refusal:
        bench.ledger.orders.retry(order)
    assert blocking(refusal) == [(other, ["a"])]
    assert bench.job(failed)["status"] == JobStatus.FAILED
    (grant,) = bench.claim()
    bench.finish(grant)
    bench.ledger.orders.retry(order)
    assert holders(bench, "a") == [failed]


def test_ends_and_submissions_at_the_same_moment(bench: Bench) -> None:
    """Four clients submit, four workers claim and finish, all for two keys: never two holders, and all get done.

    Break: results_service/ledger/locks.py `_take` without `held_locks` in its `$set`.
    """
    wanted = 10
    pids: list[str] = []
    clashes: list[tuple[str, object]] = []
    ended = threading.Semaphore(0)
    over = threading.Event()

    def submit(number: int) -> None:
        for index in range(wanted):
            keys = [["a"], ["b"], ["a", "b"]][(number + index) % 3]
            pids.append(bench.register(locks=keys, on_conflict=QUEUE, params={"keys": keys}))

    def work(number: int) -> None:
        while not over.is_set():
            claim = Claim(claim_id=new_id(), worker_id=f"w{number}", pool="default", tasks=["bmi"], count=1)
            for grant in bench.ledger.settle([Settle(claim=claim)], repeated=[False])[0].grants:
                keys = grant.params["keys"]
                clashes.extend((key, held) for key in keys if (held := holders(bench, key)) != [grant.pid])
                bench.finish(grant)
                ended.release()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4) for one in (submit, work)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4 * wanted):
            while not ended.acquire(timeout=0.5):
                bench.ledger.locks.hand_on()  # what the sweep would do
                assert any(thread.is_alive() for thread in threads)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert clashes == []
    assert {bench.job(pid)["status"] for pid in pids} == {JobStatus.SUCCEEDED}
    assert bench.database.jobs.count_documents({"held_locks": {"$exists": True}}) == 0


def test_over_http(api: Api) -> None:
    """409 names the holder, its progress and the keys; `queue` runs one after the other, in order; `join` answers 200.

    Break: gateway/submissions.py `new_job` without `locks`.
    """
    key = f"lock-{uuid.uuid4()}"
    wait = {"task": "wait", "params": {"message": "x", "seconds": 1}, "locks": [key]}
    first = api.http.post("/jobs", json=wait)
    assert first.status_code == 202, first.text
    refused = api.http.post("/jobs", json=wait)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "conflict")
    assert int(refused.headers["Retry-After"]) > 0
    (named,) = refused.json()["blocking"]
    assert (named["pid"], named["task"], named["keys"]) == (first.json()["pid"], "wait", [key])
    joined = api.http.post("/jobs", json=wait | {"on_conflict": "join"})
    assert (joined.status_code, joined.json()["pid"]) == (200, first.json()["pid"])
    short = wait | {"params": {"message": "x", "seconds": 0.2}, "on_conflict": "queue"}
    queued = [api.http.post("/jobs", json=short).json()["pid"] for _ in range(3)]

    def jobs() -> list[dict[str, Any]]:
        return [api.http.get(f"/jobs/{pid}").json() for pid in (first.json()["pid"], *queued)]

    eventually(lambda: all(job["status"] == "succeeded" for job in jobs()), "all succeeded")
    done = jobs()
    assert all(one["finished_at"] <= two["started_at"] for one, two in pairwise(done))
    assert {tuple(job["locks"]) for job in done} == {(key,)}
