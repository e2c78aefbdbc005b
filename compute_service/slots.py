"""A slot: runs one job at a time in a warm child of its own."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from compute_service.attempts import MIB, AttemptState, Ending, died, reported
from compute_service.children import Child, ChildFailedError
from compute_service.frames import BrokenFrameError
from compute_service.groups import ProcessGroups
from compute_service.interrupts import CANCEL_SIGNAL, TIME_LIMIT_SIGNAL
from compute_service.settings import ComputeSettings
from contracts.catalogue import TaskDescriptor
from contracts.job import Progress
from contracts.logs import logger
from contracts.messages import Finish, Grant
from contracts.status import ErrorKind

log = logger(__name__)

LIVENESS_SECONDS = 0.5
"""How often a silent child is checked: its pipe may be held open by a process that it left behind."""
START_TRIES = 3
ENDING_SECONDS = 0.2
"""A process that dies closes its pipe first; one that still lives after so long has closed it itself."""

OnProgress = Callable[[Grant, Progress], None]


class Slot:
    """Runs grants in its child, one after the other, in the thread that calls `run`.

    `stop` may be called from any thread.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        settings: ComputeSettings,
        groups: ProcessGroups,
        on_progress: OnProgress,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._worker_id = worker_id
        self._settings = settings
        self._groups = groups
        self._on_progress = on_progress
        self._environ = environ
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._attempt: AttemptState | None = None
        self._memory_limits: dict[str, int | None] = {}
        self.catalogue: list[TaskDescriptor] = []
        """What the child can run, once it is warm."""

    @property
    def warm(self) -> bool:
        """Whether a child waits for work. False after a job that cost the child its life or its trust."""
        return self._child is not None

    def warm_up(self) -> None:
        """Have a child that waits for work; raises `ChildFailedError` if none gets ready."""
        if self._child is not None:
            return
        child = Child(self._groups, {**self._environ, "TASK_MODULES": self._settings.task_modules})
        try:
            self.catalogue = child.wait_ready(self._settings.child_start_seconds)
        except BaseException:
            child.end()
            raise
        self._memory_limits = {task.name: task.memory_limit_mb for task in self.catalogue}
        self._child = child

    def run(self, grant: Grant) -> Finish | None:
        """Run one job to its end, whatever that is; None if nothing is to be reported (superseded).

        When it returns, the job's processes are gone or the child has been found clean. Raises
        `ChildFailedError` if no child can be started.
        """
        attempt = AttemptState(grant=grant)
        self._attempt = attempt
        try:
            child = self._give(attempt)
            if child is None:
                return died(attempt, self._worker_id, None, None)
            attempt.memory_limit_mb = self._memory_limits.get(grant.task)
            attempt.time_limit_at = time.monotonic() + grant.time_limit
            return self._watch(child, attempt)
        finally:
            self._attempt = None

    def stop(self, pid: str, fence: int, ending: Ending) -> None:
        """End the attempt if this slot runs it: ask a cancelled one, kill the others."""
        with self._lock:
            attempt, child = self._attempt, self._child
            if attempt is None or (attempt.grant.pid, attempt.grant.fence) != (pid, fence):
                return
            if attempt.ending is None or ending is Ending.SUPERSEDED:
                attempt.ending = ending
            if child is not None:
                self._apply_ending(child, attempt)

    def close(self) -> None:
        """End the child. The slot is not used again."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _give(self, attempt: AttemptState) -> Child | None:
        """Send the job to a child; one that died idle is replaced, since it never saw the job.

        None if somebody ended the attempt before it began.
        """
        grant = attempt.grant
        order = {"pid": grant.pid, "task": grant.task, "params": grant.params, "attempt": grant.attempt}
        for _ in range(START_TRIES):
            self.warm_up()
            child = self._child
            if attempt.ending is not None:
                return None
            if child is None:
                break
            try:
                child.order(order)
            except OSError:
                self._discard()
            else:
                return child
        msg = f"{START_TRIES} children in a row ended before they took the job"
        raise ChildFailedError(msg)

    def _watch(self, child: Child, attempt: AttemptState) -> Finish | None:
        with self._lock:
            self._apply_ending(child, attempt)  # a stop that came before there was a child
        while True:
            now = time.monotonic()
            try:
                message = child.receive(max(0.001, min(LIVENESS_SECONDS, attempt.wake_at() - now)))
            except TimeoutError:
                if not child.alive():
                    return self._ended(child, attempt)
                if attempt.ending is Ending.CANCELLED and not attempt.killed:
                    child.signal(CANCEL_SIGNAL)  # again: the first may have come before the task began
            except (EOFError, OSError, BrokenFrameError):
                return self._ended(child, attempt)
            else:
                try:
                    if "outcome" in message:
                        return self._reported(child, attempt, message)
                    self._pass_on(attempt, message)
                except (KeyError, TypeError, ValueError):  # the task wrote into our pipe
                    return self._ended(child, attempt)
            self._enforce(child, attempt)

    def _enforce(self, child: Child, attempt: AttemptState) -> None:
        """Time limit, grace, memory."""
        now = time.monotonic()
        if attempt.kill_at is not None and now >= attempt.kill_at:
            if attempt.ending is None and attempt.killed_for is None:
                attempt.killed_for = ErrorKind.TIMEOUT
            self._kill(child, attempt)
        elif attempt.kill_at is None and now >= attempt.time_limit_at:
            with self._lock:
                self._interrupt(child, attempt, TIME_LIMIT_SIGNAL)
        if attempt.memory_limit_mb is not None and now >= attempt.memory_poll_at:
            attempt.memory_poll_at = now + self._settings.memory_poll_seconds
            used = child.resident_bytes()
            attempt.peak_memory_bytes = max(used, attempt.peak_memory_bytes or 0)
            if used > attempt.memory_limit_mb * MIB and not attempt.killed:
                attempt.killed_for = ErrorKind.OUT_OF_MEMORY
                self._kill(child, attempt)

    def _apply_ending(self, child: Child, attempt: AttemptState) -> None:
        if attempt.ending is Ending.CANCELLED:
            self._interrupt(child, attempt, CANCEL_SIGNAL)
        elif attempt.ending is not None:
            self._kill(child, attempt)

    def _interrupt(self, child: Child, attempt: AttemptState, number: signal.Signals) -> None:
        """Ask the task to end, and set the moment at which it is killed if it does not."""
        attempt.signalled = True
        child.signal(number)
        if attempt.kill_at is None:
            attempt.kill_at = time.monotonic() + self._settings.cancel_grace_seconds

    def _kill(self, child: Child, attempt: AttemptState) -> None:
        attempt.killed = True
        attempt.kill_at = time.monotonic() + LIVENESS_SECONDS  # again, for what started meanwhile
        child.kill()

    def _pass_on(self, attempt: AttemptState, message: dict[str, Any]) -> None:
        if "progress" in message:
            attempt.progress = Progress.model_validate(message["progress"])
            self._on_progress(attempt.grant, attempt.progress)

    def _reported(self, child: Child, attempt: AttemptState, report: dict[str, Any]) -> Finish | None:
        finish = reported(attempt, self._worker_id, report)
        child.cpu_total_seconds = report["cpu_total_seconds"]
        if reason := self._why_replace(child, attempt, report):
            log.debug(
                "A child is replaced.",
                action="child_replaced",
                pid=attempt.grant.pid,
                child=child.process_id,
                reason=reason,
            )
            self._discard()
        return finish

    def _ended(self, child: Child, attempt: AttemptState) -> Finish | None:
        attempt.pipe_broken = not attempt.killed and not child.ends_within(ENDING_SECONDS)
        frames, usage = self._discard()
        for message in frames:
            if "outcome" in message:
                return reported(attempt, self._worker_id, message)
            self._pass_on(attempt, message)
        cpu = None if usage is None else max(usage.ru_utime + usage.ru_stime - child.cpu_total_seconds, 0.0)
        return died(attempt, self._worker_id, child.exit_code, cpu)

    def _why_replace(self, child: Child, attempt: AttemptState, report: dict[str, Any]) -> str | None:
        if report["leftovers"]:
            return f"the job left {', '.join(report['leftovers'])} behind"
        if attempt.signalled or attempt.killed:
            return "it was interrupted"
        if child.jobs >= self._settings.child_max_jobs:
            return "it has run its number of jobs"
        if report["resident_bytes"] > self._settings.child_max_rss_mb * MIB:
            return "it has grown too large"
        return None

    def _discard(self) -> tuple[list[dict[str, Any]], Any]:
        with self._lock:
            child, self._child = self._child, None
        return ([], None) if child is None else child.end()
