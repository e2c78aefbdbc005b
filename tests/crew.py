"""Any number of each service, every one a process of its own that a test may signal and kill."""

import itertools
import os
import select
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from shared_servers import Servers

from local_stack import ports, services
from local_stack.process import Process, Program

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02
BUSY_TRIES = 20


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll *condition* until it is true; answers what it said."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        select.select([], [], [], POLL_SECONDS)
    return found


class Member:
    """One running service."""

    def __init__(self, program: Program, log: Path) -> None:
        self.process = Process(program, log)
        self.log = log
        self._seen: set[psutil.Process] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def below(self) -> set[psutil.Process]:
        """Every process that it has had below it; those of moments at which nobody looked are missing."""
        if self.process.exit_code() is None:
            self._seen |= set(self.process.family())
        return self._seen

    def children(self) -> list[psutil.Process]:
        """The processes in which its slots run tasks."""
        found = []
        for child in psutil.Process(self.pid).children():
            try:
                if "compute_service.child" in child.cmdline():
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def survivors(self) -> list[psutil.Process]:
        """Those that `below` saw and that still run."""
        return [one for one in self._seen if runs(one)]

    def end(self) -> None:
        """Kill it; the guardian of a worker ends what is below."""
        self.below()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        eventually(lambda: not self.survivors(), f"the end of everything below {self.log.stem}")


def runs(process: psutil.Process) -> bool:
    """Whether it still does anything; what nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hoppers(pid: str) -> list[psutil.Process]:
    """Processes of the task `hop_about` in job *pid*, wherever they have gone."""
    return [
        one
        for one in psutil.process_iter(["cmdline"])
        if f"# hop_about {pid}" in str(one.info["cmdline"]) and runs(one)
    ]


class Crew:
    """The services of one test module, with a vhost and a database of their own."""

    def __init__(self, servers: Servers, folder: Path, **environment: str) -> None:
        name = f"crew-{uuid.uuid4().hex[:12]}"
        self.servers = servers
        self.vhost = name
        self.folder = folder
        self.port = ports.pick()
        self.environment = {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "promises"))),
            "AMQP_URI": servers.make_vhost(name),
            "MONGODB_URI": servers.mongodb_uri(name),
            "DATABASE": name,
            "SMTP_URI": servers.smtp,
            "MAIL_ALLOW": "*",
            "PORT": str(self.port),
            "TASK_MODULES": "worker_tasks",
            "SLOTS": "2",
            "HEARTBEAT": "5",
            **environment,
        }
        self.members: list[Member] = []
        self._numbers = itertools.count(1)
        self.http = httpx.Client(base_url=f"http://{ports.LOOPBACK}:{self.port}/api/v1", timeout=10)

    def start(self, *names: str, **environment: str) -> list[Member]:
        """Start these services: gateway, results, notifier, compute. Does not wait for them."""
        programs = {program.name: program for program in services.services(self.environment | environment)}
        started = [Member(programs[name], self.folder / f"{name}-{next(self._numbers)}.log") for name in names]
        self.members += started
        return started

    def ready(self, workers: int = 1) -> None:
        """Wait until the counter is open and that many workers serve."""

        def there() -> bool:
            try:
                tasks = self.http.get("/tasks").json()["tasks"]
            except (httpx.HTTPError, KeyError, ValueError):
                return False
            return any(task["name"] == "noop" and task["serving"] for task in tasks)

        eventually(there, f"a gateway that knows the tasks (see {self.folder})")
        eventually(lambda: self.log_count("worker_started") >= workers, f"{workers} workers (see {self.folder})")

    def log_count(self, action: str) -> int:
        """How many log lines of all services name *action*."""
        return sum(member.log.read_text(errors="replace").count(action) for member in self.members)

    def submit(self, task: str, params: dict[str, Any] | None = None, **options: Any) -> str:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"task": task, "params": params or {}, **options}
        answer = self._patiently(lambda: self.http.post("/jobs", json=body, headers=key))
        assert answer.status_code == 202, answer.text
        pid: str = answer.json()["pid"]
        return pid

    def job(self, pid: str) -> dict[str, Any]:
        answer = self._patiently(lambda: self.http.get(f"/jobs/{pid}"))
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait(self, pid: str, *statuses: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The job as soon as it is in one of *statuses* (default: ended)."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        job: dict[str, Any] = {}

        def there() -> bool:
            job.update(self.job(pid))
            return job["status"] in wanted

        eventually(there, f"{pid} {'/'.join(wanted)}", seconds)
        return job

    def started(self, pid: str) -> dict[str, Any]:
        """The job as soon as its task has reported progress."""
        eventually(lambda: (self.job(pid)["progress"] or {}).get("message"), f"{pid} at work")
        return self.job(pid)

    def cancel(self, pid: str) -> httpx.Response:
        return self._patiently(lambda: self.http.post(f"/jobs/{pid}/cancel"))

    def _patiently(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask again while the answer is 503, as it may be on a machine that has much else to do."""
        for _ in range(BUSY_TRIES):
            if (answer := ask()).status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
        return answer

    def end(self) -> None:
        """Kill everything, workers first, and forget the vhost."""
        self.http.close()
        for member in sorted(self.members, key=lambda member: "compute" not in member.log.stem):
            member.end()
        self.servers.drop_vhost(self.vhost)


@contextmanager
def crew(servers: Servers, folder: Path, *names: str, **environment: str) -> Iterator[Crew]:
    """A crew of these services, ready to work."""
    one = Crew(servers, folder, **environment)
    try:
        one.start(*names)
        one.ready(workers=names.count("compute"))
        yield one
    finally:
        one.end()
