"""What the tests of the promises do to a running stack, and how they wait for what follows."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect
from running_stack import RunningStack

PATIENCE_SECONDS = 90.0
TERMINAL = {"succeeded", "failed", "cancelled"}


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll *condition* until it is true, and answer it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        select.select([], [], [], 0.05)
    return found


def serves(stack: RunningStack) -> bool:
    """Whether it is ready and a worker serves."""
    try:
        if httpx.get(f"{stack.url}/readyz", timeout=5).status_code != httpx.codes.OK:
            return False
        return any(task["serving"] for task in httpx.get(f"{stack.api}/tasks", timeout=5).json()["tasks"])
    except (httpx.HTTPError, KeyError):
        return False


def kill(stack: RunningStack, name: str) -> None:
    """Kill -9 of one program, as soon as it is there; the stack starts it again."""

    def struck() -> bool:
        try:
            os.kill(stack.pid(name), signal.SIGKILL)
        except ProcessLookupError:  # the stack has not started it again since the last time
            return False
        return True

    eventually(struck, f"{name} runs")


@contextlib.contextmanager
def frozen(process_id: int) -> Iterator[None]:
    """A process stands still for the length of a block: its connections stay open and answer nothing."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@contextlib.contextmanager
def away(stack: RunningStack, name: str) -> Iterator[None]:
    """A program is killed, and is started again only after the block: the stack's supervisor stands still."""
    with frozen(stack.running.pid):
        kill(stack, name)
        yield


class Api:
    """The API of a stack that may be away for a while."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def submit(self, task: str, params: dict[str, Any], **options: Any) -> str:
        """The pid of a new job."""
        answer = self.http.post("/jobs", json={"task": task, "params": params, **options})
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        pid: str = answer.json()["pid"]
        return pid

    def job(self, pid: str) -> dict[str, Any]:
        """The job; empty while the API cannot say."""
        answer = self.http.get(f"/jobs/{pid}")
        assert answer.status_code in {httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE}, answer.text
        job: dict[str, Any] = answer.json() if answer.status_code == httpx.codes.OK else {}
        return job

    def ended(self, pid: str) -> dict[str, Any]:
        """The job, once it has ended."""
        job: dict[str, Any] = {}

        def there() -> bool:
            job.update(self.job(pid))
            return job.get("status") in TERMINAL

        eventually(there, f"the end of {pid}")
        return job


@contextlib.contextmanager
def jobs_of(stack: RunningStack, database: str = "coatcheck") -> Iterator[Collection[dict[str, Any]]]:
    """The ledger's documents, as MongoDB has them."""
    with MongoClient[dict[str, Any]](stack.state.mongodb_uri) as client:
        yield client[database]["jobs"]


def step_down(stack: RunningStack, seconds: int) -> None:
    """Have the primary step down for *seconds*; as the only member it is elected again afterwards."""
    order = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 1, "force": True}
    port = stack.state.ports["mongodb"]
    with (
        MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client,
        contextlib.suppress(AutoReconnect),
    ):
        client.admin.command(order)
