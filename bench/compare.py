"""The same no-op jobs, one by one over HTTP, through Coatcheck and through the pipeline people build today."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import processes
from bench.drive import drive
from bench.figures import Spread, figure, percentile, ratio
from bench.load import Plan
from bench.progress import Progress
from bench.scale import Scale
from bench.sides import Side, Target
from bench.table import Table

BODY = {"task": "bmi", "params": {"name": "Ada", "weight_kg": 62.5, "height_cm": 171.0, "delay_seconds": 0}}
MIB = 2**20

MEASURES = (
    ("jobs_per_second", "jobs/s, end to end"),
    ("cpu_ms_per_job", "CPU ms per job, all processes"),
    ("result_ms_p50", "submit to result, p50 ms"),
    ("result_ms_p99", "submit to result, p99 ms"),
    ("accept_ms_p50", "submit to 202, p50 ms"),
    ("accept_ms_p99", "submit to 202, p99 ms"),
    ("memory_mib", "memory at rest, MiB"),
    ("rest_cpu_ms_per_second", "CPU at rest, ms per s"),
)


def run(scale: Scale, folder: Path, ours: Callable[[], Side], theirs: Callable[[], Side]) -> dict[str, Any]:
    """Measure both sides *scale.repetitions* times, never at the same moment; the sides take turns at going first."""
    repetitions: dict[str, list[dict[str, Any]]] = {}
    settings: dict[str, Any] = {}
    for number in range(scale.repetitions):
        pair = [ours(), theirs()]
        for side in pair if number % 2 == 0 else reversed(pair):
            title = f"{side.name}, {number + 1} of {scale.repetitions}"
            found = measure(side, scale, folder / f"{side.name}-{number}", title)
            repetitions.setdefault(side.name, []).append(found)
            settings[side.name] = side.settings
    return result_of(repetitions, settings, [side.name for side in pair])


def result_of(
    repetitions: dict[str, list[dict[str, Any]]], settings: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    """What is kept: all repetitions, their medians and spreads, and the ratios of the first side to the second."""
    summary = {name: summarize(found) for name, found in repetitions.items()}
    return {
        "sides": names,
        "settings": settings,
        "body": BODY,
        "repetitions": repetitions,
        "summary": {name: {m: dataclasses.asdict(s) for m, s in found.items()} for name, found in summary.items()},
        "ratios": {m: ratio(*(summary[name][m].median for name in names)) for m, _ in MEASURES},
    }


def measure(side: Side, scale: Scale, folder: Path, title: str) -> dict[str, Any]:
    """Start one side on fresh data, measure it, stop it."""
    try:
        with Progress(f"{title}: start") as progress:
            target = side.start(folder, progress)
        with Progress(f"{title}: warm-up") as progress:
            drive(plan(target, "throughput", jobs=scale.warm_up_jobs, clients=scale.clients), progress)
        with Progress(f"{title}: at rest") as progress:
            found = rest(scale.rest_seconds, progress)
        with Progress(f"{title}: {scale.jobs} jobs from {scale.clients} connections") as progress:
            found |= throughput(target, scale, progress)
        with Progress(f"{title}: {scale.sequential_jobs} jobs one after another") as progress:
            found |= latency(target, scale, progress)
        return found
    finally:
        with Progress(f"{title}: stop"):
            side.stop()


def rest(seconds: float, progress: Progress) -> dict[str, Any]:
    """Memory, and CPU spent on nothing."""
    before = processes.cpu_seconds()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress.say("")
        time.sleep(min(left, 0.5))
    idle = processes.spent(before, processes.cpu_seconds())
    memory = processes.memory_bytes()
    return {
        "memory_mib": processes.inside(memory) / MIB,
        "memory_mib_by_role": {role: size / MIB for role, size in memory.items()},
        "rest_cpu_ms_per_second": processes.inside(idle) * 1000 / seconds,
        "rest_cpu_ms_per_second_by_role": {role: spent * 1000 / seconds for role, spent in idle.items()},
    }


def throughput(target: Target, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Jobs per second from the first POST to the last end, and the CPU time that took."""
    readings = [processes.cpu_seconds()]
    result = drive(
        plan(target, "throughput", jobs=scale.jobs, clients=scale.clients),
        progress,
        lambda: readings.append(processes.cpu_seconds()),
    )
    cpu = processes.spent(readings[0], readings[1])
    return {
        "jobs_per_second": scale.jobs / result["seconds"],
        "accepted_per_second": scale.jobs / result["accept_seconds"],
        "ended_after_the_clock_stopped": result["stragglers"],
        "cpu_ms_per_job": processes.inside(cpu) * 1000 / scale.jobs,
        "cpu_ms_per_job_by_role": {role: spent * 1000 / scale.jobs for role, spent in cpu.items()},
    }


def latency(target: Target, scale: Scale, progress: Progress) -> dict[str, Any]:
    """How long one client waits for 202 and for the result when nobody else is there."""
    result = drive(plan(target, "latency", jobs=scale.sequential_jobs, poll_seconds=scale.poll_seconds), progress)
    return {
        f"{what}_ms_p{share}": percentile(result[key], share) * 1000
        for what, key in (("accept", "accept_seconds"), ("result", "end_seconds"))
        for share in (50, 99)
    }


def plan(target: Target, mode: str, **members: Any) -> Plan:
    """A plan for the load generator against *target*; the body is a no-op job unless told otherwise."""
    return Plan(
        mode=mode,
        host=target.host,
        port=target.port,
        jobs_path=target.jobs_path,
        succeeded=target.succeeded,
        ended=list(target.ended),
        **{"body": BODY, **members},
    )


def summarize(found: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    """Median and spread of every measure over the repetitions."""
    return {measure: Spread.of([one[measure] for one in found]) for measure, _ in MEASURES}


def tables(result: dict[str, Any]) -> list[Table]:
    """The comparison, and where each side's CPU time and memory go."""
    names = result["sides"]
    rows = []
    for measure, label in MEASURES:
        share = result["ratios"][measure]
        spreads = [str(Spread(**result["summary"][name][measure])) for name in names]
        rows.append((label, *spreads, "" if share is None else f"{figure(share)} x"))
    notes = [
        "Median over the repetitions (lowest-highest). The last column is Coatcheck over the peer.",
        "Not in the sums: " + ", ".join(sorted(processes.OUTSIDE)) + ".",
    ]
    compared = Table(title="No-op jobs over HTTP", header=("", *names, "ratio"), rows=rows, notes=notes)
    return [compared, *(_by_role(name, result["repetitions"][name]) for name in names)]


def _by_role(name: str, found: Sequence[dict[str, Any]]) -> Table:
    keys = ("cpu_ms_per_job_by_role", "memory_mib_by_role", "rest_cpu_ms_per_second_by_role")
    roles = sorted({role for one in found for key in keys for role in one[key]} - {"other", "load generator"})
    rows = []
    for role in roles:
        medians = (Spread.of([one[key].get(role, 0.0) for one in found]).median for key in keys)
        rows.append((role, *map(figure, medians)))
    header = ("", "CPU ms per job", "memory at rest, MiB", "CPU at rest, ms per s")
    note = "A process that ended meanwhile (a child that was replaced) counts for its parent."
    return Table(title=f"Where it goes: {name}", header=header, rows=rows, notes=[note])
