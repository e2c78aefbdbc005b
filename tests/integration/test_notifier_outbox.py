"""The outbox on a real MongoDB, with the ledger's own indexes."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from notifier_peers import job_with_mail
from pymongo.uri_parser import parse_uri

from contracts.clock import SystemClock
from contracts.status import NotificationState
from results_service.ledger.database import Database
from results_service.notifier.outbox import Outbox

LEASE_SECONDS = 60.0


class ShiftedClock(SystemClock):
    """A clock that a test can put forward."""

    ahead = timedelta()

    def now(self) -> datetime:
        """See `Clock.now`."""
        return super().now() + self.ahead


@pytest.fixture
def database(fresh_database: str) -> Iterator[Database]:
    found = Database(fresh_database, parse_uri(fresh_database)["database"], timeout_seconds=10)
    found.prepare()
    yield found
    found.close()


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def outbox(database: Database, clock: ShiftedClock) -> Outbox:
    return Outbox(database.jobs, lease_seconds=LEASE_SECONDS, clock=clock)


def entry_of(database: Database, pid: str, index: int = 0) -> dict[str, object]:
    document = database.jobs.find_one({"_id": pid})
    assert document is not None
    return dict(document["notifications"][index])


def test_one_entry_is_leased_by_one_notifier(database: Database, outbox: Outbox):
    """Four notifiers that reach for the same 60 mails at once get each of them exactly once."""
    database.jobs.insert_many([job_with_mail("a@b.example") for _ in range(60)])

    def take_all() -> list[str]:
        taken = []
        while lease := outbox.lease(take_over=False):
            taken.append(lease.pid)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = Counter(pid for future in [pool.submit(take_all) for _ in range(4)] for pid in future.result())
    assert len(taken) == 60
    assert set(taken.values()) == {1}


def test_only_what_is_due_is_leased(database: Database, outbox: Outbox):
    """Entries that wait, that are settled, that are due later, or of another channel are left alone."""
    later = job_with_mail("a@b.example")
    later["notifications"][0]["due_at"] += timedelta(hours=1)
    settled = job_with_mail("a@b.example")
    settled["notifications"][0] |= {"state": "sent"}
    other = job_with_mail("https://b.example")
    other["notifications"][0] |= {"channel": "webhook"}
    database.jobs.insert_many([later, settled, other, job_with_mail("a@b.example", due=False)])
    assert outbox.lease(take_over=True) is None


def test_entries_of_one_job_are_leased_one_by_one(database: Database, outbox: Outbox):
    """Two mails that are due for one job are two leases, and settling one leaves the other."""
    job = job_with_mail("a@b.example", on="accepted")
    job["notifications"].append(job["notifications"][0] | {"on": "succeeded"})
    job["notifications"].append({"channel": "email", "to": "a@b.example", "on": "failed", "state": "skipped"})
    database.jobs.insert_one(job)
    first, second = outbox.lease(take_over=False), outbox.lease(take_over=False)
    assert first is not None
    assert second is not None
    assert {first.on, second.on} == {"accepted", "succeeded"}
    assert outbox.lease(take_over=False) is None
    assert outbox.settle(second, NotificationState.SENT)
    states = {entry["on"]: entry["state"] for entry in database.jobs.find_one({"_id": job["_id"]})["notifications"]}
    assert states == {str(first.on): "due", str(second.on): "sent", "failed": "skipped"}


def test_settled_means_out_of_the_index(database: Database, outbox: Outbox):
    """A settled entry has its time, no lease and no due_at, and is never leased again."""
    database.jobs.insert_one(job := job_with_mail("a@b.example"))
    lease = outbox.lease(take_over=False)
    assert lease is not None
    assert outbox.settle(lease, NotificationState.FAILED, "550 " + "x" * 9999)
    entry = entry_of(database, job["_id"])
    assert entry["state"] == "failed"
    assert isinstance(entry["at"], datetime)
    assert entry["lease"] is None
    assert "due_at" not in entry
    assert len(str(entry["reason"])) == 512
    assert outbox.lease(take_over=True) is None
    assert not outbox.settle(lease, NotificationState.SENT)


def test_a_lost_lease_writes_nothing(database: Database, outbox: Outbox, clock: ShiftedClock):
    """Once another notifier has taken over, the first one can neither settle nor put back."""
    database.jobs.insert_one(job := job_with_mail("a@b.example"))
    first = outbox.lease(take_over=False)
    assert first is not None
    clock.ahead = timedelta(seconds=LEASE_SECONDS + 1)
    assert outbox.lease(take_over=False) is None
    second = outbox.lease(take_over=True)
    assert second is not None
    assert second.tries == 2
    before = entry_of(database, job["_id"])
    assert not outbox.settle(first, NotificationState.SENT)
    assert not outbox.put_back(first, seconds=0, reason="", counted=True)
    assert entry_of(database, job["_id"]) == before
    assert outbox.settle(second, NotificationState.SENT)


def test_put_back_is_due_again_later(database: Database, outbox: Outbox, clock: ShiftedClock):
    """A mail that was put back is due after the pause, not before, and a try that does not count is taken off."""
    database.jobs.insert_one(job_with_mail("a@b.example"))
    for counted, tries in ((True, 1), (False, 2), (True, 2)):
        lease = outbox.lease(take_over=False)
        assert lease is not None
        assert lease.tries == tries
        assert outbox.put_back(lease, seconds=30, reason="450 later", counted=counted)
        assert outbox.lease(take_over=False) is None
        due = outbox.next_due()
        assert due is not None
        assert 29 < (due - clock.now()).total_seconds() <= 30
        clock.ahead += timedelta(seconds=31)


def test_looking_costs_no_scan(database: Database, outbox: Outbox):
    """The look into the outbox uses the ledger's index and reads no job without due mail, however many there are."""
    database.jobs.insert_many([job_with_mail("a@b.example", due=False) for _ in range(500)])
    database.jobs.insert_one(job_with_mail("a@b.example"))
    clock = SystemClock()
    for query in (
        {"notifications.due_at": {"$lte": clock.now()}} | outbox._due(take_over=True),
        {"notifications.due_at": {"$gt": clock.now()}},
    ):
        plan = database.jobs.find(query).explain()
        assert plan["executionStats"]["totalDocsExamined"] <= 1
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])
