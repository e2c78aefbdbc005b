"""Signals of the parent, turned into one exception in the task's main thread."""

import signal
from types import FrameType, TracebackType

from compute_service.exceptions import Cancelled, Stopped, TimeLimitExceeded
from compute_service.job import Job

CANCEL_SIGNAL = signal.SIGTERM
TIME_LIMIT_SIGNAL = signal.SIGUSR1

_KINDS: dict[int, type[Stopped]] = {CANCEL_SIGNAL: Cancelled, TIME_LIMIT_SIGNAL: TimeLimitExceeded}


class Interrupts:
    """Raises each kind once per job, never while a frame is being written, never between jobs.

    As a context manager it is the shield around writing a frame in the main thread.
    """

    def __init__(self) -> None:
        self._job: Job | None = None
        self._raised: set[type[Stopped]] = set()
        self._shielded = False
        self._deferred: type[Stopped] | None = None

    def install(self) -> None:
        """Take the signals over, and ignore those that a terminal sends to everybody."""
        for number in _KINDS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def installed(self) -> bool:
        """Whether the task left the signals as they were."""
        return all(signal.getsignal(number) == self._on_signal for number in _KINDS)

    def begin(self, job: Job) -> None:
        """From here on signals are meant for *job*."""
        self._raised.clear()
        self._deferred = None
        self._job = job

    def end(self) -> None:
        """The task returned; a signal that comes now is too late."""
        self._job = None

    def __enter__(self) -> None:
        self._shielded = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shielded = False
        deferred, self._deferred = self._deferred, None
        if deferred is not None and self._job is not None:
            raise deferred

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        kind = _KINDS[number]
        if self._job is None:
            return
        if kind is Cancelled:
            self._job.cancelled = True
        if kind in self._raised:
            return
        self._raised.add(kind)
        if self._shielded:
            self._deferred = kind if self._deferred is None else Cancelled
            return
        raise kind
