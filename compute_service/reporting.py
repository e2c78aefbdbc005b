"""What leaves the child: progress, at most ten times a second and the newest always, and the report."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from compute_service.frames import FrameSocket
from compute_service.interrupts import Interrupts
from contracts import codec
from contracts.job import Progress

MIN_INTERVAL_SECONDS = 0.1

Build = Callable[[], Progress]


class Reporter:
    """Writes the frames of the running job; all of them go through its lock.

    A thread, started with the first progress that has to wait, sends what nobody would send
    otherwise: the newest progress of a task that then falls silent.
    """

    def __init__(self, pipe: FrameSocket, interrupts: Interrupts) -> None:
        self._pipe = pipe
        self._interrupts = interrupts
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._waiting = threading.Event()
        self._thread: threading.Thread | None = None
        self._open = False
        self._newest: Build | None = None
        self._last_sent = 0.0

    def threads(self) -> int:
        """How many threads of the process are the reporter's."""
        return 0 if self._thread is None else 1

    def begin(self) -> None:
        """A job begins."""
        self._open, self._newest = True, None

    def progress(self, build: Build) -> None:
        """Send the progress that *build* makes, now or as soon as the interval allows.

        May be called from any thread of the task. A forked copy of the process sends nothing.
        """
        if not self._open or os.getpid() != self._process:
            return
        self._newest = build
        if time.monotonic() - self._last_sent >= MIN_INTERVAL_SECONDS:
            self._send_newest()
        elif not self._waiting.is_set():
            self._waiting.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_late, name="progress", daemon=True)
                self._thread.start()

    def finish(self, complete: Callable[[dict[str, Any] | None], bytes]) -> None:
        """Send what *complete* makes of the progress that was not sent; nothing of this job follows."""
        with self._lock:
            self._open = False
            self._waiting.clear()
            build, self._newest = self._newest, None
            self._pipe.send_encoded(complete(None if build is None else _dump(build)))

    def _send_newest(self) -> None:
        if threading.current_thread() is threading.main_thread():
            with self._interrupts, self._lock:
                self._write()
        else:
            with self._lock:
                self._write()

    def _write(self) -> None:
        build, self._newest = self._newest, None
        if build is None or not self._open:
            return
        self._last_sent = time.monotonic()
        self._pipe.send_encoded(codec.dumps({"progress": _dump(build)}))

    def _send_late(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(max(0.0, self._last_sent + MIN_INTERVAL_SECONDS - time.monotonic()))
            self._waiting.clear()
            self._send_newest()


def _dump(build: Build) -> dict[str, Any]:
    return build().model_dump(mode="json")
