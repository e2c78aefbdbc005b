"""Runs the load generator beside the bench and listens to it."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bench.load import Plan
from bench.progress import Progress

END_SECONDS = 5.0


class LoadFailed(Exception):
    """The load generator met something that makes its numbers worthless."""


def drive(plan: Plan, progress: Progress, at_finish: Callable[[], None] | None = None) -> dict[str, Any]:
    """Carry *plan* out in a process of its own and return its result.

    *at_finish* is called when the last job has ended, before the generator checks them all.
    Raises `LoadFailed`.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            return _listen(process, plan, progress, at_finish)
        finally:
            process.kill()


def _listen(
    process: "subprocess.Popen[str]", plan: Plan, progress: Progress, at_finish: Callable[[], None] | None
) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise LoadFailed("The load generator has no pipes.")
    process.stdin.write(json.dumps(dataclasses.asdict(plan)) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        event = json.loads(line)
        match event.pop("event"):
            case "progress":
                progress.say(f"{event['what']} {event['done']} of {event['total']}")
            case "finished":
                if at_finish is not None:
                    at_finish()
                process.stdin.write("\n")
                process.stdin.flush()
            case "result":
                process.wait(END_SECONDS)
                return dict(event)
            case "failed":
                raise LoadFailed(event["reason"])
    raise LoadFailed(f"The load generator ended with exit code {process.wait(END_SECONDS)}.")
