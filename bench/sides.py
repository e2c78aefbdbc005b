"""The two sides, each on its own private RabbitMQ and mongod of the same version and with the same flags."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.progress import Progress
from bench.wire import Connection, Refused
from contracts.settings import load
from gateway.settings import GatewaySettings
from local_stack import ports, servers
from local_stack.problems import StackProblem
from local_stack.process import Process, Program, how_it_ended, last_lines
from local_stack.state import StackState

START_SECONDS = 90.0
POLL_SECONDS = 0.1
LAST_LINES = 20
OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """How the load generator speaks to a side."""

    host: str
    port: int
    jobs_path: str
    succeeded: str
    ended: tuple[str, ...]


class Side(Protocol):
    """A pipeline that takes jobs over HTTP."""

    name: str
    settings: dict[str, Any]
    """What a reader must know to judge the numbers."""

    def start(self, folder: Path, progress: Progress) -> Target:
        """Start everything on fresh data below *folder*; comes back when a job could be submitted."""

    def stop(self) -> None:
        """End everything at once; harmless when nothing runs."""


class Coatcheck:
    """The whole stack, as `make run` starts it."""

    name = "coatcheck"

    def __init__(self, slots: int, environment: dict[str, str] | None = None) -> None:
        self._environment = {"SLOTS": str(slots), **(environment or {})}
        self.settings: dict[str, Any] = {"environment": dict(self._environment)}
        self._stack: Process | None = None
        self.logs = Path()

    def start(self, folder: Path, progress: Progress) -> Target:
        """Start the local stack as a user would, on a free port."""
        port = ports.pick()
        self.logs = folder / "log"
        folder.mkdir(parents=True)
        program = Program(
            name="local_stack",
            command=(sys.executable, "-m", "local_stack"),
            environment={**self._environment, "PORT": str(port), "LOCAL_DIR": str(folder)},
        )
        self._stack = Process(program, folder / "local_stack.out")
        target = Target(
            host=ports.LOOPBACK,
            port=port,
            jobs_path="/api/v1/jobs",
            succeeded="succeeded",
            ended=("succeeded", "failed", "cancelled"),
        )
        _await((self._stack,), lambda: StackState.read(folder).ready, "the stack starts", progress)
        return target

    def stop(self) -> None:
        """Kill it: its data is thrown away."""
        if self._stack is not None:
            self._stack.bury(self._stack.family())
            self._stack = None


class Pipeline:
    """The peer: Flask-RESTX, Celery, RabbitMQ, MongoDB."""

    name = "celery"

    def __init__(self, slots: int) -> None:
        self._slots = slots
        gateway = load(GatewaySettings)  # the front gets what the gateway gets
        self._workers = gateway.gateway_processes
        self._threads = gateway.gateway_threads
        self.settings: dict[str, Any] = {
            "concurrency": slots,
            "prefetch_multiplier": 1,
            "front_processes": self._workers,
            "front_threads": self._threads,
            "acks_late": True,
            "track_started": True,
            "confirm_publish": True,
            "result_backend": "mongodb, w=majority, journal=true",
        }
        self._running = contextlib.ExitStack()

    def start(self, folder: Path, progress: Progress) -> Target:
        """Start servers, worker and front."""
        logs = folder / "log"
        logs.mkdir(parents=True)
        broker, database = servers.rabbitmq(folder / "rabbitmq"), servers.mongodb(folder / "mongodb")
        progress.say("RabbitMQ and MongoDB start")
        running = [servers.Running(server, logs) for server in (broker, database)]
        for server in running:
            self._running.callback(server.kill)
            server.start()
        for server in running:
            server.wait_ready()
        environment = {
            "BENCH_AMQP_URI": broker.uri(),
            "BENCH_MONGODB_URI": database.uri("pipeline") + "&w=majority&journal=true",
        }
        port = ports.pick()
        programs = (self._worker(environment), self._front(environment, port))
        processes = []
        for program in programs:
            process = Process(program, logs / f"{program.name}.log")
            processes.append(process)
            self._running.callback(lambda one=process: one.bury(one.family()))  # type: ignore[misc]
        target = Target(
            host=ports.LOOPBACK, port=port, jobs_path="/jobs", succeeded="SUCCESS", ended=("SUCCESS", "FAILURE")
        )
        _await(tuple(processes), lambda: _answers(target, "/jobs/none"), "front and worker start", progress)
        return target

    def stop(self) -> None:
        """Kill it: its data is thrown away."""
        self._running.close()

    def _worker(self, environment: dict[str, str]) -> Program:
        command = (
            *(sys.executable, "-m", "celery", "--app", "bench.peer.tasks", "worker", "--pool", "prefork"),
            *("--concurrency", str(self._slots), "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        )
        return Program(name="celery", command=command, environment=environment)

    def _front(self, environment: dict[str, str], port: int) -> Program:
        command = (
            *(sys.executable, "-m", "gunicorn", "bench.peer.front:application"),
            *("--bind", f"{ports.LOOPBACK}:{port}", "--worker-class", "gthread"),
            *("--workers", str(self._workers), "--threads", str(self._threads), "--keep-alive", "30"),
        )
        return Program(name="gunicorn", command=command, environment=environment)


def _answers(target: Target, path: str) -> bool:
    """Whether *path* is answered with 200 at this moment."""
    with Connection(target.host, target.port) as connection:
        try:
            return connection.request("GET", path)[0] == OK
        except (OSError, EOFError, Refused):
            return False


def _await(processes: tuple[Process, ...], ready: Callable[[], bool], what: str, progress: Progress) -> None:
    """Wait for *ready*. Raises `StackProblem` if a process ends or time is up."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        for process in processes:
            if (code := process.exit_code()) is not None:
                words = last_lines(process.log, LAST_LINES)
                raise StackProblem(f"{process.program.name} {how_it_ended(code)}:\n{words}")
        if time.monotonic() > deadline:
            raise StackProblem(f"Waited {START_SECONDS:g} s: {what}; see the logs.")
        progress.say(what)
        time.sleep(POLL_SECONDS)
