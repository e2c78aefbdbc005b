"""`python -m bench`: measure, print, keep."""

import argparse
import dataclasses
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from bench import compare, counter, machine, processes, report, speedup
from bench.drive import LoadFailed
from bench.scale import FULL, QUICK, Scale
from bench.sides import Coatcheck, Pipeline
from bench.table import Table
from local_stack.problems import StackProblem

RESULTS = Path(__file__).resolve().parent / "results"
STAGES = ("compare", "speedup", "counter")


def main() -> int:
    """Run the stages that were asked for; 0 when all could be measured."""
    arguments = parse()
    scale = QUICK if arguments.quick else FULL
    if arguments.repetitions:
        scale = dataclasses.replace(scale, repetitions=arguments.repetitions)
    signal.signal(signal.SIGTERM, _interrupt)
    processes.adopt_orphans()
    try:
        with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder:
            found, tables = measure(scale, [arguments.only] if arguments.only else list(STAGES), Path(folder))
    except (StackProblem, LoadFailed) as error:
        print(f"\nThe bench cannot go on: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nBroken off; nothing was kept.", file=sys.stderr)
        return 130
    finally:
        processes.end_descendants()
    name = "-".join(filter(None, ("quick" if arguments.quick else "", arguments.only or "bench")))
    paths = report.write(arguments.results, name, found, tables)
    print("\n" + "\n".join(table.text() for table in tables))
    print("Kept in " + " and ".join(map(str, paths)))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it works, measures nothing")
    parser.add_argument("--only", choices=STAGES, help="run one stage")
    parser.add_argument("--repetitions", type=int, help=f"starts of each side in compare (default {FULL.repetitions})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that keeps the results")
    return parser.parse_args()


def measure(scale: Scale, stages: list[str], folder: Path) -> tuple[dict[str, Any], list[Table]]:
    """Run *stages* with their data below *folder*."""
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(folder),
        "scale": dataclasses.asdict(scale),
        "stages": {},
    }
    tables: list[Table] = []
    for stage in stages:
        if stage == "compare":
            result = compare.run(scale, folder, lambda: Coatcheck(scale.slots), lambda: Pipeline(scale.slots))
            tables += compare.tables(result)
        elif stage == "speedup":
            result = speedup.run(scale, folder)
            tables += speedup.tables(result)
        else:
            result = counter.run(scale, folder / "counter")
            tables += counter.tables(result)
        found["stages"][stage] = result
    found["versions"] = machine.versions(folder)
    return found, tables


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
