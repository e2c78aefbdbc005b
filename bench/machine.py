"""Which machine, which versions, which commit: without them a number means nothing."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from local_stack.mongodb import find_mongod

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = (
    "celery",
    "kombu",
    "amqp",
    "nameko",
    "eventlet",
    "pika",
    "pymongo",
    "flask",
    "flask-restx",
    "gunicorn",
    "werkzeug",
    "pydantic",
)
ASK_SECONDS = 10.0
STARTED = re.compile(r"Starting RabbitMQ (\S+) on Erlang (\S+)")


def machine(folder: Path) -> dict[str, Any]:
    """The hardware, the kernel, and the kind of file system that holds the data in *folder*."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "data_on": _ask("stat", "--file-system", "--format", "%T", str(folder)),
        "system": system.get("PRETTY_NAME", platform.system()),
    }


def versions(folder: Path) -> dict[str, str]:
    """Python, the servers that ran on data below *folder*, and the packages that both sides stand on."""
    found = {"python": platform.python_version()}
    mongod = re.search(r"db version v(\S+)", _ask(find_mongod(), "--version"))
    found["mongod"] = mongod.group(1) if mongod else "unknown"
    for log in folder.glob("*/log/rabbitmq.log"):
        if started := STARTED.search(log.read_text(errors="replace")):
            found["rabbitmq"], found["erlang"] = started.groups()
    return found | {name: metadata.version(name) for name in PACKAGES}


def commit() -> str:
    """The commit that ran, ``+`` after it when tracked files were changed; ``unknown`` outside git."""
    found = _ask("git", "rev-parse", "--short=12", "HEAD")
    if not found:
        return "unknown"
    return found + ("+" if _ask("git", "status", "--porcelain", "--untracked-files=no") else "")


def _ask(*command: str) -> str:
    """What *command* prints; empty if it fails or there is no such program."""
    try:
        done = subprocess.run(  # noqa: S603 -- commands are ours
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
