"""What an attempt costs, and how much memory it may take: the child about itself."""

import contextlib
import os
import resource
import time

MIB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """CPU time and memory of this process and the children it has waited for."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._reset: int | None = None
        with contextlib.suppress(OSError):
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._limited = False

    def cpu_seconds(self) -> float:
        """CPU seconds since the process began, its ended children included."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    def reset_peak(self) -> None:
        """Let the peak begin anew, where the kernel allows it (proc(5), /proc/pid/clear_refs, value 5)."""
        if self._reset is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._reset, b"5", 0)

    def status(self) -> bytes:
        """What the kernel says about this process (proc(5), /proc/pid/status)."""
        return os.pread(self._status, 8192, 0)

    @staticmethod
    def peak_bytes(status: bytes) -> int | None:
        """The most resident memory since the last reset, of what `status` said."""
        at = status.find(b"VmHWM:")
        return None if at < 0 else int(status[at + 6 :].split(None, 1)[0]) * 1024

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return int(os.pread(self._statm, 256, 0).split()[1]) * _PAGE

    def limit_memory(self, limit_mb: int | None) -> None:
        """Let allocations above *limit_mb* MiB fail with `MemoryError`; None lifts the limit.

        Only the soft limit moves, so that it can be lifted again. What the task starts inherits it.
        """
        if limit_mb is None and not self._limited:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = hard if limit_mb is None else limit_mb * MIB
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        self._limited = limit_mb is not None


def give_way(niceness: int = 10, oom_score_adj: int = 500) -> None:
    """Let the service and its heartbeats win over this process: CPU first, then memory."""
    os.nice(niceness)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 -- no path, a knob
        score.write(str(oom_score_adj))
