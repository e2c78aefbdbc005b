"""The checker: every promise, held against what was seen. It forgives only what docs/ say it may."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from contracts.status import TERMINAL, JobStatus, NotifyOn
from tests.chaos.effects import END, START, Effect, Span, spans
from tests.chaos.evidence import Document, Evidence, Mail
from tests.chaos.history import Answer, Record
from tests.chaos.plan import LEASE_SECONDS, WORKERS, Kind

OK, ACCEPTED, NOT_FOUND, CONFLICT, MISMATCH, UNAVAILABLE = 200, 202, 404, 409, 422, 503
COUNTED = ("crashed", "worker_lost", "timeout", "out_of_memory")
"""Kinds of error after which there is another attempt, as long as there is budget."""
STOP_SECONDS = 20.0
"""So long after a worker's connection is back it may take until it has heard what it must stop: the broker's
reconnect back-off (5 s), a heartbeat (3 s), the answer (5 s), and a busy machine."""
SLOWEST_REFUSAL_SECONDS = 3.0
"""A 503 is promised within 2 s, by the gateway's clock. The client's is here as well, and the way between the two;
on a machine with more to do than processors all takes that much longer."""
GATEWAY_START_SECONDS = 10.0
NEVER_SUCCEED = ("chaos_hopeless", "chaos_overrun")
NEVER_RAISE = ("chaos_work", "chaos_spawn", "chaos_stubborn", "chaos_flaky")


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A promise that was broken."""

    promise: str
    text: str
    pid: str | None = None


Check = Callable[[Evidence], Iterator[Violation]]


def check(evidence: Evidence) -> list[Violation]:
    """Every violation, of every promise."""
    return [violation for one in CHECKS for violation in one(evidence)]


# ---- 1: nothing accepted is lost


def nothing_is_lost(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged ends; what a 503 left in doubt is unknown or ends; what was not sent is not there."""
    references = Counter(document.get("reference") for document in evidence.documents.values())
    for record in evidence.history.records:
        for pid in (*record.pids, *record.doubtful):
            document = evidence.documents.get(pid)
            if document is None and pid in record.pids:
                yield Violation(promise="nothing is lost", pid=pid, text="acknowledged, and not in the database")
            elif document is not None and document["status"] not in TERMINAL:
                yield Violation(promise="nothing is lost", pid=pid, text=f"still {document['status']}")
        not_sent = [a.code == UNAVAILABLE and "pid" not in a.body for a in record.submissions]
        if not_sent and all(not_sent) and references[record.reference]:
            text = f"{record.reference}: 503 said that nothing was stored, and there is a job"
            yield Violation(promise="nothing is lost", text=text)
    for pid, document in evidence.documents.items():
        if document["status"] not in TERMINAL and document.get("reference") not in (None, ""):
            yield Violation(promise="nothing is lost", pid=pid, text=f"in the database and still {document['status']}")


# ---- 2: one outcome


def one_outcome(evidence: Evidence) -> Iterator[Violation]:
    """The first final status anybody saw is the last; API, database and result say the same."""
    for record in evidence.history.records:
        if (pid := record.pid) is None or (document := evidence.documents.get(pid)) is None:
            continue
        first, last = record.run_again or (float("inf"), float("-inf"))
        final = {str(document["status"]), str(evidence.answers[pid].get("status"))}
        for told in (_endings(record, until=first), _endings(record, since=last) | final):
            if len(told) > 1:
                yield Violation(promise="one outcome", pid=pid, text=f"seen as {', '.join(sorted(told))}")
        yield from _fits(record, pid, document, evidence.effects.get(pid, []))


def _endings(record: Record, since: float = float("-inf"), until: float = float("inf")) -> set[str]:
    """The final states that the client saw between two moments."""
    looks = [look for look in record.looks if look.code == OK and look.body.get("status") in TERMINAL]
    return {str(look.body["status"]) for look in looks if look.sent >= since and look.at <= until}


def _fits(record: Record, pid: str, document: Document, effects: list[Effect]) -> Iterator[Violation]:
    """Whether the outcome is one that this task can have."""
    task, status = record.spec.task, document["status"]
    kind = (document.get("error") or {}).get("kind")
    if status == JobStatus.SUCCEEDED:
        result: dict[str, Any] = document.get("result") or {}
        ends = {(line.attempt, line.process) for line in effects if line.kind == END and line.detail == "returned"}
        if task in NEVER_SUCCEED:
            yield Violation(promise="one outcome", pid=pid, text=f"{task} cannot succeed")
        elif result.get("note") != record.spec.params["note"]:
            yield Violation(promise="one outcome", pid=pid, text=f"the result is another job's: {result}")
        elif (result["attempt"], result["process"]) not in ends:
            yield Violation(promise="one outcome", pid=pid, text=f"no attempt has returned the result {result}")
    elif status == JobStatus.FAILED:
        if task in NEVER_RAISE and kind not in COUNTED:
            yield Violation(promise="one outcome", pid=pid, text=f"{task} cannot fail as {document.get('error')}")
        if kind in COUNTED and document["attempts_used"] < document["max_attempts"]:
            yield Violation(promise="one outcome", pid=pid, text=f"failed as {kind} with attempts left")
    elif status == JobStatus.CANCELLED and not record.cancels:
        yield Violation(promise="one outcome", pid=pid, text="cancelled, and nobody had asked for it")


def attempts_are_bounded(evidence: Evidence) -> Iterator[Violation]:
    """The budget holds, each claim starts one attempt at most, and each attempt of an ended job has an outcome."""
    for pid, document in evidence.documents.items():
        used, allowed, fence = document["attempts_used"], document["max_attempts"], document["fence"]
        starts = [line for line in evidence.effects.get(pid, []) if line.kind == START]
        if not 0 <= used <= allowed:
            yield Violation(promise="budget", pid=pid, text=f"{used} attempts used, {allowed} allowed")
        if len(starts) > fence or any(line.attempt > allowed for line in starts):
            yield Violation(promise="budget", pid=pid, text=f"{len(starts)} starts under {fence} claims")
        open_ended = [a["number"] for a in document["attempts"] if "outcome" not in a]
        if document["status"] in TERMINAL and open_ended:
            yield Violation(promise="budget", pid=pid, text=f"attempts without outcome: {open_ended}")


# ---- 3: cancel means cancel


def cancel_means_cancel(evidence: Evidence) -> Iterator[Violation]:
    """After an accepted cancel nothing starts, and the job ends as cancelled."""
    for record in evidence.history.records:
        accepted = [answer for answer in record.cancels if answer.code == ACCEPTED]
        if not accepted or (pid := record.pid) is None or (document := evidence.documents.get(pid)) is None:
            continue
        again = record.run_again
        if document["status"] != JobStatus.CANCELLED and not again:
            yield Violation(promise="cancel", pid=pid, text=f"cancel was accepted, ended as {document['status']}")
        first = accepted[0]
        until = again[0] if again else float("inf")
        starts = [line.mono for line in evidence.effects.get(pid, []) if line.kind == START]
        later = [moment for moment in starts if first.at < moment < until]
        # A running job may have been granted and not begun when the cancel came: one start, until the stop is there.
        allowed = 0 if first.body.get("status") == JobStatus.CANCELLED else 1
        if len(later) > allowed:
            text = f"{len(later)} starts after the cancel of the {first.body.get('status')} job was accepted"
            yield Violation(promise="cancel", pid=pid, text=text)
    for record in evidence.history.records:
        for answer in record.cancels:
            if answer.code not in (None, ACCEPTED, CONFLICT, UNAVAILABLE):
                yield Violation(promise="cancel", pid=record.pid, text=f"cancel was answered {answer.code}")


# ---- 4: same key, same job


def same_key_same_job(evidence: Evidence) -> Iterator[Violation]:
    """One pid per key, one job per submission, 422 for another payload."""
    references = Counter(document.get("reference") for document in evidence.documents.values())
    for record in evidence.history.records:
        if len(record.pids) > 1:
            yield Violation(promise="same key", pid=record.pid, text=f"the key has the pids {record.pids}")
        if references[record.reference] > 1:
            text = f"{references[record.reference]} jobs of one submission"
            yield Violation(promise="same key", pid=record.pid, text=text)
        for answer in record.mismatches:
            if record.pid is not None and answer.code not in (None, MISMATCH, UNAVAILABLE):
                yield Violation(promise="same key", pid=record.pid, text=f"another payload: {answer.code}")


# ---- execution: at least once, and only once at a time


def no_overlap(evidence: Evidence) -> Iterator[Violation]:
    """Two attempts of a job live at the same time only if the first one's worker was cut off beyond the lease."""
    for pid, lines in evidence.effects.items():
        lives = spans(lines)
        for number, life in enumerate(lives):
            start, alive = life.start, {int(process) for process in life.start.detail.split()}
            for before in lives[:number]:
                first = before.start
                same = (first.process, first.born) == (start.process, start.born)
                if same or not (before.last > start.mono or (first.process in alive and before.how is None)):
                    continue
                if not _was_cut_off(evidence, first.parent, start.mono, before.last):
                    text = (
                        f"attempt {first.attempt} (process {first.process}) lived when attempt {start.attempt} "
                        f"began, until {before.last - start.mono:.3f} s later"
                    )
                    yield Violation(promise="no overlap", pid=pid, text=text)


def _was_cut_off(evidence: Evidence, worker: int, start: float, until: float) -> bool:
    """Whether the worker's process was away for longer than the lease, and the overlap lies in or soon after that."""
    return any(
        worker in struck.processes
        and struck.blow.kind in (Kind.REFUSE, Kind.SILENCE, Kind.FREEZE)
        and struck.until - struck.at >= LEASE_SECONDS
        and struck.at + LEASE_SECONDS - 1 <= start
        and until <= struck.until + STOP_SECONDS
        for struck in evidence.history.struck
        if struck.blow.of in WORKERS or struck.blow.target in WORKERS
    )


# ---- 5: no clash


def no_clash(evidence: Evidence) -> Iterator[Violation]:
    """Two jobs with the same key never run at the same time."""
    holders: dict[str, list[tuple[str, Span]]] = {}
    for record in evidence.history.records:
        for pid in record.pids[:1] if record.spec.locks else ():
            for key, life in product(record.spec.locks, spans(evidence.effects.get(pid, []))):
                holders.setdefault(key, []).append((pid, life))
    for key, lives in holders.items():
        in_order = sorted(lives, key=lambda one: one[1].start.mono)
        for (holder, before), (intruder, after) in combinations(in_order, 2):
            began = after.start.mono
            if holder == intruder or before.last <= began:
                continue
            if not _was_cut_off(evidence, before.start.parent, began, before.last):
                text = f"{intruder} began with {key} {before.last - began:.3f} s before the last sign of its holder"
                yield Violation(promise="no clash", pid=holder, text=text)


def no_lock_is_left(evidence: Evidence) -> Iterator[Violation]:
    """No lock outlives its job, and a refusal stores nothing."""
    for pid, document in evidence.documents.items():
        if document["status"] in TERMINAL and document.get("held_locks"):
            yield Violation(promise="no clash", pid=pid, text=f"has ended and holds {document['held_locks']}")
    references = {document.get("reference") for document in evidence.documents.values()}
    for record in evidence.history.records:
        refused = [answer.code == CONFLICT for answer in record.submissions]
        if refused and all(refused) and record.reference in references:
            yield Violation(promise="no clash", text=f"{record.reference}: refused, and there is a job")


# ---- 7: isolation


def nothing_is_left(evidence: Evidence) -> Iterator[Violation]:
    """No process of a task outlives its attempt, and no process of ours the stop."""
    for found in evidence.strays:
        yield Violation(promise="isolation", text=f"left behind by a task: {found}")
    for found in evidence.left:
        yield Violation(promise="isolation", text=f"left after the stop: {found}")


# ---- 9: told


def everybody_is_told(evidence: Evidence) -> Iterator[Violation]:
    """A mail for each moment that came, none for another, and none twice unless somebody died around it."""
    for record in evidence.history.records:
        if (pid := record.pid) is None or record.to is None or (document := evidence.documents.get(pid)) is None:
            continue
        mails: dict[str, list[Mail]] = {}
        for mail in evidence.mails.get(pid, []):
            mails.setdefault(mail.id, []).append(mail)
        told = {several[0].on for several in mails.values()}
        expected = {NotifyOn.ACCEPTED.value, str(document["status"]), *_endings(record)}
        if told != expected:
            text = f"mails say {sorted(told)}, expected {sorted(expected)}"
            yield Violation(promise="told", pid=pid, text=text)
        unsent = [entry for entry in document["notifications"] if entry["state"] not in ("sent", "skipped")]
        if unsent and document["status"] in TERMINAL:
            yield Violation(promise="told", pid=pid, text=f"the outbox says {unsent}")
        for several in mails.values():
            if len(several) > 1 and not _excused(evidence, several):
                yield Violation(promise="told", pid=pid, text=f"{len(several)} mails about {several[0].on}")


def _excused(evidence: Evidence, several: list[Mail]) -> bool:
    """Whether the notifier, the mail server or the database was hit between the first mail and its mark."""
    history = evidence.history
    shift = history.began - history.began_wall
    begin, end = several[0].wall + shift - 5, several[-1].wall + shift
    return bool(history.near(begin, end, "notifier", "smtp", "mongodb"))


# ---- 10 and 11: the counter


def the_counter_is_honest(evidence: Evidence) -> Iterator[Violation]:
    """No answer but the documented ones, refusals in time, 404 for what is unknown and for nothing else."""
    for answer in evidence.history.answers():
        if answer.code is None:
            continue
        if answer.code >= 500 and answer.code != UNAVAILABLE:
            yield Violation(promise="counter", text=f"{answer.what} was answered {answer.code}: {answer.body}")
        seconds = answer.at - answer.sent
        # While a gateway starts, its socket is open before its process serves.
        starts = evidence.history.near(answer.sent - GATEWAY_START_SECONDS, answer.at, "gateway")
        if answer.code == UNAVAILABLE and seconds > SLOWEST_REFUSAL_SECONDS * evidence.history.crowd and not starts:
            began = answer.sent - evidence.history.began
            yield Violation(promise="counter", text=f"a 503 for {answer.what} at {began:.1f} took {seconds:.1f} s")
    for answer in evidence.history.strangers:
        if answer.code not in (None, NOT_FOUND, UNAVAILABLE):
            yield Violation(promise="counter", text=f"an unknown pid was answered {answer.code}: {answer.body}")
    for record in evidence.history.records:
        for answer in record.submissions:
            in_the_way = answer.code == CONFLICT and record.spec.locks and answer.body.get("blocking")
            if answer.code not in (None, ACCEPTED, UNAVAILABLE) and not in_the_way:
                yield Violation(promise="counter", text=f"a submission was answered {answer.code}: {answer.body}")
        yield from _known(record)


def _known(record: Record) -> Iterator[Violation]:
    lost: list[Answer] = [answer for answer in record.looks if answer.code != OK]
    if lost:
        codes = sorted({str(answer.code) for answer in lost})
        yield Violation(promise="counter", pid=record.pid, text=f"a job that was acknowledged was answered {codes}")


CHECKS: tuple[Check, ...] = (
    nothing_is_lost,
    one_outcome,
    attempts_are_bounded,
    cancel_means_cancel,
    same_key_same_job,
    no_overlap,
    no_clash,
    no_lock_is_left,
    nothing_is_left,
    everybody_is_told,
    the_counter_is_honest,
)
