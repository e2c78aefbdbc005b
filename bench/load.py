"""The load generator: a process of its own, so that its CPU time is nobody else's.

Reads one plan (JSON) from standard input and writes one event (JSON) per line to standard output.
After an event ``finished`` it waits for a line on standard input before it checks every job, so that
the bench can read the clocks of the side in between, and the check is not part of what is measured.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.wire import Connection, Refused

TAIL_JOBS = 16
"""The newest jobs, whose end is taken as the end of all until the check has proven it."""
TAIL_POLL_SECONDS = 0.05
PROGRESS_SECONDS = 0.5
JOB_TIMEOUT_SECONDS = 120.0
ACCEPTED = 202


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do to whom."""

    mode: str
    """throughput | latency | steady"""
    host: str
    port: int
    jobs_path: str
    """Where to POST; a job is at ``<jobs_path>/<pid>``."""
    succeeded: str
    """The side's word for a job that ended well."""
    ended: list[str]
    """The side's words for all ends."""
    body: dict[str, Any] = field(default_factory=dict)
    jobs: int = 0
    clients: int = 1
    poll_seconds: float = 0.001
    rate: float = 0.0
    pids: list[str] = field(default_factory=list)


FAILURES = (Refused, OSError, EOFError, ValueError, KeyError)
"""What a side that does not work as it should ends in."""


def reason(error: BaseException) -> str:
    """*error* as a clause."""
    return f"{type(error).__name__}: {error}"


def tell(event: str, **members: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


class Generator:
    """Carries one plan out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._body = json.dumps(plan.body).encode()
        self._told = time.monotonic()
        self._failures: list[str] = []

    def run(self) -> None:
        """Do what the plan's mode says."""
        {"throughput": self.throughput, "latency": self.latency, "steady": self.steady}[self._plan.mode]()

    def throughput(self) -> None:
        """All jobs from several connections at once; the clock stops when the last one has ended."""
        plan = self._plan
        pids = [""] * plan.jobs
        gate = threading.Barrier(plan.clients + 1)
        counts = [0] * plan.clients

        def client(connection: Connection, first: int) -> None:
            gate.wait()
            for index in range(first, plan.jobs, plan.clients):
                pids[index] = self._submit(connection)
                counts[first] += 1

        workers = self._in_threads(client, plan.clients)
        gate.wait()
        start = time.monotonic()
        while any(worker.is_alive() for worker in workers):
            workers[0].join(0.05)
            self._progress("submitted", sum(counts), plan.jobs)
        for worker in workers:
            worker.join()
        accepted = time.monotonic() - start
        if not all(pids):
            raise Refused(f"Not every job was accepted: {'; '.join(self._failures[:3])}")
        with Connection(plan.host, plan.port) as connection:
            for pid in reversed(pids[-TAIL_JOBS:]):
                self._await_end(connection, pid, TAIL_POLL_SECONDS)
        finished = time.monotonic() - start
        tell("finished")
        sys.stdin.readline()
        stragglers, last_end = self._check(pids)
        tell(
            "result",
            seconds=max(finished, last_end - start) if stragglers else finished,
            accept_seconds=accepted,
            stragglers=stragglers,
        )

    def latency(self) -> None:
        """One job after another, from before the POST until a GET shows its end."""
        plan = self._plan
        accepts, ends = [], []
        with Connection(plan.host, plan.port) as connection:
            for done in range(plan.jobs):
                start = time.perf_counter()
                pid = self._submit(connection)
                accepts.append(time.perf_counter() - start)
                self._await_end(connection, pid, plan.poll_seconds)
                ends.append(time.perf_counter() - start)
                self._progress("finished", done + 1, plan.jobs)
        tell("result", accept_seconds=accepts, end_seconds=ends)

    def steady(self) -> None:
        """GETs at an even rate over one connection until all jobs have ended.

        A request that could not be sent in time because the one before was slow counts from when
        it was due, so that a stall is seen by every request that it held up.
        """
        plan = self._plan
        seconds: list[float] = []
        waiting = list(plan.pids)
        with Connection(plan.host, plan.port) as connection:
            due = time.perf_counter()
            while waiting:
                due += 1 / plan.rate
                pause = due - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
                    due_or_sent = time.perf_counter()
                else:
                    due_or_sent = due
                pid = waiting[len(seconds) % len(waiting)]
                status = self._status(connection, pid)
                seconds.append(time.perf_counter() - due_or_sent)
                if status in plan.ended:
                    self._insist(pid, status)
                    waiting.remove(pid)
                self._progress("jobs ended", len(plan.pids) - len(waiting), len(plan.pids))
        tell("result", seconds=seconds)

    def _submit(self, connection: Connection) -> str:
        status, answer = connection.json("POST", self._plan.jobs_path, self._body)
        if status != ACCEPTED:
            raise Refused(f"A submission was answered with {status}: {answer}")
        return str(answer["pid"])

    def _status(self, connection: Connection, pid: str) -> str:
        status, answer = connection.json("GET", f"{self._plan.jobs_path}/{pid}")
        if status != 200:  # noqa: PLR2004 -- the one status that brings a job
            raise Refused(f"GET of job {pid} was answered with {status}: {answer}")
        return str(answer["status"])

    def _await_end(self, connection: Connection, pid: str, poll_seconds: float) -> None:
        deadline = time.monotonic() + JOB_TIMEOUT_SECONDS
        while (status := self._status(connection, pid)) not in self._plan.ended:
            if time.monotonic() > deadline:
                raise Refused(f"Job {pid} is still {status} after {JOB_TIMEOUT_SECONDS:g} s.")
            time.sleep(poll_seconds)
        self._insist(pid, status)

    def _insist(self, pid: str, status: str) -> None:
        if status != self._plan.succeeded:
            raise Refused(f"Job {pid} ended as {status}.")

    def _check(self, pids: Sequence[str]) -> tuple[int, float]:
        """See every job ended; returns how many had not when first asked, and when the last one did."""
        plan = self._plan
        late: list[float] = []
        good = [0] * plan.clients

        def client(connection: Connection, first: int) -> None:
            for index in range(first, len(pids), plan.clients):
                status = self._status(connection, pids[index])
                if status in plan.ended:
                    self._insist(pids[index], status)
                else:
                    self._await_end(connection, pids[index], TAIL_POLL_SECONDS)
                    late.append(time.monotonic())
                good[first] += 1

        for worker in self._in_threads(client, plan.clients):
            while worker.is_alive():
                worker.join(0.2)
                self._progress("checked", sum(good), len(pids))
        if sum(good) != len(pids):
            raise Refused(f"Not every accepted job ended well: {'; '.join(self._failures[:3])}")
        return len(late), max(late, default=0.0)

    def _in_threads(self, work: Callable[[Connection, int], None], count: int) -> list[threading.Thread]:
        def serve(first: int) -> None:
            try:
                with Connection(self._plan.host, self._plan.port) as connection:
                    work(connection, first)
            except FAILURES as error:
                self._failures.append(reason(error))

        threads = [threading.Thread(target=serve, args=(first,), daemon=True) for first in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def _progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            tell("progress", what=what, done=done, total=total)


def main() -> None:
    """Read the plan, carry it out; a failure is an event too."""
    plan = Plan(**json.loads(sys.stdin.readline()))
    try:
        Generator(plan).run()
    except FAILURES as error:
        tell("failed", reason=reason(error))


if __name__ == "__main__":
    main()
