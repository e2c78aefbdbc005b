"""The real ledger over a real MongoDB against a model of it, under sequences of events that hypothesis makes up.

Two results services share one database. They are asked for everything that gateways and workers ask
for, in any order: single and together, again after a lost answer, late, under old fences, while the
other service is at the same job, with a database that fails before, within or after a write. After
every step the database, the API's view and the published events must be what the model says.

In CI the sequences are always the same. To search further, for as long as you like:

    LEDGER_MODEL_EXAMPLES=2000 .venv/bin/python -m pytest -n0 --timeout=0 tests/integration/test_ledger_model.py

What fails there is shrunk and printed as a plain sequence of calls.
"""

import os
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)
from ledger_machine import Service, mails_of
from ledger_owners import Owners
from ledger_silence import Silence
from ledger_wishes import ORDERS, OWNERS, service
from ledger_workers import Workers
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from contracts.errors import NotFound
from contracts.job import Job
from contracts.messages import (
    GetJob,
    JobQuery,
    Settle,
)
from contracts.status import NotificationState
from results_service.ledger.database import Database

EXAMPLES = int(os.environ.get("LEDGER_MODEL_EXAMPLES", "0"))
STEPS = 40


class LedgerMachine(Owners, Workers, Silence):
    """Everything that can happen, in one machine."""

    def _rival(self, on: Service, kind: str | None, trips: list[Settle]) -> Callable[[], None] | None:
        """What the other service does between this one's reading and its writing."""
        other = self.services[1] if on is self.services[0] else self.services[0]
        reported = [finish.pid for found in trips for finish in found.finishes]
        due = sorted((job.place, pid) for pid, job in self.model.jobs.items() if job.waits(self.clock.now()))
        targets = [*reported, *(pid for _, pid in due[:1])]
        finishes = [finish for found in trips for finish in found.finishes]
        if kind in ORDERS and targets:
            owner = self.model.jobs[targets[0]].owner if targets[0] in self.model.jobs else OWNERS[0]
            return lambda: self._order(other, kind, targets[0], owner)
        if kind == "same" and finishes:
            return lambda: self._settle(other, [Settle(finishes=finishes, repeated=True)]) and None
        if kind == "other" and (found := self._finish({"pick": 0, "outcome": "retriable", "of": "open"})):
            same = (found.pid, found.fence) in {(finish.pid, finish.fence) for finish in finishes}
            return None if same else lambda: self._settle(other, [Settle(finishes=[found])]) and None
        if kind != "claim":
            return None
        wish = {"worker": "w3", "reports": [], "claim": 2, "tasks": ("a", "b"), "heard": True}
        return lambda: self._settle(other, [self._trip(wish)]) and None

    @rule(seconds=st.sampled_from((5, 11, 11, 31, 610)))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(on=service)
    def nobody_asks(self, on: int) -> None:
        self._send_mail()
        self.services[on].restart()

    def _send_mail(self) -> None:
        lease = self.outbox.lease(take_over=True)
        if lease is not None:
            assert self.outbox.settle(lease, NotificationState.SENT)
            mails = self.model.jobs[lease.pid].mails
            sent = [mail for mail in mails if (mail.on, mail.state) == (lease.on, NotificationState.DUE)]
            assert sent, f"a mail was sent that is not due: {lease}"
            sent[0].state = NotificationState.SENT
        else:
            assert not any(job.mails_due for job in self.model.jobs.values())

    # ---- after every step

    @invariant()
    def agree(self) -> None:
        self._play(())
        jobs, now = self.model.jobs, self.clock.now()
        queries = self.services[0].ledger.queries
        for owner in OWNERS:
            answers = queries.get([GetJob(pid=pid, owner=owner) for pid in jobs])
            for (pid, job), answer in zip(jobs.items(), answers, strict=True):
                if self.model.visible(pid, owner) is None:
                    assert isinstance(answer, NotFound), f"{owner} sees {pid}"
                    continue
                assert not isinstance(answer, Exception), f"{owner} does not see {pid}"
                shown = Job.model_validate(answer)
                assert (shown.status, shown.attempt, shown.result) == (job.status, job.attempts_used, job.result)
                assert (shown.error and shown.error.kind) == job.error
                assert [a.outcome for a in shown.attempts] == [a.outcome for a in job.attempts]
                assert shown.queue_position == (self.model.ahead(job, now) + 1 if job.waits(now) else None)
                assert Counter((entry.on, entry.state) for entry in shown.notifications) == mails_of(job)
            mine = sorted((pid for pid in jobs if self.model.visible(pid, owner)), reverse=True)
            assert [job["pid"] for job in queries.list_jobs(JobQuery(owner=owner)).jobs] == mine


@pytest.mark.timeout(0 if EXAMPLES else 900)
def test_the_ledger_is_what_the_model_says(fresh_database: str) -> None:
    """No sequence of requests, repetitions, races and failures makes the ledger break a promise.

    Fails when a condition of a write in `results_service/ledger` is dropped: the fence or
    ``settled_fence`` in `_open_attempt`, ``cancel_requested_at`` in `Settling`, the read-back.
    """
    name = parse_uri(fresh_database)["database"]
    assert name
    database = Database(fresh_database, name, timeout_seconds=10)
    database.prepare()
    # The server outlives the test, and its one member is the majority: nothing has to wait for the disk.
    for kind in ("jobs", "workers"):
        collection = getattr(database, kind)
        quick = collection.with_options(write_concern=WriteConcern(w=1, j=False), read_concern=ReadConcern("local"))
        setattr(database, kind, quick)
    profile = settings(
        max_examples=EXAMPLES or 40,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        run_state_machine_as_test(lambda: LedgerMachine(database), settings=profile)  # type: ignore[no-untyped-call]
    finally:
        database.close()
