"""What the chaos suite has done: tasks that write down in the effect log what they do."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from compute_service.sdk import Job, Retry, task
from tests.chaos.effects import Attempt

STRAY = "coatcheck-chaos-stray"
"""First word of the command line of every process that a task leaves behind; the mark of the run follows."""
MARK_VARIABLE = "CHAOS_MARK"
FOR_EVER_SECONDS = "3600"

Seconds = Annotated[float, Field(ge=0, le=120)]
Note = Annotated[str, Field(max_length=100)]
Failure = Literal["retry", "raise", "exit", "kill"]


class Flaky(Exception):
    """Worth another attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What identifies the attempt that did the work."""

    note: str
    attempt: int
    process: int


def done(note: str, job: Job) -> Done:
    return Done(note=note, attempt=job.attempt, process=os.getpid())


def fail(how: Failure) -> None:
    """End this attempt badly."""
    if how == "retry":
        raise Retry(after=0.2)
    if how == "raise":
        raise Flaky
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


@task(retries=9, time_limit=120, example={"note": "a", "seconds": 0.1})
def chaos_work(note: Note, seconds: Seconds, job: Job) -> Done:
    """Takes its time and reports progress."""
    with Attempt(job.pid, job.attempt) as attempt:
        job.progress(0, seconds)
        attempt.work(seconds)
        job.progress(seconds, seconds)
    return done(note, job)


@task(retries=9, retry_on=(Flaky,), time_limit=60, example={"note": "a", "failures": 1, "how": "raise"})
def chaos_flaky(note: Note, failures: Annotated[int, Field(ge=0, le=3)], how: Failure, job: Job) -> Done:
    """Fails in its first attempts, then succeeds."""
    with Attempt(job.pid, job.attempt) as attempt:
        attempt.work(0.1)
        if job.attempt <= failures:
            fail(how)
    return done(note, job)


@task(retries=2, retry_on=(Flaky,), time_limit=60, example={"note": "a", "how": "raise"})
def chaos_hopeless(note: Note, how: Failure | Literal["fatal"], job: Job) -> Done:
    """Never succeeds, whatever its budget."""
    with Attempt(job.pid, job.attempt) as attempt:
        attempt.work(0.1)
        if how == "fatal":
            raise ValueError(note)
        fail(how)
    return done(note, job)


@task(retries=1, time_limit=1, example={"note": "a"})
def chaos_overrun(note: Note, job: Job) -> Done:
    """Runs into its time limit in every attempt."""
    with Attempt(job.pid, job.attempt) as attempt:
        attempt.work(60)
    return done(note, job)


@task(retries=9, time_limit=120, example={"note": "a", "seconds": 0.1})
def chaos_spawn(note: Note, seconds: Seconds, job: Job) -> Done:
    """Leaves processes behind: one of its own group, and one that has left group, session and parent."""
    with Attempt(job.pid, job.attempt) as attempt:
        command = [f"{STRAY}:{os.environ[MARK_VARIABLE]}:{job.pid}", FOR_EVER_SECONDS]
        subprocess.Popen(command, executable="/bin/sleep")
        if (child := os.fork()) == 0:
            os.setsid()
            subprocess.Popen(command, executable="/bin/sleep")
            os._exit(0)
        os.waitpid(child, 0)
        attempt.work(seconds)
    return done(note, job)


@task(retries=9, time_limit=120, example={"note": "a", "seconds": 0.1})
def chaos_stubborn(note: Note, seconds: Seconds, job: Job) -> Done:
    """Hears no signal that can be blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with Attempt(job.pid, job.attempt) as attempt:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            attempt.work(0.2)
    return done(note, job)
