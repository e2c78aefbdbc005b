"""The clients: they submit what the plan says, look, cancel, repeat, and write down every answer."""

import asyncio
import contextlib
import random
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from contracts.clock import rfc3339
from contracts.ids import new_id
from tests.chaos.history import Answer, History, Record
from tests.chaos.pace import Pace
from tests.chaos.plan import JobSpec

TRIES = 60
"""How often a client that has a key, or wants a cancel, asks again."""
AGAIN_SECONDS = 1.0
END_SECONDS = 90.0
"""So long a client waits for the end of a job that it would run again."""
PROBE_SECONDS = 5.0
PROBE_EVERY_SECONDS = 0.2
REQUEST_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.12
KEPT_LOOKS = 40
"""Per job; looks that only repeat what the last one said are not kept."""
FINAL = ("succeeded", "failed", "cancelled")


class Driver:
    """All clients of one run."""

    def __init__(self, url: str, history: History, pace: Pace) -> None:
        self._history = history
        self._pace = pace
        self._lot = random.Random(history.plan.seed)  # noqa: S311 -- which job is looked at next guards nothing
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v1", timeout=REQUEST_SECONDS, limits=httpx.Limits(max_connections=None)
        )
        self._clients: set[asyncio.Task[None]] = set()
        self._probes = 0
        self._looking: asyncio.Task[None] | None = None
        self.open: dict[str, Record] = {}
        """Acknowledged jobs that nobody has seen ended yet."""

    async def run(self) -> None:
        """Submit all jobs of the plan at their times; comes back when the last one has been sent."""
        self._looking = asyncio.create_task(self._look_for_ever())
        for spec in self._history.plan.jobs:
            if not await self._pace.reach(spec.at):
                return
            self._start(self._life(spec))

    async def finish(self) -> None:
        """Wait until every client has done what it had to do."""
        while self._clients:
            await asyncio.wait(set(self._clients))

    async def works(self) -> bool:
        """Whether a job of no duration is accepted and succeeds soon; it counts like all others."""
        self._probes += 1
        spec = JobSpec(
            at=0,
            number=-self._probes,
            task="chaos_work",
            params={"note": f"probe {self._probes}", "seconds": 0},
            priority="high",
        )
        record = self._record(spec)
        await self._submit(record, _body(spec, record), {})
        for _ in range(int(PROBE_SECONDS / PROBE_EVERY_SECONDS) if record.pid else 0):
            if (await self.look(record)).body.get("status") == FINAL[0]:
                return True
            await asyncio.sleep(PROBE_EVERY_SECONDS)
        return False

    async def close(self) -> None:
        """Look no more."""
        for task in (*self._clients, self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._http.aclose()

    @property
    def busy(self) -> int:
        """Clients that still do something."""
        return len(self._clients)

    # ---- one job

    async def _life(self, spec: JobSpec) -> None:
        record = self._record(spec)
        body = _body(spec, record)
        headers = {"Idempotency-Key": record.reference} if spec.key else {}
        await asyncio.gather(*(self._submit(record, body, headers) for _ in range(spec.twins)))
        if (pid := record.pid) is None:
            return
        self.open[pid] = record
        if spec.repeat_after is not None:
            self._start(self._repeat(record, body, headers, spec.repeat_after))
        if spec.cancel_after is not None:
            await asyncio.sleep(spec.cancel_after)
            await self._ask_until(record.cancels, f"/jobs/{pid}/cancel", "cancel")
        if spec.retry and await self._ended_badly(record):
            await self._ask_until(record.retries, f"/jobs/{pid}/retry", "retry")
            self.open[pid] = record

    def _record(self, spec: JobSpec) -> Record:
        run = f"chaos-{self._history.plan.seed}-{spec.number}"
        record = Record(spec=spec, reference=run, to=f"{run}@example.org" if spec.mail else None)
        self._history.records.append(record)
        return record

    async def _submit(self, record: Record, body: dict[str, Any], headers: dict[str, str]) -> None:
        for _ in range(TRIES if headers else 1):
            answer = await self._request("POST", "/jobs", "submit", json=body, headers=headers)
            record.submissions.append(answer)
            if answer.code is not None and answer.code < httpx.codes.INTERNAL_SERVER_ERROR:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _repeat(self, record: Record, body: dict[str, Any], headers: dict[str, str], after: float) -> None:
        await asyncio.sleep(after)
        await self._submit(record, body, headers)
        other = {**body, "params": {**body["params"], "note": "another"}}
        record.mismatches.append(await self._request("POST", "/jobs", "same key", json=other, headers=headers))

    async def _ask_until(self, answers: list[Answer], path: str, what: str) -> None:
        """Ask until the answer is a definite one."""
        for _ in range(TRIES):
            answers.append(await self._request("POST", path, what))
            code = answers[-1].code
            if code is not None and code < httpx.codes.INTERNAL_SERVER_ERROR:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ended_badly(self, record: Record) -> bool:
        """Wait for the end; whether it can be run again."""
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            if (status := (await self.look(record)).body.get("status")) in FINAL:
                return str(status) != FINAL[0]
            await asyncio.sleep(AGAIN_SECONDS)
        return False

    # ---- looking

    async def _look_for_ever(self) -> None:
        """Look at one job after the other, and now and then at one that does not exist."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if self._lot.random() < 0.05:
                answer = await self._request("GET", f"/jobs/{new_id()}", "look at nothing")
                self._history.strangers.append(answer)
            known = [record for record in self._history.records if record.pid]
            some = [self._lot.choice(known)] if known else []
            still_open = list(self.open)
            if still_open:
                some.append(self.open[self._lot.choice(still_open)])
            for record in some:
                await self.look(record)

    async def look(self, record: Record) -> Answer:
        """GET the job, and write down what is new."""
        pid = record.pid
        answer = await self._request("GET", f"/jobs/{pid}", "look")
        status = answer.body.get("status")
        if answer.code is None or answer.code == httpx.codes.SERVICE_UNAVAILABLE:
            return answer
        before = record.looks[-1].body.get("status") if record.looks else None
        if status != before or answer.code != httpx.codes.OK:
            slim = {name: answer.body.get(name) for name in ("status", "attempt", "error", "result", "detail")}
            record.looks = [
                *record.looks,
                Answer(sent=answer.sent, at=answer.at, code=answer.code, body=slim, what="look"),
            ]
            del record.looks[:-KEPT_LOOKS]
        if status in FINAL and pid is not None:
            self.open.pop(pid, None)
        return answer

    # ---- HTTP

    async def _request(self, method: str, path: str, what: str, **more: Any) -> Answer:
        sent = time.monotonic()
        code, body = None, {}
        try:
            answer = await self._http.request(method, path, **more)
            code, body = answer.status_code, answer.json()
        except (httpx.HTTPError, ValueError) as error:
            body = {"detail": type(error).__name__}
        return Answer(sent=sent, at=time.monotonic(), code=code, body=body, what=what)

    def _start(self, life: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(life)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)


def _body(spec: JobSpec, record: Record) -> dict[str, Any]:
    options: dict[str, Any] = {"priority": spec.priority}
    if spec.due_after is not None:
        options["not_before"] = rfc3339(datetime.now(UTC) + timedelta(seconds=spec.due_after))
    if spec.locks:
        options |= {"locks": list(spec.locks), "on_conflict": spec.on_conflict}
    if record.to is not None:
        options["notify"] = {"email": record.to, "on": ["accepted", *FINAL]}
    return {"task": spec.task, "params": spec.params, "reference": record.reference, **options}
