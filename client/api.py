"""The client library: one object, one method per thing that can be done with a job."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from client.errors import ApiError, NotFinished, NotFound, NotRetryable, Unreachable, WaitTimeout, from_answer

DEFAULT_URL = "http://127.0.0.1:8000/api/v1"
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
FIRST_LOOK_SECONDS = 0.1
LAST_LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 5.0
RETRIED_BEFORE = "The job runs again."
RETRIED = frozenset({httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT})

Job = dict[str, Any]
"""A job as the API answers it."""


class Coatcheck:
    """A service at *base_url* (default: ``COATCHECK_URL``, else this machine).

    Each request may take *timeout_seconds*. While the service is away, requests are repeated for
    *retry_seconds*, as often as its ``Retry-After`` asks; a submission carries an idempotency key,
    so that it is stored once. Every method raises `client.errors.ClientError`.
    """

    def __init__(
        self, base_url: str | None = None, *, timeout_seconds: float = 10.0, retry_seconds: float = 30.0
    ) -> None:
        self.base_url = (base_url or os.environ.get("COATCHECK_URL") or DEFAULT_URL).rstrip("/")
        self._retry_seconds = retry_seconds
        self._http = httpx.Client(timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def tasks(self) -> list[dict[str, Any]]:
        """The catalogue."""
        tasks: list[dict[str, Any]] = self._json("GET", "/tasks")["tasks"]
        return tasks

    def task(self, name: str) -> dict[str, Any]:
        """One task, with its schemas and an example. Raises `NotFound`."""
        return self._json("GET", f"/tasks/{name}")

    def submit(
        self, task: str, params: dict[str, Any], *, idempotency_key: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Hand a job in and get its ticket: ``pid``, ``status``, ``created_at``, ``message``, ``links``.

        *options* are those of the API: ``notify``, ``reference``, ``tags``, ``priority``, ``not_before`` …
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = {"params": params, **options}
        return self._json("POST", f"/tasks/{task}/jobs", json=body, headers=headers)

    def job(self, pid: str) -> Job:
        """The job. Raises `NotFound`."""
        return self._json("GET", f"/jobs/{pid}")

    def result(self, pid: str) -> Any:
        """The result alone. Raises `NotFinished`, `JobFailed`, `JobCancelled`, `NotFound`."""
        answer = self._request("GET", f"/jobs/{pid}/result")
        if answer.status_code == httpx.codes.ACCEPTED:
            raise NotFinished(answer.json())
        return answer.json()

    def wait(
        self, pid: str, *, timeout_seconds: float | None = None, on_change: Callable[[Job], None] | None = None
    ) -> Job:
        """The job as soon as it has ended, however it ended; *on_change* hears of every change on the way.

        Raises `WaitTimeout` after *timeout_seconds* (default: never, for a job may run for days).
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        look, seen = FIRST_LOOK_SECONDS, None
        while True:
            job = self.job(pid)
            if on_change is not None and (now := (job["status"], job["attempt"], job["progress"])) != seen:
                seen, look = now, FIRST_LOOK_SECONDS
                on_change(job)
            if job["status"] in TERMINAL:
                return job
            if deadline is not None and time.monotonic() + look > deadline:
                raise WaitTimeout(f"job {pid} is still {job['status']} after {timeout_seconds:g} s")
            time.sleep(look)
            look = min(look * 1.5, LAST_LOOK_SECONDS)

    def cancel(self, pid: str) -> dict[str, Any]:
        """Ask for cancellation. Raises `NotCancellable` if the job has ended already."""
        return self._json("POST", f"/jobs/{pid}/cancel")

    def retry(self, pid: str) -> dict[str, Any]:
        """Run a failed or cancelled job again, with a new budget of attempts. Raises `NotRetryable`."""
        answer = self._request("POST", f"/jobs/{pid}/retry", done_before=NotRetryable)
        if answer.is_success:
            return _document(answer)
        job = self.job(pid)
        return {name: job[name] for name in ("pid", "status", "created_at", "links")} | {"message": RETRIED_BEFORE}

    def delete(self, pid: str) -> None:
        """Cancel the job if it is active, and forget it."""
        self._request("DELETE", f"/jobs/{pid}", done_before=NotFound)

    def latest(self, *, task: str | None = None, status: str | None = None) -> Job:
        """The newest job. Raises `NotFound` if there is none."""
        return self._json("GET", "/jobs/latest", params=_given(task=task, status=status))

    def jobs(self, *, page_size: int = 50, **filters: str | None) -> Iterator[Job]:
        """All jobs that fit *filters*, newest first, without params and result; pages are read as needed."""
        query = _given(limit=str(page_size), **filters)
        while True:
            page = self._json("GET", "/jobs", params=query)
            yield from page["jobs"]
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def queues(self) -> list[dict[str, Any]]:
        """What waits where: pools, queues of the services, dead letters."""
        queues: list[dict[str, Any]] = self._json("GET", "/queues")["queues"]
        return queues

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._request(method, path, **request).json()
        return answer

    def _request(
        self, method: str, path: str, *, done_before: type[ApiError] | None = None, **request: Any
    ) -> httpx.Response:
        """One answer that is no error; repeated while the service is away.

        The error *done_before* says to a repetition that the one before, whose answer was lost, did
        it: then it is the answer.
        """
        deadline, pause, repeated = time.monotonic() + self._retry_seconds, FIRST_PAUSE_SECONDS, False
        while True:
            wait = pause
            try:
                answer = self._http.request(method, self.base_url + path, **request)
            except httpx.TransportError as error:
                if time.monotonic() + wait > deadline:
                    raise Unreachable(f"no answer from {self.base_url}: {error}") from error
            else:
                if answer.is_success:
                    return answer
                failure = from_answer(answer.status_code, _document(answer))
                if repeated and done_before is not None and isinstance(failure, done_before):
                    return answer
                wait = _retry_after(answer, pause)
                if answer.status_code not in RETRIED or time.monotonic() + wait > deadline:
                    raise failure
            time.sleep(wait)
            pause, repeated = min(pause * 2, LAST_PAUSE_SECONDS), True


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(answer: httpx.Response, otherwise: float) -> float:
    """The seconds that the service asks for (RFC 9110, section 10.2.3, without its date form)."""
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else otherwise
