"""The guardian: what runs dies with the service, however the service dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_SECONDS = 20.0

PARENT = """
import sys, threading
from compute_service.groups import ProcessGroups
from compute_service.settings import ComputeSettings
from compute_service.slots import Slot
from contracts.messages import Grant

groups = ProcessGroups()
groups.start()
slot = Slot(worker_id="w", settings=ComputeSettings(task_modules="compute_tasks"), groups=groups,
            on_progress=lambda grant, progress: print("started", groups.guardian_id, flush=True))
grant = Grant(pid="p", fence=1, task="start_processes", task_version="1", params={}, attempt=1, max_attempts=1,
              time_limit=600, claim_id="c")
threading.Thread(target=slot.run, args=(grant,), daemon=True).start()
for line in sys.stdin:
    groups.check_guardian()
    print("checked", groups.guardian_id, flush=True)
"""


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for *condition*, at most `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)


def start_parent() -> tuple[subprocess.Popen[str], int]:
    """A parent whose slot runs a task with processes of its own, and the id of its guardian."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
    )
    assert parent.stdout is not None
    said = parent.stdout.readline().split()
    assert said[0] == "started"
    return parent, int(said[1])


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_no_process_outlives_a_killed_parent() -> None:
    """Kill -9 of the service ends child, its processes in other sessions, and the guardian itself."""
    parent, _ = start_parent()
    below = psutil.Process(parent.pid).children(recursive=True)
    assert len(below) >= 4, "child, its two processes, guardian"
    parent.kill()
    parent.wait(PATIENCE_SECONDS)
    wait_until(lambda: not alive(below), "the end of everything below the parent")


def test_a_killed_guardian_is_replaced_and_knows_what_runs() -> None:
    """After the guardian was killed, another one guards the groups that ran already."""
    parent, first = start_parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive([psutil.Process(first)]), "the guardian's death")
    parent.stdin.write("check\n")
    parent.stdin.flush()
    second = int(next(line for line in parent.stdout if line.startswith("checked")).split()[1])
    assert second != first
    below = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait(PATIENCE_SECONDS)
    wait_until(lambda: not alive(below), "the end of everything below the parent")


def test_the_guardian_outlives_the_signals_that_end_a_service() -> None:
    """SIGTERM and SIGINT to everybody do not end the guardian before its work begins."""
    parent, guardian = start_parent()
    os.kill(guardian, signal.SIGTERM)
    os.kill(guardian, signal.SIGINT)
    below = psutil.Process(parent.pid).children(recursive=True)
    assert guardian in {one.pid for one in alive(below)}
    parent.kill()
    parent.wait(PATIENCE_SECONDS)
    wait_until(lambda: not alive(below), "the end of everything below the parent")
