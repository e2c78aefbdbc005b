"""What was done to the system and what it answered, moment by moment."""

import os
import time
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.plan import Blow, JobSpec, Kind, Plan

HTTP_UNAVAILABLE = 503


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One request and what came back; moments are of the monotonic clock."""

    sent: float
    at: float
    code: int | None
    """None: the connection broke, nothing is known."""
    body: dict[str, Any] = field(default_factory=dict)
    what: str = ""

    def shown(self, since: float) -> str:
        """For a person."""
        about = self.body.get("status") or self.body.get("detail") or ""
        return f"{self.sent - since:9.3f}  {self.what} -> {self.code or 'broken'} after {self.at - self.sent:.3f} s {about}"


@dataclass(kw_only=True, slots=True)
class Record:
    """One job of the plan, as its client saw it."""

    spec: JobSpec
    reference: str
    to: str | None = None
    """Who gets the mail."""
    submissions: list[Answer] = field(default_factory=list)
    mismatches: list[Answer] = field(default_factory=list)
    """The same key with something else."""
    cancels: list[Answer] = field(default_factory=list)
    retries: list[Answer] = field(default_factory=list)
    """Requests to run it again."""
    looks: list[Answer] = field(default_factory=list)

    @property
    def pids(self) -> list[str]:
        """The pids that were acknowledged, each once; more than one is a fault."""
        return list(dict.fromkeys(answer.body["pid"] for answer in self.submissions if answer.code in (200, 202)))

    @property
    def pid(self) -> str | None:
        """The job, if one was acknowledged."""
        return self.pids[0] if self.pids else None

    @property
    def doubtful(self) -> list[str]:
        """The pids that a 503 named."""
        return [
            answer.body["pid"]
            for answer in self.submissions
            if answer.code == HTTP_UNAVAILABLE and "pid" in answer.body
        ]

    @property
    def run_again(self) -> tuple[float, float] | None:
        """When the first request to run it again that may have been accepted was sent, and the last answered."""
        perhaps = [answer for answer in self.retries if answer.code in (None, 202, HTTP_UNAVAILABLE)]
        return (perhaps[0].sent, self.retries[-1].at) if perhaps else None


@dataclass(kw_only=True, slots=True)
class Struck:
    """A blow that was dealt."""

    blow: Blow
    at: float
    until: float
    processes: list[int]
    note: str = ""

    def shown(self, since: float) -> str:
        """For a person."""
        who = f" (process {', '.join(map(str, self.processes))})" if self.processes else ""
        return f"{self.at - since:9.3f}  {self.blow}{who}{self.note}"


class History:
    """Everything that happened in one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = self.began_wall = 0.0
        self.records: list[Record] = []
        self.struck: list[Struck] = []
        self.crowd = 1.0
        """How many times more there was to do on this machine than it has processors, at its worst."""
        self.strangers: list[Answer] = []
        """Looks at pids that nobody was given."""

    def start(self) -> None:
        """The clients and the torment begin now."""
        self.began, self.began_wall = time.monotonic(), time.time()

    def look_at_load(self) -> None:
        """To be called now and then."""
        self.crowd = max(self.crowd, os.getloadavg()[0] / (os.cpu_count() or 1))

    def answers(self) -> list[Answer]:
        """All of them."""
        return [
            *self.strangers,
            *(
                answer
                for record in self.records
                for answer in (*record.submissions, *record.mismatches, *record.cancels, *record.retries, *record.looks)
            ),
        ]

    def near(self, begin: float, end: float, *targets: str) -> list[Struck]:
        """The blows against *targets* (or their connections) that touch the time from *begin* to *end*."""
        return [
            struck
            for struck in self.struck
            if struck.at <= end
            and struck.until >= begin
            and (struck.blow.target in targets or struck.blow.of in targets)
        ]

    def kills(self) -> dict[str, int]:
        """How often each process was killed."""
        counts: dict[str, int] = {}
        for struck in self.struck:
            if struck.blow.kind is Kind.KILL and struck.processes:
                name = struck.blow.target.partition("-")[0]
                counts[name] = counts.get(name, 0) + 1
        return counts

    def longest_outage(self) -> float:
        """Seconds between the first refused submission and the next accepted one, at their longest."""
        longest, since = 0.0, None
        answers = sorted((a for record in self.records for a in record.submissions), key=lambda answer: answer.at)
        for answer in answers:
            if answer.code in (200, 202):
                longest = max(longest, answer.at - since) if since is not None else longest
                since = None
            elif since is None:
                since = answer.sent
        return longest
