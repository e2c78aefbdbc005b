"""A child process as its parent holds it."""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from compute_service import procfs
from compute_service.frames import BrokenFrameError, FrameSocket
from compute_service.groups import ProcessGroups, ended
from contracts.catalogue import TaskDescriptor
from contracts.logs import logger

log = logger(__name__)

SECRETS = frozenset({"AMQP_URI", "MONGODB_URI", "SMTP_URI", "RABBITMQ_DEFAULT_PASS", "MONGO_INITDB_ROOT_PASSWORD"})
"""Variables of services that no task may see."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A slot is one processor: libraries that would start a thread per processor do so only if told."""
REAP_SECONDS = 10.0
DRAIN_SECONDS = 1.0


class ChildFailedError(Exception):
    """A child did not become ready; says why."""


class Child:
    """One process that runs jobs one after the other."""

    def __init__(self, groups: ProcessGroups, environ: Mapping[str, str]) -> None:
        self._groups = groups
        ours, theirs = socket.socketpair()
        try:
            self._process = groups.spawn(
                [sys.executable, "-m", "compute_service.child", str(theirs.fileno())],
                pass_fd=theirs.fileno(),
                environ=child_environment(environ),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._pipe = FrameSocket(ours)
        self.process_id = self._process.pid
        self.jobs = 0
        """Jobs that it was given."""
        self.cpu_total_seconds = 0.0
        """What it had used when its last job ended."""

    def wait_ready(self, timeout: float) -> list[TaskDescriptor]:
        """The tasks it can run; raises `ChildFailedError` if it is not ready in *timeout* seconds."""
        deadline = time.monotonic() + timeout
        try:
            hello = self._pipe.receive(max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            msg = f"the child was not ready after {timeout:g} s"
            raise ChildFailedError(msg) from None
        except (EOFError, OSError, BrokenFrameError) as error:
            msg = f"the child ended before it was ready ({type(error).__name__})"
            raise ChildFailedError(msg) from None
        if "ready" not in hello:
            raise ChildFailedError(str(hello.get("failed")))
        return [TaskDescriptor.model_validate(task) for task in hello["ready"]]

    def order(self, message: dict[str, Any]) -> None:
        """Send a job; raises `OSError` if the process is gone, which then never saw it."""
        if ended(self.process_id):
            raise ConnectionResetError
        self._pipe.send(message)
        self.jobs += 1

    def receive(self, timeout: float) -> dict[str, Any]:
        """See `FrameSocket.receive`."""
        return self._pipe.receive(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its group."""
        if self._process.returncode is None and not ended(self.process_id):
            os.kill(self.process_id, number)

    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return not ended(self.process_id)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the process itself, at most *seconds*."""
        return self._groups.ends_within(self._process, seconds)

    def resident_bytes(self) -> int:
        """Resident memory of the process and everything below it."""
        return procfs.resident_bytes([self.process_id, *procfs.descendants(self.process_id)])

    def kill(self) -> None:
        """SIGKILL to the process, its group and everything below; returns at once."""
        if self._process.returncode is None:
            self._groups.kill(self.process_id)

    def end(self) -> tuple[list[dict[str, Any]], resource.struct_rusage | None]:
        """Kill whatever still runs, reap, read the pipe to its end.

        Returns the frames that were still in the pipe, and what the process used in its life.
        """
        self.kill()
        usage = self._groups.reap(self._process, REAP_SECONDS)
        if usage is None:
            log.error("A killed child does not end.", action="child_stuck", child=self.process_id)
        self._groups.end_orphans()  # before the pipe is read: one of them may hold its other end
        frames: list[dict[str, Any]] = []
        deadline = time.monotonic() + DRAIN_SECONDS
        try:
            while (left := deadline - time.monotonic()) > 0:
                frames.append(self._pipe.receive(left))
        except (EOFError, OSError, BrokenFrameError):
            pass  # TimeoutError is an OSError: somebody out of reach still holds the other end
        self._pipe.close()
        return frames, usage

    @property
    def exit_code(self) -> int | None:
        """After `end`: the exit code, negative for a signal."""
        return self._process.returncode


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* without the services' secrets, with one thread per library."""
    return ONE_THREAD | {name: value for name, value in environ.items() if name not in SECRETS}
