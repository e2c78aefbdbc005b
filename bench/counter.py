"""The counter stays quick while CPU-bound jobs occupy every slot, and no worker loses its broker connection."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.compare import plan
from bench.drive import LoadFailed, drive
from bench.figures import figure, percentile
from bench.load import ACCEPTED
from bench.progress import Progress
from bench.scale import Scale
from bench.sides import Coatcheck, Target
from bench.speedup import TASK_MODULES
from bench.table import Table
from bench.wire import Connection

WANTED_MS = 50.0
"""What the 99th percentile should stay under."""

BROKER_LOG = "rabbitmq.log"
LOST_BY_SERVICE = re.compile(r"broker_lost|broker_error|Connection to broker lost|Error connecting to broker")
"""What our own client and Nameko's consumers log when their connection is gone."""
LOST_BY_BROKER = re.compile(r"missed heartbeats from client|client unexpectedly closed TCP connection|\[error\].*AMQP")
"""What RabbitMQ logs about connections that ended in any way but a goodbye."""


def run(scale: Scale, folder: Path) -> dict[str, Any]:
    """Ask for jobs at an even rate until those that burn have ended; then read what the logs say."""
    side = Coatcheck(scale.slots, {"TASK_MODULES": TASK_MODULES, "HEARTBEAT": str(scale.heartbeat)})
    title = f"Counter while {scale.long_jobs} jobs burn CPU in {scale.slots} slots"
    try:
        with Progress(f"{title}: start") as progress:
            target = side.start(folder, progress)
        with Progress(f"{title}: warm-up") as progress:
            drive(plan(target, "throughput", jobs=scale.warm_up_jobs, clients=2), progress)
        logs = sorted(side.logs.glob("*.log"))
        marks = {log: log.stat().st_size for log in logs}
        with Progress(title) as progress:
            pids = [_submit(target, scale.long_milliseconds) for _ in range(scale.long_jobs)]
            seconds = drive(plan(target, "steady", rate=scale.rate, pids=pids), progress)["seconds"]
            lasted = progress.seconds
        lost = [line for log in logs for line in lost_connections(log.name, _since(log, marks[log]))]
    finally:
        with Progress(f"{title}: stop"):
            side.stop()
    return {
        "jobs": scale.long_jobs,
        "milliseconds": scale.long_milliseconds,
        "slots": scale.slots,
        "heartbeat_seconds": scale.heartbeat,
        "requests_per_second": scale.rate,
        "requests": len(seconds),
        "seconds": lasted,
        "get_ms": {f"p{share}": percentile(seconds, share) * 1000 for share in (50, 99, 100)},
        "wanted_ms_p99": WANTED_MS,
        "logs_read": [log.name for log in logs],
        "lost_connections": lost,
    }


def lost_connections(log: str, lines: Iterable[str]) -> list[str]:
    """The lines of the log named *log* that tell of a broken broker connection."""
    pattern = LOST_BY_BROKER if log == BROKER_LOG else LOST_BY_SERVICE
    return [f"{log}: {line.strip()}" for line in lines if pattern.search(line)]


def _since(log: Path, mark: int) -> list[str]:
    with log.open("rb") as lines:
        lines.seek(mark)
        return lines.read().decode(errors="replace").splitlines()


def _submit(target: Target, milliseconds: int) -> str:
    body = json.dumps({"task": "burn", "params": {"milliseconds": milliseconds}}).encode()
    with Connection(target.host, target.port) as connection:
        status, answer = connection.json("POST", target.jobs_path, body)
    if status != ACCEPTED:
        raise LoadFailed(f"A submission was answered with {status}: {answer}")
    return str(answer["pid"])


def tables(result: dict[str, Any]) -> list[Table]:
    """Latency, and how many connections were lost."""
    p99 = result["get_ms"]["p99"]
    rows = [
        ("GET /jobs/{pid}, p50 ms", figure(result["get_ms"]["p50"])),
        (f"GET /jobs/{{pid}}, p99 ms (wanted: under {result['wanted_ms_p99']:g})", figure(p99)),
        ("GET /jobs/{pid}, slowest, ms", figure(result["get_ms"]["p100"])),
        ("requests", f"{result['requests']:,}"),
        ("broker connections lost", str(len(result["lost_connections"]))),
    ]
    title = (
        f"The counter while {result['jobs']} jobs of {result['milliseconds'] / 1000:g} s of CPU "
        f"share {result['slots']} slots, HEARTBEAT={result['heartbeat_seconds']}"
    )
    return [Table(title=title, header=("", "measured"), rows=rows, notes=result["lost_connections"][:10])]
