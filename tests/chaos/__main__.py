"""Command line: ``python -m tests.chaos --seed 7 --seconds 60``; exit code 1 if a promise was broken."""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos import checker, report
from tests.chaos.run import run

BROKEN_OFF = 130


def parse() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; random if it is not given")
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds in a row")
    parser.add_argument("--seconds", type=float, default=300.0, help="torment per seed")
    parser.add_argument("--table", type=Path, help="a file for the table, written anew after each seed")
    parser.add_argument("--folder", type=Path, help="where the data and logs of failed seeds stay")
    return parser.parse_args()


async def main(arguments: argparse.Namespace) -> int:
    """Run the seeds one after the other; answers the exit code."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    first = arguments.seed if arguments.seed is not None else random.randrange(1, 1_000_000)  # noqa: S311 -- no secret
    base = arguments.folder or Path(tempfile.mkdtemp(prefix="coatcheck-chaos-"))
    rows: list[report.Row] = []
    for seed in range(first, first + arguments.seeds):
        print(f"Seed {seed} ({len(rows) + 1} of {arguments.seeds})", flush=True)
        folder = base / f"seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            evidence = await run(seed, arguments.seconds, folder)
        except asyncio.CancelledError:
            shutil.rmtree(base if arguments.folder is None else folder, ignore_errors=True)
            raise
        violations = checker.check(evidence)
        rows.append(report.row(evidence, violations))
        if violations:
            story = folder / "failure.txt"
            story.write_text(report.failure(evidence, violations, most_jobs=len(violations)))
            print(report.failure(evidence, violations))
            print(f"All of it is in {story}, the logs are beside it. Again: --seed {seed}", flush=True)
        else:
            shutil.rmtree(folder)
        if arguments.table is not None:
            report.write(arguments.table, rows)
        print(report.table(rows), flush=True)
    with contextlib.suppress(OSError):
        base.rmdir()
    return int(any(one.violations for one in rows))


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parse())))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(BROKEN_OFF)
