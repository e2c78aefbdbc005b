"""The whole stack as a process, the way `make run` starts it, for the system tests."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import psutil

from local_stack import ports
from local_stack.state import StackState

ROOT = Path(__file__).parents[1]
START_SECONDS = 150.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1
OWN_VARIABLES = (
    "AMQP_URI",
    "MONGODB_URI",
    "SMTP_URI",
    "PUBLIC_URL",
    "DATABASE",
    "MAIL_ALLOW",
    "HEARTBEAT",
    "LISTEN_HOST",
)
"""Not inherited from the person's shell."""


class RunningStack:
    """One `python -m local_stack` with its folder and port."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or ports.pick()
        self.url = f"http://{ports.LOOPBACK}:{self.port}"
        self.api = f"{self.url}/api/v1"
        self.output = folder.with_name(f"{folder.name}-output.txt")
        kept = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
        self.environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "LOCAL_DIR": str(folder),
            "PORT": str(self.port),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> StackState:
        """What the stack says of itself: URIs, process ids, ports, mail folder."""
        return StackState.read(self.folder)

    def pid(self, name: str) -> int:
        """Process id of one of its programs: gateway, compute, results, notifier, rabbitmq, mongodb, smtp, epmd."""
        return self.state.processes[name]

    def launch(self) -> None:
        """Start it without waiting."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local_stack"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def start(self) -> None:
        """Start it and come back when it is ready."""
        self.launch()
        self.wait_for(lambda: self.state.ready and self.state.supervisor == self.running.pid, START_SECONDS, "ready")

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        """The supervisor."""
        assert self.process is not None, "the stack was not launched"
        return self.process

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll *condition*; fails with the output of the stack."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.running.poll() is None, f"the stack ended with {self.running.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"not {what} within {seconds:g} s:\n{self.text()}"
            select.select([], [], [], POLL_SECONDS)

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.running.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def stop(self, sign: signal.Signals = signal.SIGINT, seconds: float = STOP_SECONDS) -> int:
        """Ask it to stop; answers its exit code. Fails if it takes longer than promised."""
        self.running.send_signal(sign)
        return self.running.wait(seconds)

    def end(self) -> None:
        """Leave nothing behind, whatever the test has done."""
        if self.process is None:
            return
        family = self.family() if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for left in family:
            if left.is_running():
                left.kill()

    def client(self) -> httpx.Client:
        """An HTTP client of its API."""
        return httpx.Client(base_url=self.api, timeout=10)


MakeStack = Callable[..., RunningStack]
"""The fixture `new_stack`."""


def survivors(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of *family* that still run after *seconds*."""
    _gone, alive = psutil.wait_procs(family, timeout=seconds)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
