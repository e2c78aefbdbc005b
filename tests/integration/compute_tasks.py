# ruff: noqa: S607, T201 -- tasks start processes and print, as users' tasks do
"""Tasks that do to their process what tasks do; loaded by children through TASK_MODULES."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from compute_service.sdk import Cancelled, InvalidParams, Job, Retry, TimeLimitExceeded, task

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


class Point(BaseModel):
    """A point."""

    x: int
    y: int


@task
def noop() -> None:
    """Nothing."""


@task
def process_id() -> int:
    """Which process runs this."""
    return os.getpid()


@task(example={"seconds": 0.1})
def burn(seconds: float) -> int:
    """Burn CPU."""
    rounds, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.sha256(b"x" * 1000).digest()
        rounds += 1
    return rounds


@task(example={"seconds": 0.1})
def use_cpu(seconds: float) -> None:
    """Use that much CPU time, however long it takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        hashlib.sha256(b"x" * 1000).digest()


@task(example={"code": 3})
def leave(code: int) -> None:
    """End the process."""
    os._exit(code)


@task
def kill_itself() -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(memory_limit_mb=150)
def allocate() -> int:
    """Allocate in the process, above the limit."""
    return len(bytearray(400 * 1024 * 1024))


@task(memory_limit_mb=120)
def allocate_in_children(job: Job) -> None:
    """Stay below the limit in each process, above it in all together."""
    children = [
        subprocess.Popen([sys.executable, "-c", "b = b'x' * (60 << 20); import time; time.sleep(600)"])
        for _ in range(3)
    ]
    job.progress(message="started")
    for child in children:
        child.wait()


@task(example={"file": "/dev/null"})
def leave_process_behind(file: str) -> None:
    """Start a process and leave it."""
    child = subprocess.Popen(SLEEP)
    Path(file).write_text(str(child.pid))


@task(example={"file": "/dev/null"})
def leave_daemon_behind_and_crash(file: str) -> None:
    """Start a process in a session of its own, let it lose its parent, and crash."""
    code = f"import os, sys; os.setsid(); os.fork() and os._exit(0); open({file!r}, 'w').write(str(os.getpid()))"
    subprocess.run([sys.executable, "-c", f"{code}; import time; time.sleep(600)"], check=True)
    while not Path(file).exists() or not Path(file).read_text():
        time.sleep(0.01)
    os._exit(1)


@task
def leave_fork_behind_and_crash() -> None:
    """Leave a fork that holds the pipe open, and crash."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(1)


@task
def leave_thread_behind() -> int:
    """Start a thread and leave it."""
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return os.getpid()


@task
def change_directory() -> int:
    """Change the working directory."""
    os.chdir("/")
    return os.getpid()


@task
def change_environment() -> int:
    """Change the environment."""
    os.environ["LEFT_BEHIND"] = "1"
    return os.getpid()


@task
def environment() -> list[str]:
    """Names of the variables of the environment."""
    return sorted(os.environ)


@task(example={"file": "/dev/null"})
def tidy_when_cancelled(file: str, job: Job) -> None:
    """End when asked to."""
    job.progress(message="started")
    try:
        time.sleep(600)
    except Cancelled:
        Path(file).write_text(f"tidied, cancelled={job.cancelled}")
        raise


@task
def swallow_everything(job: Job) -> None:
    """Go on whatever happens."""
    job.progress(message="started")
    while True:
        try:
            time.sleep(600)
        except BaseException:  # noqa: BLE001, S112
            continue


@task
def block_in_c(job: Job) -> None:
    """Stay in C, where no exception gets in."""
    job.progress(message="started")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


@task
def return_what_there_is(job: Job) -> str:
    """Answer when time is up."""
    job.progress(message="started")
    try:
        time.sleep(600)
    except TimeLimitExceeded:
        return "partial"
    return "whole"


@task(retry_on=(ConnectionError,), example={"how": "retry"})
def fail(how: str) -> None:
    """Fail in one of several ways."""
    if how == "retry":
        raise Retry("later", after=7)
    if how == "retry_on":
        raise ConnectionResetError("reset")
    if how == "params":
        raise InvalidParams("no such thing", pointer="/how")
    if how == "exit":
        sys.exit("bye")
    if how == "surrogate":
        raise ValueError("broken \ud800 \0 text")
    raise ValueError("plain")


@task(example={"point": {"x": 1, "y": 2}})
def move(point: Point, by: Annotated[int, Field(ge=0)] = 1) -> Point:
    """Move a point."""
    return Point(x=point.x + by, y=point.y)


@task(example={"kind": "large"})
def bad_result(kind: str) -> str:
    """Return what cannot be stored."""
    if kind == "large":
        return "x" * (300 * 1024)
    if kind == "surrogate":
        return "\ud800"
    return 3  # type: ignore[return-value]


@task(example={"rows": 10})
def report_rows(rows: int, job: Job) -> int:
    """Report every row."""
    for _ in job.track(range(rows), stage="rows"):
        pass
    return rows


@task
def report_then_fall_silent(job: Job) -> None:
    """Report twice at once, then nothing."""
    job.progress(1, 10)
    job.progress(2, 10)
    time.sleep(600)


@task
def print_much() -> None:
    """Write to the standard streams."""
    print("x" * 100_000)
    print("y" * 100_000, file=sys.stderr)
    subprocess.run(["echo", "z" * 1000], check=True)


@task
def fork_and_report(job: Job) -> str:
    """Report from a forked copy, which must not reach the pipe."""
    child = multiprocessing.get_context("fork").Process(target=job.progress, args=(5, 10))
    child.start()
    child.join()
    return "done"


@task
def start_processes(job: Job) -> None:
    """Run with two processes, one of them in a session of its own."""
    subprocess.Popen(SLEEP)
    subprocess.Popen(SLEEP, start_new_session=True)
    job.progress(message="started")
    time.sleep(600)
