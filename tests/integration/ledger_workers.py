"""What workers ask for: finishes and claims, together or alone, for the first time or again."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)
from ledger_faults import Fault
from ledger_machine import Machine, Service, grant_of
from ledger_model import ModelJob
from ledger_wishes import MOST_AGAIN, fault, pick, report, rival, service, trip, worker
from pymongo.errors import PyMongoError

from contracts.job import JobError, Progress
from contracts.messages import (
    Claim,
    Finish,
    Grant,
    Settle,
    Settled,
)
from contracts.status import ErrorKind, JobStatus, Outcome


class Workers(Machine):
    """Trips to the ledger."""

    # ---- workers

    def _finish(self, wish: dict[str, Any]) -> Finish | None:
        """A report about one of the attempts that were ever granted."""
        jobs = self.model.jobs
        kinds: dict[str, list[tuple[str, Grant]]] = {"open": [], "late": [], "any": self.grants}
        for holder, grant in self.grants:
            job = jobs.get(grant.pid)
            if job is not None and grant.fence not in job.reported:
                current = grant.fence == job.fence and not job.status.terminal
                kinds["open" if current else "late"].append((holder, grant))
        attempts = kinds[wish["of"]] or self.grants
        if not attempts:
            return None
        return self._report(*attempts[-1 - wish["pick"] % len(attempts)], wish)

    def _report(self, holder: str, grant: Grant, wish: dict[str, Any]) -> Finish:
        """How this attempt ended, as the worker says."""
        outcome, error, after = wish["outcome"], None, None
        job = self.model.jobs.get(grant.pid)
        if outcome == "stopped":  # reported only by who was told to stop
            outcome = Outcome.CANCELLED if job is not None and grant.fence in job.stopped else Outcome.SUCCEEDED
        retriable = outcome in ("retriable", "after")
        if outcome == "after":
            after = 30.0
        if retriable or outcome == "failed":
            outcome = Outcome.FAILED
            error = JobError(kind=ErrorKind.CRASHED, message="killed by signal 9")
        return Finish(
            pid=grant.pid,
            fence=grant.fence,
            worker_id=holder,
            outcome=outcome,
            result=grant.fence if outcome == Outcome.SUCCEEDED else None,
            error=error,
            retriable=retriable,
            retry_after_seconds=after,
            progress=Progress(percent=99, updated_at=self.clock.now()) if wish["pick"] % 2 else None,
            cpu_seconds=0.1,
            notify=grant.notify,
            retention_days=grant.retention_days,
        )

    def _trip(self, wish: dict[str, Any]) -> Settle:
        finishes: dict[tuple[str, int], Finish] = {}
        for found in filter(None, map(self._finish, wish["reports"])):
            finishes.setdefault((found.pid, found.fence), found)
        claim = None
        if wish["claim"] is not None:
            self.ids += 1
            claim = Claim(
                claim_id=f"c{self.ids}",
                worker_id=wish["worker"],
                pool="p",
                tasks=list(wish["tasks"]),
                count=wish["claim"],
                heard=wish["heard"],
            )
        return Settle(finishes=list(finishes.values()), claim=claim)

    @rule(
        on=service,
        wishes=st.lists(trip, min_size=1, max_size=3),
        fault=fault,
        repeats=st.sampled_from((True, True, False)),
        rival=rival,
    )
    def settle(
        self, on: int, wishes: list[dict[str, Any]], fault: Fault | None, rival: str | None, *, repeats: bool
    ) -> None:
        trips = [found for found in map(self._trip, wishes) if found.finishes or found.claim]
        seen: dict[tuple[str, int], Finish] = {}
        for found in trips:  # a fence has one report, however often it is sent
            finishes = [seen.setdefault((finish.pid, finish.fence), finish) for finish in found.finishes]
            trips[trips.index(found)] = found.model_copy(update={"finishes": finishes})
        if not trips:
            return
        self.trips.append(trips)
        if not self._settle(self.services[on], trips, fault=fault, rival=rival) and repeats:
            self._settle(self.services[on], [found.model_copy(update={"repeated": True}) for found in trips])

    @rule(on=service, old=report, new=report)
    def two_attempts_report_together(self, on: int, old: dict[str, Any], new: dict[str, Any]) -> None:
        current = self._finish(new | {"of": "open"})
        pid, fence = (current.pid, current.fence) if current else ("", 0)
        before = [(by, grant) for by, grant in self.grants if grant.pid == pid and grant.fence < fence]
        if current is not None and before:
            late = self._report(*before[-1], old)
            self.trips.append([Settle(finishes=[late]), Settle(finishes=[current])])
            self._settle(self.services[on], self.trips[-1])

    @precondition(lambda self: self.trips)
    @rule(on=service, which=pick)
    def settle_again(self, on: int, which: int) -> None:
        trips = self.trips[-MOST_AGAIN:]
        again = [found.model_copy(update={"repeated": True}) for found in trips[-1 - which % len(trips)]]
        self._settle(self.services[on], again)

    @rule(on=service, by=worker, count=st.integers(1, 3), rival=rival)
    def claim(self, on: int, by: str, count: int, rival: str | None) -> None:
        self._claim(self.services[on], by, count, rival)

    def _claim(self, on: Service, by: str, count: int, rival: str | None = None) -> None:
        """A worker that has heard of work and can do all of it."""
        wish = {"worker": by, "reports": [], "claim": count, "tasks": ("a", "b"), "heard": True}
        self.trips.append([self._trip(wish)])
        self._settle(on, self.trips[-1], rival=rival)

    def _settle(
        self, on: Service, trips: list[Settle], *, fault: Fault | None = None, rival: str | None = None
    ) -> bool:
        """Whether an answer came."""
        now = self.clock.now()
        interlude = self._rival(on, rival, trips)
        answers = self._call(
            on,
            lambda: on.ledger.settle(trips, repeated=[found.repeated for found in trips]),
            fault,
            interlude=interlude,
        )
        unsure = isinstance(answers, PyMongoError)
        claims = [found.claim for found in trips if found.claim]
        before = self.model.copy()
        verdicts: list[tuple[set[str], JobStatus | None]] = []

        def steps() -> Iterator[None]:
            for finish in [finish for found in trips for finish in found.finishes]:
                verdicts.append(self.model.finish(finish, now))
                yield

        self._play(steps(), unsure=unsure, claims=claims)
        self._told(on, before, sure=not unsure and fault is None)
        if unsure:
            self.grants += [
                (job.worker or "", grant_of(job))
                for job in self.model.jobs.values()
                if job.claim_id in {claim.claim_id for claim in claims} and job.status is JobStatus.RUNNING
            ]
            return False
        self._check_verdicts(trips, answers, verdicts)
        self._check_grants(trips, answers, before)
        if interlude is None and fault is None:
            self._check_choice(trips, answers, before)
        return True

    def _check_verdicts(
        self, trips: list[Settle], answers: list[Settled], verdicts: list[tuple[set[str], JobStatus | None]]
    ) -> None:
        """Each finish was stored, superseded or unknown, as the model says; with the status that it led to."""
        given = [verdict for answer in answers for verdict in answer.verdicts]
        finishes = [finish for found in trips for finish in found.finishes]
        for finish, verdict, (allowed, _) in zip(finishes, given, verdicts, strict=True):
            assert (verdict.pid, verdict.fence) == (finish.pid, finish.fence)
            assert verdict.finish in allowed, f"{verdict} should be {allowed}"
            alone = sum(other.pid == finish.pid for other in finishes) == 1
            if alone and finish.pid in self.model.jobs:  # together with another, it may tell what was before that one
                assert verdict.status == self.model.jobs[finish.pid].status, f"{verdict} has another status"

    def _check_grants(self, trips: list[Settle], answers: list[Settled], before: dict[str, ModelJob]) -> None:
        """A claim's answer is what runs under it, each job once."""
        for found, answer in zip(trips, answers, strict=True):
            if found.claim is None:
                assert not answer.grants
                continue
            held = {
                pid: job
                for pid, job in self.model.jobs.items()
                if job.claim_id == found.claim.claim_id and job.status is JobStatus.RUNNING
            }
            assert {grant.pid for grant in answer.grants} == held.keys()
            assert len(answer.grants) == len(held) <= found.claim.count
            for grant in answer.grants:
                assert grant == grant_of(held[grant.pid])
                if (found.claim.worker_id, grant) not in self.grants:
                    self.grants.append((found.claim.worker_id, grant))

    def _check_choice(self, trips: list[Settle], answers: list[Settled], before: dict[str, ModelJob]) -> None:
        """The best due jobs were granted, as many as were asked for, and what is left was mentioned."""
        now = self.clock.now()
        reported = {finish.pid for found in trips for finish in found.finishes}
        waited = {pid: job for pid, job in before.items() if job.waits(now)}
        left = [job for pid, job in waited.items() if self.model.jobs[pid].waits(now) and pid not in reported]
        for found, answer in zip(trips, answers, strict=True):
            claim = found.claim
            if claim is None or any(grant.pid not in waited for grant in answer.grants):
                continue  # the second is the answer that was lost before
            rest = min(((job.place, job.new.pid) for job in left if job.fits(claim)), default=None)
            if rest is None:
                continue
            worst = max(((waited[grant.pid].place, grant.pid) for grant in answer.grants), default=None)
            assert worst is None or worst < rest, f"{worst} went ahead of {rest}"
            if claim.heard:
                assert answer.more, "work is left, but the worker was not told"
                assert len(answer.grants) == claim.count or waited.keys() & reported, "a free slot, work, and no grant"
