"""Real servers for every test: a private RabbitMQ, mongod and SMTP sink in a temporary folder.

One set serves the whole run. Each xdist worker has a vhost and a database of its own; a test that
wants them empty asks for `fresh_vhost` and `fresh_database`. A server that is missing is an error
of every test that needs it, never a skip.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import shared_servers
from ledger_bench import Bench
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri
from running_stack import MakeStack, RunningStack
from shared_servers import Servers

from local_stack.problems import StackProblem
from results_service.ledger.database import Database

START_SECONDS = 90.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Smtp:
    """An SMTP sink: where it listens, and the Maildir that keeps what arrived."""

    uri: str
    folder: Path

    def mails(self) -> list[Path]:
        """The files that have arrived, oldest first."""
        return sorted((self.folder / "new").glob("*"), key=lambda mail: mail.stat().st_mtime_ns)


def pytest_configure(config: pytest.Config) -> None:
    """The run's own process watches over the servers that its workers ask for.

    A background job of a shell ignores SIGINT, and so would every process that the tests start and interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ["COATCHECK_TEST_RUN"] = str(os.getpid())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files go to the workers in this order: what mostly waits first, then those with the most tests."""
    sizes = Counter(item.path for item in items)
    early = {item.path for item in items if item.get_closest_marker("begin_early")}
    items.sort(key=lambda item: (item.path not in early, -sizes[item.path], str(item.path)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The run is over: stop the servers and wait for them, so that nothing is left behind."""
    pid_file = _folder_of_run(config) / "servers.pid"
    if hasattr(config, "workerinput") or not pid_file.exists():
        return
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(int(pid_file.read_text()))
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        select.select([handle], [], [], STOP_SECONDS)


def _folder_of_run(config: pytest.Config) -> Path:
    """The temporary folder of the whole run, the same one for all its workers."""
    own: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # pytest offers no public way before the session
    return own.parent if hasattr(config, "workerinput") else own


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """The shared RabbitMQ, mongod and SMTP sink; the first who asks starts them."""
    base = _folder_of_run(request.config)
    folder = base / "servers"
    with (base / "servers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            started = shared_servers.launch(folder, int(os.environ["COATCHECK_TEST_RUN"]))
            (base / "servers.pid").write_text(str(started.pid))
        handle = os.pidfd_open(int((base / "servers.pid").read_text()))
        addresses = folder / shared_servers.ADDRESSES
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if addresses.exists() or select.select([handle], [], [], POLL_SECONDS)[0]:
                break
    if not addresses.exists():
        raise StackProblem(f"The servers for the tests did not start: {(folder / 'servers.log').read_text()}")
    found = json.loads(addresses.read_text())
    if "problem" in found:
        raise StackProblem(found["problem"])
    return Servers(**found)


@pytest.fixture(scope="session")
def rabbitmq(servers: Servers, worker_id: str) -> str:
    """AMQP URI of a vhost that belongs to this xdist worker."""
    return servers.make_vhost(f"tests-{worker_id}")


@pytest.fixture(scope="session")
def mongodb(servers: Servers, worker_id: str) -> str:
    """URI of the replica set; its default database belongs to this xdist worker."""
    return servers.mongodb_uri(f"tests_{worker_id}")


@pytest.fixture(scope="session")
def smtp_sink(servers: Servers) -> Smtp:
    """The SMTP sink of the run; tests tell their mails apart by recipient."""
    return Smtp(uri=servers.smtp, folder=Path(servers.mail))


@pytest.fixture
def fresh_vhost(servers: Servers) -> Iterator[str]:
    """AMQP URI of an empty vhost for one test."""
    name = f"test-{uuid.uuid4()}"
    yield servers.make_vhost(name)
    servers.drop_vhost(name)


@pytest.fixture
def fresh_database(servers: Servers) -> Iterator[str]:
    """MongoDB URI whose default database is empty, for one test."""
    uri = servers.mongodb_uri(f"test_{uuid.uuid4().hex}")
    yield uri
    with MongoClient[dict[str, object]](uri) as client:
        client.drop_database(client.get_default_database().name)


@pytest.fixture
def bench(fresh_database: str) -> Iterator[Bench]:
    """A ledger with its indexes in an empty database."""
    name = parse_uri(fresh_database)["database"]
    assert name
    database = Database(fresh_database, name, timeout_seconds=10)
    database.prepare()
    yield Bench(database)
    database.close()


@pytest.fixture(scope="session")
def stack(servers: Servers, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole stack on the shared servers, one per xdist worker. Tests leave it running; see `new_stack`."""
    environment = {
        "AMQP_URI": servers.make_vhost(f"stack-{worker_id}"),
        "MONGODB_URI": servers.mongodb_uri(f"stack_{worker_id}"),
        "DATABASE": f"stack_{worker_id}",
        "SMTP_URI": servers.smtp,
        "MAIL_ALLOW": "*",
        "HEARTBEAT": "2",
        "TASK_MODULES": "compute_service.tasks,bench.tasks",
        "SLOTS": "2",
    }
    running = RunningStack(tmp_path_factory.mktemp("stack") / "local", environment)
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """Makes stacks with servers of their own, for tests that break them; takes environment and port."""
    made: list[RunningStack] = []

    def make(name: str = "local", port: int | None = None, **environment: str) -> RunningStack:
        made.append(RunningStack(tmp_path / name, environment, port))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.end()
