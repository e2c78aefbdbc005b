"""CPU-bound jobs at one slot and at two: slots are processes, so two cores do twice the work."""

from pathlib import Path
from typing import Any

from bench.compare import plan
from bench.drive import drive
from bench.figures import figure
from bench.progress import Progress
from bench.scale import Scale
from bench.sides import Coatcheck
from bench.table import Table

TASK_MODULES = "compute_service.tasks,bench.tasks"
SLOTS = (1, 2)
CLIENTS = 4


def run(scale: Scale, folder: Path) -> dict[str, Any]:
    """Jobs per second at each number of slots, and the ratio."""
    rates = {slots: _rate(scale, folder / f"slots-{slots}", slots) for slots in SLOTS}
    return {
        "milliseconds": scale.burn_milliseconds,
        "jobs": scale.burn_jobs,
        "jobs_per_second": rates,
        "speed_up": rates[SLOTS[1]] / rates[SLOTS[0]],
    }


def _rate(scale: Scale, folder: Path, slots: int) -> float:
    side = Coatcheck(slots, {"TASK_MODULES": TASK_MODULES})
    title = f"{scale.burn_milliseconds} ms of CPU a job, slots: {slots}"
    try:
        with Progress(f"{title}: start") as progress:
            target = side.start(folder, progress)
        body = {"task": "burn", "params": {"milliseconds": scale.burn_milliseconds}}
        with Progress(f"{title}: warm-up") as progress:
            drive(plan(target, "throughput", jobs=slots * 2, clients=1, body=body), progress)
        with Progress(f"{title}: {scale.burn_jobs} jobs") as progress:
            load = plan(target, "throughput", jobs=scale.burn_jobs, clients=CLIENTS, body=body)
            seconds: float = drive(load, progress)["seconds"]
        return scale.burn_jobs / seconds
    finally:
        with Progress(f"{title}: stop"):
            side.stop()


def tables(result: dict[str, Any]) -> list[Table]:
    """One row per number of slots."""
    rows = [(f"{slots}", figure(rate)) for slots, rate in result["jobs_per_second"].items()]
    rows.append(("speed-up", figure(result["speed_up"])))
    title = f"{result['jobs']} jobs of {result['milliseconds']} ms of CPU each"
    return [Table(title=title, header=("slots", "jobs/s"), rows=rows)]
