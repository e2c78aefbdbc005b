"""What a run comes to: a row of the table, and on failure everything that is known about it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts import codec
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence
from tests.chaos.history import HTTP_UNAVAILABLE
from tests.chaos.plan import Kind

SHOWN_JOBS = 5
"""So many jobs are shown whole; the file has them all."""
COLUMNS = (
    "seed", "jobs", "acknowledged", "kills", "terms", "cuts", "freezes", "succeeded", "failed", "cancelled",
    "retries", "hand-backs", "worker_lost", "mails", "503s", "longest outage", "violations",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One seed."""

    cells: tuple[str, ...]
    violations: int


def row(evidence: Evidence, violations: list[Violation]) -> Row:
    """The numbers of one seed."""
    history = evidence.history
    statuses = Counter(str(document["status"]) for document in evidence.documents.values())
    attempts = [attempt for document in evidence.documents.values() for attempt in document["attempts"]]
    outcomes = Counter(str(attempt.get("outcome")) for attempt in attempts)
    lost = sum((attempt.get("error") or {}).get("kind") == "worker_lost" for attempt in attempts)
    kinds = Counter(struck.blow.kind for struck in history.struck)
    kills = history.kills()
    cells = (
        history.plan.seed,
        len(history.records),
        sum(record.pid is not None for record in history.records),
        f"{sum(kills.values())} ({', '.join(f'{name} {count}' for name, count in sorted(kills.items()))})",
        kinds[Kind.TERMINATE],
        kinds[Kind.CUT] + kinds[Kind.REFUSE] + kinds[Kind.SILENCE],
        kinds[Kind.FREEZE],
        statuses["succeeded"],
        statuses["failed"],
        statuses["cancelled"],
        outcomes["failed"] - statuses["failed"],
        outcomes["handed_back"],
        lost,
        sum(map(len, evidence.mails.values())),
        sum(answer.code == HTTP_UNAVAILABLE for answer in history.answers()),
        f"{history.longest_outage():.1f} s",
        len(violations),
    )
    return Row(cells=tuple(map(str, cells)), violations=len(violations))


def table(rows: list[Row]) -> str:
    """All seeds, in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(one.cells for one in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def failure(evidence: Evidence, violations: list[Violation], *, most_jobs: int = SHOWN_JOBS) -> str:
    """What was broken, what was done when, and the story of each job that is concerned."""
    return "\n".join(_lines(evidence, violations, most_jobs))


def _lines(evidence: Evidence, violations: list[Violation], most_jobs: int) -> Iterator[str]:
    history = evidence.history
    yield f"Seed {history.plan.seed}: {len(violations)} violations"
    for violation in violations:
        yield f"  [{violation.promise}] {violation.pid or ''} {violation.text}"
    yield "What was done (seconds since the start):"
    for struck in sorted(history.struck, key=lambda one: one.at):
        yield f"  {struck.shown(history.began)}"
    for pid in list(dict.fromkeys(violation.pid for violation in violations if violation.pid))[:most_jobs]:
        yield from _story(evidence, pid)


def _story(evidence: Evidence, pid: str) -> Iterator[str]:
    history = evidence.history
    yield f"Job {pid}"
    for record in history.records:
        if pid in (*record.pids, *record.doubtful):
            yield f"  planned: {record.spec}"
            answers = (*record.submissions, *record.cancels, *record.retries, *record.mismatches, *record.looks)
            for answer in sorted(answers, key=lambda one: one.sent):
                yield f"  {answer.shown(history.began)}"
    for line in evidence.effects.get(pid, []):
        yield f"  {line.shown(history.began)}"
    for mail in evidence.mails.get(pid, []):
        yield f"  {mail.wall - history.began_wall:9.3f}  mail: {mail.subject}"
    document = dict(evidence.documents.get(pid, {}))
    yield f"  document: {codec.dumps(document).decode()}"
    yield f"  wall clock at 0: {history.began_wall:.3f}"


def write(path: Path, rows: list[Row]) -> None:
    """The table as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table(rows))
