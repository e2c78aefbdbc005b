"""The process groups that this service runs, and the guardian who knows them."""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import threading
import time

from compute_service import procfs
from compute_service.guardian import kill_all
from contracts.logs import logger

log = logger(__name__)

PR_SET_CHILD_SUBREAPER = 36
GUARDIAN_END_SECONDS = 3.0
ORPHANS_SECONDS = 0.5
FIRST_POLL_SECONDS = 0.001
LAST_POLL_SECONDS = 0.05


def ended(process_id: int) -> bool:
    """Whether a child of this process has ended; it is not reaped by asking."""
    return os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class ProcessGroups:
    """Starts and watches the guardian, tells it every group, ends groups whole.

    From `start` on this process adopts what the descendants of a dead child become, so `end_orphans`
    finds processes that left their group and lost their parent. So whatever else becomes a child of
    this process after `start` is taken for such an orphan.
    """

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._not_ours: frozenset[int] = frozenset()
        self._lock = threading.RLock()
        self._guardian: subprocess.Popen[bytes] | None = None

    @property
    def guardian_id(self) -> int | None:
        """Process id of the guardian."""
        return None if self._guardian is None else self._guardian.pid

    def start(self) -> None:
        """Become the reaper of orphans and start the guardian."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with self._lock:
            self._not_ours = frozenset(procfs.children(os.getpid()))
            self._start_guardian()

    def spawn(self, command: list[str], *, pass_fd: int, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start *command* as the leader of a session of its own, known to the guardian."""
        with self._lock:
            process = subprocess.Popen(  # noqa: S603 -- our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,
                pass_fds=(pass_fd,),
                start_new_session=True,
                env=environ,
            )
            self._groups.add(process.pid)
            self._tell(b"+%d\n" % process.pid)
        return process

    def kill(self, group: int) -> None:
        """SIGKILL to the group and to everything below its leader."""
        kill_all([group])

    def ends_within(self, process: "subprocess.Popen[bytes]", seconds: float) -> bool:
        """Wait for the leader's end, at most *seconds*; it is not reaped."""
        deadline = time.monotonic() + seconds
        pause = FIRST_POLL_SECONDS
        while not ended(process.pid):
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, LAST_POLL_SECONDS)
        return True

    def reap(self, process: "subprocess.Popen[bytes]", timeout: float) -> resource.struct_rusage | None:
        """Wait for the leader's end, forget the group; None if it does not end in *timeout* seconds."""
        if not self.ends_within(process, timeout):
            return None
        with self._lock:
            # Until it is reaped its id cannot be another's, so the guardian forgets it before.
            self._groups.discard(process.pid)
            self._tell(b"-%d\n" % process.pid)
            _, status, usage = os.wait4(process.pid, os.WNOHANG)
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage

    def end_orphans(self) -> None:
        """Kill and reap every process that this service has inherited from a dead child."""
        deadline = time.monotonic() + ORPHANS_SECONDS
        while self._kill_orphans() and time.monotonic() < deadline:
            time.sleep(FIRST_POLL_SECONDS)

    def _kill_orphans(self) -> bool:
        """One round; whether there may be more: what they had started is inherited when they are gone."""
        with self._lock:
            known = self._not_ours | self._groups | ({self._guardian.pid} if self._guardian is not None else set())
            orphans = [child for child in procfs.children(os.getpid()) if child not in known]
            for orphan in orphans:
                kill_all([orphan])
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOHANG)
        return bool(orphans)

    def check_guardian(self) -> None:
        """Start another guardian if this one is gone."""
        with self._lock:
            if self._guardian is not None and self._guardian.poll() is not None:
                log.warning("The guardian is gone; another one is started.", action="guardian_restarted")
                self._start_guardian()

    def stop(self) -> None:
        """Let the guardian go. Call it when every group has ended."""
        with self._lock:
            guardian, self._guardian = self._guardian, None
        if guardian is None or guardian.stdin is None:
            return
        guardian.stdin.close()
        try:
            guardian.wait(GUARDIAN_END_SECONDS)
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.wait(GUARDIAN_END_SECONDS)

    def _start_guardian(self) -> None:
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "compute_service.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(b"+%d\n" % group)

    def _tell(self, line: bytes) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            return
        try:
            self._guardian.stdin.write(line)
        except OSError:
            self._guardian.poll()
