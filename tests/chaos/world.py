"""The whole stack on private servers, with a proxy before each server, all of it marked and kept alive."""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient

from local_stack import ports, servers
from local_stack.keeper import Keeper
from local_stack.mongodb import MongoDB
from local_stack.ports import LOOPBACK
from local_stack.process import Process, Program, last_lines
from local_stack.rabbitmq import USER, RabbitMQ
from local_stack.state import StackState
from tests.chaos import processes
from tests.chaos.effects import FOLDER_VARIABLE, EffectLog
from tests.chaos.plan import LEASE_SECONDS, WORKERS
from tests.chaos.proxy import Proxy
from tests.chaos.tasks import MARK_VARIABLE

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
START_TRIES = 3
STOP_SECONDS = 25.0
POLL_SECONDS = 0.1
RESTART_SECONDS = 2.0
DATABASE = "coatcheck"
SETTINGS = {
    "DATABASE": DATABASE,
    "TASK_MODULES": "tests.chaos.tasks",
    "WORKERS": str(len(WORKERS)),
    "SLOTS": "3",
    "RESTART_SECONDS": str(RESTART_SECONDS),
    "LEASE_SECONDS": str(LEASE_SECONDS),
    # Long pauses would only prolong the wait for the end.
    "LAST_RETRY_SECONDS": "4",
    "CANCEL_GRACE_SECONDS": "2",
    "SMTP_TIMEOUT": "3",
    "SMTP_DATA_TIMEOUT": "5",
    "SMTP_PROBE_SECONDS": "3",
    "MAIL_LEASE_SECONDS": "16",
    "MAIL_BACKOFF_FIRST": "2",
    "MAIL_POLL_SECONDS": "5",
    "MAIL_ALLOW": "*",
    # The person's own shell has no say.
    "SMTP_URI": "",
    "PUBLIC_URL": "",
    "LISTEN_HOST": LOOPBACK,
}


class World:
    """Everything that is tormented. Lives on the event loop of the main thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.effects = EffectLog(folder / "effects")
        self.broker: RabbitMQ = servers.rabbitmq(folder / "rabbitmq")
        self.mongodb: MongoDB = servers.mongodb(folder / "mongodb")
        self.proxies = {"amqp": Proxy(self.broker.port), "mongodb": Proxy(self.mongodb.port)}
        self._logs = folder / "log"
        self._local = folder / "local"
        self._keepers: dict[str, Keeper] = {}
        self._stack: Process | None = None
        self.url = f"http://{LOOPBACK}:{ports.pick()}"

    async def start(self) -> None:
        """Come back when work can be submitted."""
        for name in ("effects", "log", "local"):
            (self.folder / name).mkdir(parents=True)
        os.environ[MARK_VARIABLE] = self.mark  # every process we start inherits it
        os.environ[FOLDER_VARIABLE] = str(self.folder / "effects")
        for server in (self.mongodb, self.broker):
            for program in server.programs:
                self._keep(program)
                if program.port is not None:
                    await self._until(partial(ports.is_open, program.port), program.name)
        for ready, name in ((self.mongodb.ready, "mongodb"), (self.broker.ready, "rabbitmq")):
            await self._until(ready, name)
        for proxy in self.proxies.values():
            await proxy.start()
        await self._start_stack()

    async def stop(self) -> None:
        """Stop everything in order; nothing of it is left."""
        if self._stack is not None:
            await asyncio.to_thread(self._stack.stop)
        for name in ("rabbitmq", "mongodb", "epmd"):
            if name in self._keepers:
                await self._keepers[name].stop()
        for proxy in self.proxies.values():
            await proxy.stop()

    def kill_marked(self) -> None:
        """End whatever still carries the mark, for a run that was broken off."""
        for found in processes.marked(self.mark):
            try:
                os.kill(found.process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    @property
    def state(self) -> StackState:
        """What the stack says of itself."""
        return StackState.read(self._local)

    @property
    def mails(self) -> Path:
        """The Maildir of the sink."""
        return self._local / "mail"

    def process(self, name: str) -> int | None:
        """The process id of one of the programs, if it runs at this moment."""
        if name in self._keepers:
            kept = self._keepers[name].process
            found = None if kept is None else kept.pid
        else:
            found = self.state.processes.get(name)
        return found if found is not None and processes.carries(found, self.mark) else None

    def database(self) -> MongoClient[dict[str, Any]]:
        """A client of the database that takes no detour through the proxy."""
        return MongoClient(self.mongodb.uri(DATABASE), tz_aware=True, serverSelectionTimeoutMS=5000)

    async def healthy(self) -> bool:
        """Whether the gateway says that everything is ready, and all services run."""
        if not all(self.process(name) for name in ("notifier", *WORKERS)):
            return False
        try:
            async with httpx.AsyncClient(timeout=3) as http:
                answer = await http.get(f"{self.url}/readyz")
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def _start_stack(self) -> None:
        for tries_left in reversed(range(START_TRIES)):
            self._stack = Process(self._program(), self._logs / "stack.log")
            try:
                await self._until(lambda: self.state.ready, "stack")
            except RuntimeError:  # its parts have a minute each, which a busy machine may need more of
                await asyncio.to_thread(self._stack.stop)
                if not tries_left:
                    raise
            else:
                return

    def _program(self) -> Program:
        amqp = f"amqp://{USER}:{self.broker.password}@{LOOPBACK}:{self.proxies['amqp'].port}/%2F"
        # Straight to the proxy: a client that knows the replica set would go around it.
        mongodb = f"mongodb://{LOOPBACK}:{self.proxies['mongodb'].port}/{DATABASE}?directConnection=true"
        environment = {
            **SETTINGS,
            "PYTHONPATH": str(ROOT),
            "LOCAL_DIR": str(self._local),
            "PORT": self.url.rpartition(":")[2],
            "AMQP_URI": amqp,
            "MONGODB_URI": mongodb,
        }
        command = (sys.executable, "-m", "local_stack")
        return Program(name="stack", command=command, environment=environment, stop_seconds=STOP_SECONDS)

    def _keep(self, program: Program) -> None:
        keeper = Keeper(
            program,
            self._logs,
            say=lambda _what: None,
            started=lambda: None,
            longest_pause_seconds=RESTART_SECONDS,
        )
        self._keepers[program.name] = keeper
        keeper.start()

    async def _until(self, condition: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(condition):
            log = self._logs / f"{name}.log"
            ended = self._stack is not None and self._stack.exit_code() is not None
            if ended or time.monotonic() > deadline:
                msg = f"{name} did not come up:\n{last_lines(log, 20)}"
                raise RuntimeError(msg)
            await asyncio.sleep(POLL_SECONDS)
