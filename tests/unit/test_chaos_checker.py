"""The checker of the chaos suite finds what it is there to find: one broken promise at a time."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import checker, plan
from tests.chaos.effects import Effect
from tests.chaos.evidence import Evidence, Mail
from tests.chaos.history import Answer, History, Record, Struck
from tests.chaos.plan import Blow, JobSpec, Kind

PID = "0199c0de-0000-7000-8000-000000000001"
OTHER = "0199c0de-0000-7000-8000-000000000002"
WORKER, CHILD = 50, 60


def answer(code: int | None, at: float = 1.0, **body: Any) -> Answer:
    return Answer(sent=at - 0.1, at=at, code=code, body=body, what="request")


def line(kind: str, mono: float, *, attempt: int = 1, process: int = CHILD, detail: str = "") -> Effect:
    return Effect(
        kind=kind, attempt=attempt, process=process, born=1, parent=WORKER, wall=mono, mono=mono, detail=detail
    )


def good() -> Evidence:
    """A job that was submitted, ran once, succeeded and had its mails."""
    history = History(plan.Plan(seed=1, seconds=10, jobs=[], blows=[]))
    spec = JobSpec(
        at=0, number=1, task="chaos_work", params={"note": "job 1", "seconds": 1}, priority="normal", mail=True
    )
    record = Record(spec=spec, reference="chaos-1-1", to="a@example.org")
    record.submissions.append(answer(202, pid=PID, status="pending"))
    record.looks.append(answer(200, at=5, status="succeeded"))
    history.records.append(record)
    document = {
        "_id": PID,
        "status": "succeeded",
        "reference": "chaos-1-1",
        "result": {"note": "job 1", "attempt": 1, "process": CHILD},
        "attempts_used": 1,
        "max_attempts": 10,
        "fence": 1,
        "attempts": [{"number": 1, "outcome": "succeeded"}],
        "notifications": [{"state": "sent"}, {"state": "sent"}, {"state": "skipped"}],
    }
    mails = [Mail(pid=PID, on=on, id=on, subject=on, wall=wall) for on, wall in (("accepted", 1.0), ("succeeded", 4.0))]
    return Evidence(
        history=history,
        documents={PID: document},
        answers={PID: {"status": "succeeded"}},
        effects={PID: [line("start", 2), line("beat", 2.5), line("end", 3, detail="returned")]},
        mails={PID: mails},
    )


def lost(evidence: Evidence) -> None:
    evidence.documents.clear()


def unfinished(evidence: Evidence) -> None:
    evidence.documents[PID]["status"] = "running"


def stored_all_the_same(evidence: Evidence) -> None:
    evidence.history.records[0].submissions[:] = [answer(503)]


def two_outcomes(evidence: Evidence) -> None:
    evidence.history.records[0].looks.insert(0, answer(200, at=4, status="failed"))


def api_and_database_differ(evidence: Evidence) -> None:
    evidence.answers[PID]["status"] = "failed"


def result_of_another_attempt(evidence: Evidence) -> None:
    evidence.documents[PID]["result"]["process"] = 61


def over_budget(evidence: Evidence) -> None:
    evidence.documents[PID]["attempts_used"] = 11


def started_twice_under_one_claim(evidence: Evidence) -> None:
    evidence.effects[PID].append(line("start", 3.5))


def cancel_was_ignored(evidence: Evidence) -> None:
    evidence.history.records[0].cancels.append(answer(202, at=2.2, status="running"))


def started_after_the_cancel(evidence: Evidence) -> None:
    evidence.history.records[0].cancels.append(answer(202, at=1.5, status="cancelled"))
    evidence.documents[PID]["status"] = evidence.answers[PID]["status"] = "cancelled"


def two_pids_for_a_key(evidence: Evidence) -> None:
    evidence.history.records[0].submissions.append(answer(202, pid=PID.replace("1", "2")))


def other_payload_was_taken(evidence: Evidence) -> None:
    evidence.history.records[0].mismatches.append(answer(202, pid=PID))


def overlap(evidence: Evidence) -> None:
    evidence.documents[PID]["fence"] = 2
    evidence.effects[PID].insert(2, line("start", 2.8, attempt=2, process=61))


def silent_overlap(evidence: Evidence) -> None:
    evidence.documents[PID]["fence"] = 2
    evidence.effects[PID][:] = [line("start", 2), line("start", 2.8, attempt=2, process=61, detail=str(CHILD))]
    evidence.effects[PID].append(line("end", 3, attempt=2, process=61, detail="returned"))
    evidence.documents[PID]["result"] = {"note": "job 1", "attempt": 2, "process": 61}


def stray(evidence: Evidence) -> None:
    evidence.strays.append("77 sleep")


def no_mail(evidence: Evidence) -> None:
    del evidence.mails[PID][1]


def mail_twice(evidence: Evidence) -> None:
    evidence.mails[PID].append(evidence.mails[PID][1])


def mail_of_another_outcome(evidence: Evidence) -> None:
    evidence.mails[PID][1] = dataclasses.replace(evidence.mails[PID][1], on="failed")


def overlap_after_running_again(evidence: Evidence) -> None:
    overlap(evidence)
    evidence.history.records[0].retries.append(answer(202, at=2.7))


def lock_outlives_its_job(evidence: Evidence) -> None:
    evidence.documents[PID]["held_locks"] = ["dataset:1"]


def two_hold_a_key(evidence: Evidence) -> None:
    record = evidence.history.records[0]
    record.spec = dataclasses.replace(record.spec, locks=("dataset:1",))
    other = dataclasses.replace(record, submissions=[answer(202, pid=OTHER)], looks=[], to=None, reference="other")
    evidence.history.records.append(other)
    evidence.documents[OTHER] = {**evidence.documents[PID], "_id": OTHER, "reference": "other"}
    evidence.answers[OTHER] = evidence.answers[PID]
    evidence.effects[OTHER] = [line("start", 2.8), line("end", 3.8, detail="returned")]


def refused_and_stored(evidence: Evidence) -> None:
    evidence.history.records[0].submissions[:] = [answer(409, blocking=[{}])]


def slow_refusal(evidence: Evidence) -> None:
    evidence.history.strangers.append(Answer(sent=0, at=9, code=503))


def internal_error(evidence: Evidence) -> None:
    evidence.history.strangers.append(answer(500))


def unknown_is_pending(evidence: Evidence) -> None:
    evidence.history.strangers.append(answer(200, status="pending"))


def known_is_unknown(evidence: Evidence) -> None:
    evidence.history.records[0].looks.append(answer(404))


BROKEN: dict[Callable[[Evidence], None], str] = {
    lost: "nothing is lost",
    unfinished: "nothing is lost",
    stored_all_the_same: "nothing is lost",
    two_outcomes: "one outcome",
    api_and_database_differ: "one outcome",
    result_of_another_attempt: "one outcome",
    over_budget: "budget",
    started_twice_under_one_claim: "budget",
    cancel_was_ignored: "cancel",
    started_after_the_cancel: "cancel",
    two_pids_for_a_key: "same key",
    other_payload_was_taken: "same key",
    overlap: "no overlap",
    silent_overlap: "no overlap",
    overlap_after_running_again: "no overlap",
    lock_outlives_its_job: "no clash",
    two_hold_a_key: "no clash",
    refused_and_stored: "no clash",
    stray: "isolation",
    no_mail: "told",
    mail_twice: "told",
    mail_of_another_outcome: "told",
    slow_refusal: "counter",
    internal_error: "counter",
    unknown_is_pending: "counter",
    known_is_unknown: "counter",
}


def test_a_good_run_has_no_violation():
    """What is as promised is not complained about."""
    assert checker.check(good()) == []


def test_a_submission_that_was_broken_off_may_be_stored():
    """A client that went away without an answer knows nothing, so nothing is wrong if its job is there."""
    evidence = good()
    evidence.history.records[0].submissions.clear()
    assert checker.check(evidence) == []


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_each_broken_promise_is_found(breaks: Callable[[Evidence], None]):
    """One thing wrong in a run that was good: the checker names the promise."""
    evidence = good()
    breaks(evidence)
    assert BROKEN[breaks] in {violation.promise for violation in checker.check(evidence)}


@pytest.mark.parametrize(("seconds", "forgiven"), [(20.0, True), (10.0, False)])
def test_overlap_is_forgiven_only_beyond_the_lease(seconds: float, *, forgiven: bool):
    """A worker that was cut off for longer than the lease may overlap with its successor, and no other."""
    evidence = good()
    evidence.documents[PID]["fence"] = 2
    first = [line("start", 2), line("beat", 19)]
    second = [line("start", 18.5, attempt=2, process=61), line("end", 21, attempt=2, process=61, detail="returned")]
    evidence.effects[PID][:] = [*first, *second]
    evidence.documents[PID]["result"] = {"note": "job 1", "attempt": 2, "process": 61}
    blow = Blow(at=0, kind=Kind.SILENCE, target="amqp", of="compute", seconds=seconds)
    evidence.history.struck.append(Struck(blow=blow, at=2.5, until=2.5 + seconds, processes=[WORKER]))
    assert (checker.check(evidence) == []) is forgiven


def test_another_outcome_after_running_again_is_none():
    """A job that failed and was run again by request may succeed, and has a mail about both."""
    evidence = good()
    evidence.history.records[0].looks.insert(0, answer(200, at=1.5, status="failed"))
    evidence.history.records[0].retries.append(answer(202, at=1.8))
    evidence.mails[PID].append(Mail(pid=PID, on="failed", id="failed", subject="failed", wall=1.5))
    assert checker.check(evidence) == []
    evidence.history.records[0].retries.clear()
    assert {violation.promise for violation in checker.check(evidence)} == {"one outcome"}


def test_a_mail_may_come_twice_if_the_notifier_died():
    """A second mail is forgiven if the notifier was killed between the two."""
    evidence = good()
    evidence.mails[PID].append(evidence.mails[PID][1])
    blow = Blow(at=3, kind=Kind.KILL, target="notifier")
    evidence.history.struck.append(Struck(blow=blow, at=3, until=3, processes=[70]))
    assert checker.check(evidence) == []


def test_a_seed_is_a_plan():
    """The same seed gives the same jobs and blows, another one others, and a short run has every process in it."""
    assert plan.make(7, 60) == plan.make(7, 60)
    assert plan.make(7, 60) != plan.make(8, 60)
    killed = {blow.target.partition("-")[0] for blow in plan.make(7, 60).blows if blow.kind is Kind.KILL}
    assert killed >= {"gateway", "compute", "child", "results", "notifier", "rabbitmq", "mongodb"}
