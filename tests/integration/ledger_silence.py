"""Heartbeats, and what comes of their absence."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
)
from ledger_faults import Fault
from ledger_machine import Machine, Service
from ledger_model import MISSED_BEATS, ModelJob
from ledger_wishes import SETTINGS, fault, service, worker
from pymongo.errors import PyMongoError

from contracts.job import Progress
from contracts.messages import (
    Finish,
    Heartbeat,
    RunningJob,
    Settle,
)
from contracts.status import JobStatus, Outcome
from results_service.ledger.leases import RECONNECT_SECONDS


class Silence(Machine):
    """Workers that live or fall silent, and the sweep that watches them."""

    # ---- heartbeats

    @rule(
        on=service,
        by=worker,
        lists=st.sampled_from(("all", "all", "none", "some", "ever")),
        times=st.integers(1, 3),
        percent=st.one_of(st.none(), st.integers(0, 100)),
        slots=st.integers(1, 4),
        draining=st.booleans(),
        claiming=st.booleans(),
        fault=fault,
    )
    def heartbeat(  # noqa: PLR0913, PLR0917 -- a rule takes what it draws
        self,
        on: int,
        by: str,
        lists: str,
        times: int,
        percent: int | None,
        slots: int,
        fault: Fault | None,
        *,
        draining: bool,
        claiming: bool,
    ) -> None:
        mine = [grant for holder, grant in self.grants if holder == by]
        jobs = self.model.jobs
        held = [
            g for g in mine if g.pid in jobs and jobs[g.pid].fence == g.fence and g.fence not in jobs[g.pid].reported
        ]
        listed = {"all": held, "none": [], "some": held[::2], "ever": mine}[lists]
        progress = None if percent is None else Progress(percent=percent, updated_at=self.clock.now())
        running = [RunningJob(pid=grant.pid, fence=grant.fence, progress=progress) for grant in listed[-6:]]
        self.slots[by] = slots, draining
        for _ in range(times):
            self._beat(self.services[on], by, running, fault, mine[-1].claim_id if claiming and mine else None)

    def _beat(
        self,
        on: Service,
        by: str,
        running: list[RunningJob],
        fault: Fault | None = None,
        claiming: str | None = None,
    ) -> None:
        self.beats += 1
        slots, draining = self.slots.get(by, (2, False))
        beat = Heartbeat(
            worker_id=by,
            host="here",
            process_id=1,
            pool="p",
            tasks=["a", "b"],
            slots=slots,
            draining=draining,
            beat=self.beats,
            started_at=self.clock.now(),
            running=running,
            claiming=claiming,
        )
        known = by in self.model.beats
        answer = self._call(on, lambda: on.ledger.heartbeat([beat])[0], fault)
        before = self.model.copy()
        unsure = isinstance(answer, PyMongoError)
        self._play(self._heard_of(on, beat), unsure=unsure)
        self._told(on, before, sure=not unsure and fault is None)
        written = self.database.workers.find_one({"_id": by})
        if written is not None and (not unsure or written["beat"] == self.beats):
            self.model.beats[by] = self.beats
        if unsure:  # how far it came in counting is its own secret
            on.restart()
            return
        assert answer.announce is not known
        told = {(stop.pid, stop.fence): stop.reason for stop in answer.stop}
        for job in running:
            reason = told.pop((job.pid, job.fence), None)
            before_taken_back = self.model.stop(job.pid, job.fence)
            assert reason in before_taken_back, f"{job} was told {reason}, should be one of {before_taken_back}"
        assert not told, f"told to stop what it does not run: {told}"

    def _heard_of(self, on: Service, beat: Heartbeat) -> Iterator[None]:
        """The model's part: progress counts, and what the worker does not know goes back, uncounted."""
        for job in beat.running:
            if job.progress is not None:
                self.model.progress(job.pid, job.fence, job.progress.percent or 0.0)
        yield
        listed = {job.pid for job in beat.running}
        before = on.unlisted.pop(beat.worker_id, {})
        counts = {
            (pid, job.fence): before.get((pid, job.fence), 0) + 1
            for pid, job in self.model.jobs.items()
            if job.worker == beat.worker_id
            and job.status is JobStatus.RUNNING
            and pid not in listed
            and job.claim_id != beat.claiming
        }
        on.unlisted[beat.worker_id] = counts
        for (pid, fence), count in counts.items():
            if count >= MISSED_BEATS:
                back = Finish(pid=pid, fence=fence, worker_id=beat.worker_id, outcome=Outcome.HANDED_BACK)
                self.model.finish(back, self.clock.now())
                yield

    @rule(on=service, ready=st.sampled_from((True, True, True, False)), fault=fault)
    def sweep(self, on: int, fault: Fault | None, *, ready: bool) -> None:
        self._sweep(self.services[on], ready=ready, fault=fault)

    @rule(on=service)
    def half_a_day_passes(self, on: int) -> None:
        self.clock.advance(13 * 3600)
        self._sweep(self.services[on])

    @rule(
        on=service,
        alive=st.sets(worker, max_size=1),
        fault=fault,
        rival=st.sampled_from((None, "same", "same", "cancel", "delete")),
        outage=st.sampled_from((False, False, True)),
    )
    def a_lease_passes(self, on: int, alive: set[str], fault: Fault | None, rival: str | None, *, outage: bool) -> None:
        if not any(job.status is JobStatus.RUNNING for job in self.model.jobs.values()):
            self._claim(self.services[on], "w1", 2)
        self._sweep(self.services[on])
        for left in (2, 1, 0):
            self.clock.advance(7)
            if outage and left == 1:
                self._sweep(self.services[on], ready=False)
            for by in sorted(alive):
                held = [g for holder, g in self.grants if holder == by and g.pid in self.model.jobs]
                self._beat(self.services[1 - on], by, [RunningJob(pid=g.pid, fence=g.fence) for g in held])
            self._sweep(self.services[on], fault=None if left else fault, rival=None if left else rival)

    def _sweep(self, on: Service, *, ready: bool = True, fault: Fault | None = None, rival: str | None = None) -> None:
        now = self.clock.now()
        workers = {document["_id"]: document for document in self.database.workers.find({})}
        report = self._finish({"pick": 0, "outcome": "succeeded", "of": "open"}) if rival else None
        interlude = self._rival(on, rival, [Settle(finishes=[report] if report else [])])
        answer = self._call(on, lambda: on.ledger.sweep(broker_ready=ready), fault, interlude=interlude)
        before = self.model.copy()
        unsure = isinstance(answer, PyMongoError)
        if not ready:
            on.watched.clear()
            on.looked_at = float("-inf")
            assert answer is None
            self._play(())
            return
        silent = self._given_up(on, sure=not unsure and interlude is None)
        after_give_up: dict[str, ModelJob] = {}

        def steps() -> Iterator[None]:
            for name in silent:
                yield from self.model.give_up(name, now)
            after_give_up.update(self.model.copy())
            yield from self.model.expire(now)
            yield from self.model.bury()

        self._play(steps(), unsure=unsure)
        self._told(on, before, sure=not unsure)
        for name in silent:
            if self.database.workers.find_one({"_id": name}) is None:
                self.model.beats.pop(name, None)
                workers.pop(name, None)
        if unsure:  # an outage of ours: every silence is measured anew
            on.watched.clear()
            on.looked_at = float("-inf")
            return
        if interlude is not None:  # what it changed, this sweep may have seen or not
            on.since = self.clock.monotonic()
            return
        due = self.model.next_due(now)
        assert due is None or (answer is not None and answer <= due), "nobody will wake for what is scheduled"
        self._check_rings(on, workers, {pid for pid, job in after_give_up.items() if job.waits(now)}, len(silent))

    def _given_up(self, on: Service, *, sure: bool) -> list[str]:
        """Whom the sweep has given up: only who was silent for a lease under its eyes, and everybody who was for long."""
        ticks = self.clock.monotonic()
        jobs = self.model.jobs
        running = {pid: job for pid, job in jobs.items() if job.status is JobStatus.RUNNING}
        known: dict[str, int | None] = {job.worker: None for job in running.values() if job.worker} | self.model.beats
        held = {(d["_id"], d["fence"]) for d in self.database.jobs.find({"status": JobStatus.RUNNING}, {"fence": 1})}
        kept = {document["_id"] for document in self.database.workers.find({}, {"_id": 1})}
        given_up = {job.worker for pid, job in running.items() if (pid, job.fence) not in held and job.worker}
        given_up |= self.model.beats.keys() - kept
        if ticks - on.looked_at > SETTINGS.lease_seconds:
            on.watched.clear()
        watching = ticks - on.looked_at <= SETTINGS.lease_seconds / 2
        on.looked_at = ticks
        if not watching:
            on.since = ticks
        silent = {}
        for name, beat in known.items():
            seen, since = on.watched.get(name, (-1, ticks))
            silent[name] = ticks - since if seen == beat else 0.0
            on.watched[name] = (beat, since if seen == beat else ticks)
        on.watched = {name: on.watched[name] for name in known.keys() - given_up}
        for name in given_up:
            assert silent[name] >= SETTINGS.lease_seconds, f"{name} was given up after {silent[name]} s"
        patience = SETTINGS.lease_seconds + RECONNECT_SECONDS
        if sure and ticks - on.since >= patience:
            late = {name for name in known.keys() - given_up if silent[name] >= patience}
            assert not late, f"still not given up: {late}"
        return sorted(given_up)

    def _check_rings(self, on: Service, workers: dict[str, Any], due: set[str], given_up: int) -> None:
        """A bell for each free slot and due job, one at least; none for nobody or nothing."""
        serving = [document for document in workers.values() if not document["draining"]]
        free = sum(max(0, document["slots"] - len(document["running"])) for document in serving)
        expected = min(len(due), max(1, free)) if serving else 0
        assert expected <= on.heard.rings.count("p") <= expected + given_up
