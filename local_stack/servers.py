"""The three private servers as one thing to start, wait for and stop."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from local_stack import ports
from local_stack.mongodb import MongoDB
from local_stack.problems import StackProblem
from local_stack.process import Process, Program, how_it_ended, last_lines
from local_stack.rabbitmq import RabbitMQ
from local_stack.smtp_sink import SmtpSink

START_SECONDS = 60.0
POLL_SECONDS = 0.1


class Server(Protocol):
    """A private server: programs to start in order, and a question whether clients can come."""

    title: str

    @property
    def programs(self) -> Sequence[Program]:
        """What to run; each needs the one before it."""

    def uri(self) -> str:
        """Where it listens."""

    def ready(self) -> bool:
        """Whether a client is served now. Blocks for seconds at most."""


class Running:
    """A server that runs; for tests and benchmarks. The stack itself supervises programs one by one."""

    def __init__(self, server: Server, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.server = server
        self.logs = logs
        self.processes: list[Process] = []

    def start(self) -> None:
        """Start the programs; the server is not ready yet."""
        for program in self.server.programs:
            if self.processes and (port := self.processes[-1].program.port) is not None:
                self._wait(partial(ports.is_open, port), START_SECONDS)
            self.processes.append(Process(program, self.logs / f"{program.name}.log"))

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Come back when a client would be served. Raises `StackProblem` with the end of the log."""
        self._wait(self.server.ready, seconds)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for process in self.processes:
                if (code := process.exit_code()) is not None:
                    raise StackProblem(f"{process.program.name} {how_it_ended(code)}:\n{last_lines(process.log)}")
            if time.monotonic() > deadline:
                raise StackProblem(f"{self.server.title} was not ready within {seconds:.0f} s: see {self.logs}.")
            self.processes[-1].wait(POLL_SECONDS)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        for process in reversed(self.processes):
            process.bury(process.family())
        self.processes.clear()

    def stop(self) -> None:
        """Stop it, last program first."""
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()


def rabbitmq(folder: Path, *, management: bool = False) -> RabbitMQ:
    """A private RabbitMQ on free ports."""
    taken = [ports.pick() for _ in range(4)]
    return RabbitMQ(
        folder,
        port=taken[0],
        epmd_port=taken[1],
        dist_port=taken[2],
        management_port=taken[3] if management else None,
    )


def mongodb(folder: Path) -> MongoDB:
    """A private mongod on a free port."""
    return MongoDB(folder, port=ports.pick())


def smtp_sink(folder: Path) -> SmtpSink:
    """An SMTP sink on a free port."""
    return SmtpSink(folder, port=ports.pick())


@contextlib.contextmanager
def running(*servers: Server, logs: Path) -> Iterator[list[Running]]:
    """Start *servers* side by side, wait until all are ready, and kill them in the end."""
    started: list[Running] = []
    try:
        for server in servers:
            started.append(Running(server, logs))
            started[-1].start()
        for one in started:
            one.wait_ready()
        yield started
    finally:
        for one in started:
            one.kill()
