"""The whole stack: private servers first, then the services; stopped in the opposite order."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from local_stack import mongodb, ports, rabbitmq, smtp_sink
from local_stack.keeper import Keeper
from local_stack.problems import StackProblem
from local_stack.process import KEPT_LOG_BYTES, Program, rotate
from local_stack.screen import Screen
from local_stack.servers import Server
from local_stack.services import QUICK_STOP, ROOT, services, workers
from local_stack.settings import StackSettings
from local_stack.state import StackState

START_SECONDS = 60.0
"""How long one part may take to come up."""
START_DEATHS = 3
"""A part that ends by itself so often while it comes up is given up."""
POLL_SECONDS = 0.2
HTTP_SECONDS = 3.0
AMQP_PORT = 5672
HOUSEKEEPING_SECONDS = 30.0


class Stack:
    """Everything that `make run` runs."""

    def __init__(self, settings: StackSettings, screen: Screen) -> None:
        self.settings = settings
        self.url = f"http://{ports.LOOPBACK}:{settings.port}"
        self.logs = settings.local_dir / "log"
        self.state = StackState(url=self.url, supervisor=os.getpid())
        self._screen = screen
        self._keepers: dict[str, Keeper] = {}
        self._http = httpx.Client(base_url=self.url, timeout=HTTP_SECONDS)
        self._compute = workers(settings.workers)

    async def start(self) -> None:
        """Start everything, and come back when work can be submitted. Raises `StackProblem`."""
        self._prepare()
        await self._check_given()
        servers = self._private_servers()
        gateway, *others = services(self._environment(), compute=self.settings.workers)
        # The gateway bears a broker that is not there yet, so it gets its start over with meanwhile.
        await _together(*map(self._start_server, servers), self._start_gateway(gateway))
        await _together(*map(self._start_service, others))
        self._http.close()
        self.state.ready = True
        self.state.write(self.settings.local_dir)

    async def stop(self) -> None:
        """Stop everything in order, within 15 s, and leave no process behind."""
        self.state.ready = False
        self.state.write(self.settings.local_dir)
        # Who needs another one stops before it; what is in one bracket stops side by side.
        order = (("gateway",), (*self._compute, "notifier"), ("results",), ("smtp", "rabbitmq", "mongodb"), ("epmd",))
        for names in order:
            await asyncio.gather(*(self._stop(self._keepers[name]) for name in names if name in self._keepers))

    def kill(self) -> None:
        """End everything at once; blocks until that is done."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def keep_house(self) -> None:
        """Keep the logs from growing without end; runs until it is cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            for keeper in self._keepers.values():
                rotate(keeper.log, KEPT_LOG_BYTES)

    def _prepare(self) -> None:
        if not ports.is_free(self.settings.port):
            raise StackProblem(
                f"Port {self.settings.port} is taken{_by_whom(self.settings.port)}: "
                "stop what listens there, or choose another port: make run PORT=8001"
            )
        self.logs.mkdir(parents=True, exist_ok=True)
        for log in self.logs.glob("*.log"):
            rotate(log)

    async def _check_given(self) -> None:
        """A server that was named but does not work is said at once, not found out later."""
        given = (
            ("AMQP_URI", "RabbitMQ", self.settings.amqp_uri, rabbitmq.fault),
            ("MONGODB_URI", "MongoDB", self.settings.mongodb_uri, mongodb.fault),
            ("SMTP_URI", "The mail server", self.settings.smtp_uri, smtp_sink.fault),
        )
        for variable, title, uri, fault in given:
            if uri is not None and (what := await asyncio.to_thread(fault, uri.get_secret_value())):
                raise StackProblem(
                    f"{title} at {_without_password(uri.get_secret_value())} {what}: "
                    f"put that right, or unset {variable} to get a private server."
                )

    def _private_servers(self) -> list[Server]:
        """Those that were not given by their URI, on the ports that they had last time if these are free."""
        settings, folder, state = self.settings, self.settings.local_dir, self.state
        before = StackState.read(folder).ports

        def port(name: str) -> int:
            state.ports[name] = ports.pick(before.get(name), but_not=settings.port)
            return state.ports[name]

        servers: list[Server] = []
        if settings.mongodb_uri is None:
            mongo = mongodb.MongoDB(folder / "mongodb", port=port("mongodb"))
            servers.append(mongo)
        if settings.amqp_uri is None:
            broker = rabbitmq.RabbitMQ(
                folder / "rabbitmq", port=port("rabbitmq"), epmd_port=port("epmd"), dist_port=port("distribution")
            )
            servers.append(broker)
        if settings.smtp_uri is None:
            sink = smtp_sink.SmtpSink(folder / "mail", port=port("smtp"))
            servers.append(sink)
            state.mail = str(sink.folder)
        state.mongodb_uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else mongo.uri()
        state.amqp_uri = settings.amqp_uri.get_secret_value() if settings.amqp_uri else broker.uri()
        state.smtp_uri = settings.smtp_uri.get_secret_value() if settings.smtp_uri else sink.uri()
        return servers

    def _environment(self) -> dict[str, str]:
        """What the services are told; the person's own environment goes before our defaults."""
        defaults = {"PUBLIC_URL": self.url, "LOG_FORMAT": "console", **QUICK_STOP}
        if self.settings.smtp_uri is None:  # the sink keeps everything; a real server would send it
            defaults["MAIL_ALLOW"] = "*"
        return {
            **{name: os.environ.get(name) or value for name, value in defaults.items()},
            "AMQP_URI": self.state.amqp_uri,
            "MONGODB_URI": self.state.mongodb_uri,
            "SMTP_URI": self.state.smtp_uri,
            "PORT": str(self.settings.port),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
        }

    async def _start_server(self, server: Server) -> None:
        async with self._screen.step(server.title) as step:
            for program in server.programs:
                keeper = self._start(program)
                if program.port is not None:
                    await self._until(partial(ports.is_open, program.port), keeper)
            await self._until(server.ready, keeper)
            step.detail = _without_password(server.uri())

    async def _start_gateway(self, program: Program) -> None:
        async with self._screen.step("Gateway"):
            await self._until(partial(self._answers, "/healthz"), self._start(program))

    async def _start_service(self, program: Program) -> None:
        keeper = self._start(program)
        titles: dict[str, tuple[str, Callable[[], bool]]] = {
            "results": ("Results service", partial(self._answers, "/readyz")),
            "notifier": ("Notifier", partial(_connected, keeper, urlsplit(self.state.amqp_uri).port or AMQP_PORT)),
            **{name: (name.replace("compute", "Compute service"), self._serving) for name in self._compute},
        }
        title, condition = titles[program.name]
        async with self._screen.step(title):
            await self._until(condition, keeper)

    def _start(self, program: Program) -> Keeper:
        keeper = Keeper(
            program,
            self.logs,
            say=self._screen.warn,
            started=self._record,
            longest_pause_seconds=self.settings.restart_seconds,
        )
        self._keepers[program.name] = keeper
        keeper.start()
        return keeper

    def _record(self) -> None:
        """Write down which processes there are now."""
        running = {name: keeper.process for name, keeper in self._keepers.items()}
        self.state.processes = {name: process.pid for name, process in running.items() if process is not None}
        self.state.write(self.settings.local_dir)

    def _answers(self, path: str) -> bool:
        try:
            return self._http.get(path).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _serving(self) -> bool:
        """Whether a live worker serves tasks; a worker announces all of its tasks at once."""
        try:
            answer = self._http.get("/api/v1/tasks")
            return answer.status_code == httpx.codes.OK and any(task["serving"] for task in answer.json()["tasks"])
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    async def _stop(self, keeper: Keeper) -> None:
        async with self._screen.step(f"stopping {keeper.program.name}"):
            await keeper.stop()

    async def _until(self, condition: Callable[[], bool], keeper: Keeper) -> None:
        """Wait for *condition*, which blocks for seconds at most, while *keeper* brings its program up."""
        name, deadline = keeper.program.name, time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(condition):
            if keeper.deaths >= START_DEATHS:
                raise StackProblem(
                    f"{name} ends again and again while it starts; its last words, from {keeper.log}:\n"
                    f"{keeper.last_words()}"
                )
            if time.monotonic() > deadline:
                raise StackProblem(f"{name} was not ready within {START_SECONDS:.0f} s: look into {keeper.log}")
            await asyncio.sleep(POLL_SECONDS)


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run *parts* side by side; the first problem ends all of them."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except* StackProblem as problems:
        raise problems.exceptions[0] from None


def _connected(keeper: Keeper, port: int) -> bool:
    """Whether the program has a connection to the broker's port."""
    try:
        connections = psutil.Process(keeper.process.pid).net_connections("tcp") if keeper.process else []
    except psutil.Error:
        return False
    return any(one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in connections)


def _by_whom(port: int) -> str:
    """Which process listens there, as far as we may see that."""
    with contextlib.suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f" by {psutil.Process(one.pid).name()} (process {one.pid})"
    return ""


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
