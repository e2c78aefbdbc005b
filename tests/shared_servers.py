"""Real servers for a whole pytest run, shared by its xdist workers; started by the first test that asks.

`python tests/shared_servers.py FOLDER PID` serves until process PID, the run's own, is gone. The
addresses are in FOLDER/addresses.json as soon as the servers are ready; an error is there instead.
"""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from local_stack import servers
from local_stack.ports import LOOPBACK
from local_stack.problems import StackProblem
from local_stack.rabbitmq import USER

ADDRESSES = "addresses.json"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The shared set."""

    rabbitmq: str
    management: str
    password: str
    mongodb: str
    smtp: str
    mail: str

    def amqp_uri(self, vhost: str) -> str:
        """The broker, in *vhost*."""
        return f"amqp://{USER}:{self.password}@{self.rabbitmq}/{quote(vhost, safe='')}"

    def mongodb_uri(self, database: str) -> str:
        """The replica set, with *database* as the default one."""
        return f"mongodb://{self.mongodb}/{database}?replicaSet=rs0"

    def manage(self) -> httpx.Client:
        """RabbitMQ's management API, as administrator."""
        return httpx.Client(base_url=f"http://{self.management}/api", auth=(USER, self.password), timeout=10)

    def make_vhost(self, name: str) -> str:
        """A new vhost; answers its URI."""
        with self.manage() as api:
            api.put(f"/vhosts/{name}").raise_for_status()
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            api.put(f"/permissions/{name}/{USER}", json=everything).raise_for_status()
        return self.amqp_uri(name)

    def drop_vhost(self, name: str) -> None:
        """Delete a vhost and close what is connected to it."""
        with self.manage() as api:
            api.delete(f"/vhosts/{name}")


def launch(folder: Path, run_pid: int) -> subprocess.Popen[bytes]:
    """Start this module as a process that outlives the xdist worker that asked for it."""
    folder.mkdir(parents=True)
    with (folder / "servers.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, __file__, str(folder), str(run_pid)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )


def publish(folder: Path, content: dict[str, str]) -> None:
    """Write the addresses in one step, so that nobody reads half of them."""
    draft = folder / f"{ADDRESSES}.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content))
    draft.rename(folder / ADDRESSES)


def main() -> None:
    """Serve until the run is over, or SIGTERM."""
    folder, run_pid = Path(sys.argv[1]), int(sys.argv[2])
    run = os.pidfd_open(run_pid)
    told, tell = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(tell, b"x"))
    rabbitmq = servers.rabbitmq(folder / "rabbitmq", management=True)
    mongodb = servers.mongodb(folder / "mongodb")
    sink = servers.smtp_sink(folder / "mail")
    try:
        with servers.running(mongodb, rabbitmq, sink, logs=folder / "log"):
            addresses = {
                "rabbitmq": f"{LOOPBACK}:{rabbitmq.port}",
                "management": f"{LOOPBACK}:{rabbitmq.management_port}",
                "password": rabbitmq.password,
                "mongodb": f"{LOOPBACK}:{mongodb.port}",
                "smtp": sink.uri(),
                "mail": str(sink.folder),
            }
            publish(folder, addresses)
            select.select([run, told], [], [])
    except StackProblem as problem:
        publish(folder, {"problem": str(problem)})


if __name__ == "__main__":
    main()
