"""The child process: plain CPython, warm, one job at a time. ``python -m compute_service.child FD``.

Frames, one JSON object each: it says ``{"ready": [descriptors]}`` or ``{"failed": sentence}``; then
gets one job after the other and answers with any number of ``{"progress": …}`` and one report.
When the parent's end of the pipe closes, the child ends.
"""

import ctypes
import os
import socket
import sys
from typing import Any

from compute_service import registry
from compute_service.exceptions import TaskDefinitionError
from compute_service.execution import encode, execute, members
from compute_service.frames import FrameSocket
from compute_service.interrupts import Interrupts
from compute_service.job import Job
from compute_service.leftovers import Leftovers
from compute_service.metering import Meter, give_way
from compute_service.outcomes import failed, stopped_by_limit
from compute_service.reporting import Reporter
from contracts.status import ErrorKind

PR_SET_CHILD_SUBREAPER = 36
OUT_OF_MEMORY = "The task needed more memory than it may have."


class Child:
    """Runs what comes through the pipe."""

    def __init__(self, pipe: FrameSocket, tasks: registry.Registry) -> None:
        self._pipe = pipe
        self._tasks = tasks
        self._interrupts = Interrupts()
        self._interrupts.install()
        self._reporter = Reporter(pipe, self._interrupts)
        self._meter = Meter()
        self._leftovers = Leftovers(self._reporter.threads, self._meter.status())

    def serve(self) -> None:
        """Run jobs until the parent is gone."""
        self._pipe.send({"ready": [task.model_dump(mode="json") for task in self._tasks.descriptors()]})
        while True:
            try:
                order = self._pipe.receive()
            except EOFError:
                return
            self._run(order)

    def _run(self, order: dict[str, Any]) -> None:
        meter, reporter = self._meter, self._reporter
        definition = self._tasks.get(order["task"])
        job = Job(pid=order["pid"], attempt=order["attempt"], report=reporter.progress)
        cpu_before = meter.cpu_seconds()
        meter.reset_peak()
        reporter.begin()
        if definition is None:
            outcome = failed(ErrorKind.CRASHED, f"This worker has no task {order['task']!r}.")
        else:
            meter.limit_memory(definition.descriptor.memory_limit_mb)
            try:
                outcome = execute(definition, order["params"], job, self._interrupts)
            except MemoryError as error:
                meter.limit_memory(None)  # or there is no memory to say so
                outcome = stopped_by_limit(ErrorKind.OUT_OF_MEMORY, OUT_OF_MEMORY, error)
            meter.limit_memory(None)
        cpu_after = meter.cpu_seconds()
        status = meter.status()
        found = self._leftovers.found(status)
        if not self._interrupts.installed():
            found.append("signal handlers")
        report = {
            **members(outcome),
            "cpu_seconds": round(cpu_after - cpu_before, 6),
            "cpu_total_seconds": cpu_after,
            "peak_memory_bytes": meter.peak_bytes(status),
            "resident_bytes": meter.resident_bytes(),
            "leftovers": found,
        }
        reporter.finish(lambda progress: encode({**report, "progress": progress}))


def main() -> None:
    """Take the pipe from the command line, load the tasks, serve."""
    number = int(sys.argv[1])
    os.set_inheritable(number, False)  # noqa: FBT003 -- its signature
    pipe = FrameSocket(socket.socket(fileno=number))
    give_way()
    # What the task starts and abandons stays a descendant, so it is found and ended with the child.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        tasks = registry.load()
    except TaskDefinitionError as error:
        pipe.send({"failed": str(error)})
        sys.exit(1)
    Child(pipe, tasks).serve()


if __name__ == "__main__":
    main()
