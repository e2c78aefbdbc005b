# ruff: noqa: S607 -- tasks start processes as users' tasks do
"""Tasks that do to a worker what it promises to stand; loaded by children through TASK_MODULES."""

import _thread
import gc
import hashlib
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compute_service.sdk import Cancelled, Job, TimeLimitExceeded, task

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
BURNER = [sys.executable, "-c", "while True: pass"]
EVERY_SIGNAL = sorted(signal.valid_signals())


def append(file: str, line: str) -> None:
    """Leave a trace outside the system, in one write."""
    with Path(file).open("a") as trace:
        trace.write(f"{line}\n")


def sleep_for_ever() -> None:
    """Whatever happens."""
    while True:
        try:
            time.sleep(600)
        except BaseException:  # noqa: BLE001, S112
            continue


# ---- what does not end


@task
def ask_nicely(job: Job) -> list[str]:
    """Say which exception came."""
    job.progress(message="started")
    try:
        time.sleep(600)
    except (Cancelled, TimeLimitExceeded) as stop:
        return [type(stop).__name__, str(job.cancelled)]
    return []


def ignore_signals() -> None:
    """All that can be."""
    for number in EVERY_SIGNAL:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)


WAYS_TO_GO_ON: dict[str, Callable[[], object]] = {
    "swallow": lambda: None,
    "ignore": ignore_signals,
    "block": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sum": lambda: sum(range(10**12)),
    "backtrack": lambda: re.match(r"(a|aa)+$", "a" * 200 + "b"),
    "hash": lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1),
}


@task(example={"how": "swallow"})
def go_on(how: str, job: Job) -> None:
    """Do not end, in one of several ways."""
    job.progress(message="started")
    while True:
        try:
            WAYS_TO_GO_ON[how]()
        except BaseException:  # noqa: BLE001, S110
            pass
        else:
            sleep_for_ever()


# ---- memory


@task(memory_limit_mb=200)
def allocate_at_once() -> int:
    """One piece above the limit."""
    return len(bytearray(400 * 1024 * 1024))


@task(memory_limit_mb=200)
def allocate_in_crumbs() -> None:
    """Very small pieces until nothing is left at all, not even to say so."""
    gc.disable()
    chain: Any = None
    while True:
        chain = (chain, object())


@task(memory_limit_mb=150, example={"own_session": False})
def allocate_in_grandchild(own_session: bool, job: Job) -> None:  # noqa: FBT001
    """Below the limit of a process each, above it together; the task itself uses nothing."""
    hog = "hog = b'x' * (70 << 20); import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}])"
    children = [subprocess.Popen([sys.executable, "-c", code], start_new_session=own_session) for _ in range(2)]
    job.progress(message="started")
    for child in children:
        child.wait()


# ---- what dies


@task(example={"how": "exit", "number": 0})
def die(how: str, number: int) -> str:
    """End the process in one of several ways."""
    if how == "exit":
        os._exit(number)
    if how == "signal":
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    if how == "exit in thread":
        threading.Thread(target=os._exit, args=(number,)).start()
        time.sleep(600)
    if how == "close":
        os.closerange(number, 65536)
    if how == "garbage":
        garbage = (b"\0\0\1\0", b"print('hello')\n", b"\xc7", b"\0" * 6, bytes(range(256)) * 300)[number]
        for descriptor in sockets():
            os.write(descriptor, garbage)
    return "alive"


def sockets() -> list[int]:
    """Every socket of this process, its pipe to the worker among them."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115
                found.append(int(name))
        except OSError:
            continue
    return found


# ---- what is left behind


def daemon(code: str) -> None:
    """Start a process in a session of its own that has lost its parent."""
    fork = "import os; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)"
    subprocess.run([sys.executable, "-c", f"{fork}\n{code}"], check=True)


HOP = """
import os, time  # hop_about {pid}
end = time.monotonic() + 8
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.005)
"""
"""Never the same process for longer than a moment, and never more than one: a test that fails must not flood the
machine."""


@task(example={"what": "threads"})
def leave_behind(what: str) -> int:  # noqa: C901, PLR0912 -- one line per way
    """Succeed, and leave something."""
    if what == "threads":
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    elif what == "bare threads":
        _thread.start_new_thread(time.sleep, (600,))
    elif what == "child":
        subprocess.Popen(SLEEPER)
    elif what == "zombie":
        if os.fork() == 0:
            os._exit(0)
    elif what == "daemon":
        daemon("import time; time.sleep(600)")
    elif what == "hopper":
        daemon(HOP.format(pid=""))
    elif what == "directory":
        os.chdir("/")
    elif what == "environment":
        os.environ["LEFT_BEHIND"] = "1"
    elif what == "umask":
        os.umask(0o777)
    elif what == "sys.stdout":
        sys.stdout = None
    elif what == "closed streams":
        os.closerange(0, 3)
    elif what == "other stdout":
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    elif what == "open files":
        for _ in range(300):
            os.open("/dev/null", os.O_RDONLY)
    elif what == "blocked signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
    elif what == "own handler":
        signal.signal(signal.SIGUSR1, lambda *_: None)
    elif what == "ignored SIGCHLD":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif what == "alarm":
        signal.setitimer(signal.ITIMER_PROF, 60)
    elif what == "limits":
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    elif what == "priority":
        os.nice(3)
    elif what == "affinity":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return os.getpid()


@task
def look_around() -> dict[str, Any]:
    """What a job finds in its process."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    subprocess.run(["true"], check=True)  # which needs SIGCHLD as it was, and descriptors
    return {
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        "directory": os.getcwd(),  # noqa: PTH109
        "environment": sorted(os.environ),
        "streams": [str(os.fstat(number).st_ino) for number in range(3)] + [str(sys.stdout is None)],
        "few files": len(os.listdir("/proc/self/fd")) < 50,  # noqa: PTH208
        "kernel": {name: status[name] for name in ("Umask", "Uid", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list")},
        "timers": [signal.getitimer(kind)[0] for kind in range(3)],
        "limits": [list(resource.getrlimit(kind)) for kind in range(10)],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


# ---- work that leaves traces outside


@task
def noop() -> None:
    """Nothing."""


@task(example={"file": "/dev/null"})
def trace(file: str, job: Job, seconds: float = 0.0) -> str:
    """Write down that an attempt has begun, and that it has ended; busy in between."""
    append(file, f"begin {job.pid} {job.attempt} {os.getpid()}")
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() >= end:
            break
        if number % 1000 == 0:
            job.progress(message=str(number))
    append(file, f"end {job.pid} {job.attempt} {os.getpid()}")
    return job.pid


@task(example={"file": "/dev/null", "release": "/dev/null"})
def hold(file: str, release: str, job: Job) -> None:
    """Stay until *release* exists."""
    append(file, f"begin {job.pid} {job.attempt} {os.getpid()}")
    job.progress(message="started")
    while not Path(release).exists():
        time.sleep(0.02)


@task(example={"file": "/dev/null"})
def stay_in_c(file: str, job: Job) -> None:
    """Start processes, one of them far away, and never return to Python."""
    near = subprocess.Popen(SLEEPER)
    far = subprocess.Popen(SLEEPER, start_new_session=True)
    away = f"import os, time; open({file!r}, 'a').write(f'process {{os.getpid()}}\\n'); time.sleep(600)"
    daemon(away)
    append(file, f"process {near.pid}\nprocess {far.pid}\nprocess {os.getpid()}")
    job.progress(message="started")
    sum(range(10**12))


@task(example={"processes": 1, "file": "/dev/null"})
def burn_everything(processes: int, file: str, job: Job) -> None:
    """Burn more processors than there are, from several processes at the priority they please."""
    for _ in range(processes):
        subprocess.Popen(BURNER)
    append(file, f"begin {job.pid} {job.attempt} {os.getpid()}")
    job.progress(message="started")
    while True:
        pass


@task
def hold_the_pipe(job: Job) -> None:
    """Leave a fork in a session of its own, which has this process's pipe."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    job.progress(message="started")
    time.sleep(600)


@task
def hop_about(job: Job) -> None:
    """Run with a crowd of processes, some of which are others every moment, in other sessions."""
    for _ in range(150):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    for _ in range(3):
        daemon(HOP.format(pid=job.pid))
    job.progress(message="started")
    sleep_for_ever()
