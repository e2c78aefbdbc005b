"""The command line: ``coatcheck submit bmi name=Ada weight_kg=70 height_cm=175 --wait``."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from client.api import Coatcheck
from client.arguments import BadArgument, params_from
from client.errors import ClientError
from client.progress import Watch, describe

ENDED_BADLY = 1
INTERRUPTED = 130
PID_WIDTH = 36
"""A pid is for copying: it is never cut."""
MOMENTS = ("accepted", "succeeded", "failed", "cancelled")

Command = Callable[[Coatcheck, argparse.Namespace, Console], int]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 if the service refused or the job did not succeed, or 2 for a wrong command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    command: Command = arguments.command
    try:
        with Coatcheck(arguments.url) as service:
            return command(service, arguments, Console(highlight=False))
    except BadArgument as error:
        parser.error(str(error))
    except ClientError as error:
        print(f"coatcheck: {error}", file=sys.stderr)
        return ENDED_BADLY
    except KeyboardInterrupt:
        return INTERRUPTED


def submit(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """Hand a job in."""
    schema = service.task(arguments.task)["params_schema"]
    options: dict[str, Any] = {
        name: value
        for name in ("reference", "priority", "not_before", "max_attempts", "time_limit", "retention_days")
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.tag:
        options["tags"] = arguments.tag
    if arguments.email:
        options["notify"] = {"email": arguments.email, **({"on": arguments.on} if arguments.on else {})}
    ticket = service.submit(
        arguments.task,
        params_from(arguments.params, schema),
        idempotency_key=arguments.idempotency_key,
        **options,
    )
    if not arguments.wait:
        _print(ticket if arguments.json else f"{ticket['pid']}  {ticket['status']}", console)
        return 0
    return _wait(service, ticket["pid"], arguments, console)


def wait(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """Watch a job until it has ended."""
    return _wait(service, arguments.pid, arguments, console)


def show_tasks(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """What can be asked for."""
    tasks = service.tasks()
    if arguments.json:
        _print(tasks, console)
        return 0
    table = Table("task", "served", "what it does", "an example")
    for task in tasks:
        example = " ".join(f"{name}={_text(value)}" for name, value in task["example"].items())
        table.add_row(task["name"], "yes" if task["serving"] else "no", task["description"], _short(example))
    console.print(table)
    return 0


def show_job(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """One job."""
    _print(service.job(arguments.pid), console)
    return 0


def show_latest(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """The newest job."""
    _print(service.latest(task=arguments.task, status=arguments.status), console)
    return 0


def show_result(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """A result alone."""
    _print(service.result(arguments.pid), console)
    return 0


def show_list(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """Jobs, newest first."""
    filters = {name: getattr(arguments, name) for name in ("status", "task", "tag", "reference")}
    size = min(arguments.limit, 200)
    jobs = list(islice(service.jobs(page_size=size, **filters), arguments.limit))
    if arguments.json:
        _print(jobs, console)
        return 0
    table = Table(Column("pid", no_wrap=True, min_width=PID_WIDTH), "task", "where it stands", "created", "reference")
    for job in jobs:
        table.add_row(job["pid"], job["task"], describe(job), job["created_at"], job["reference"] or "")
    console.print(table)
    return 0


def cancel(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """Stop a job."""
    ticket = service.cancel(arguments.pid)
    _print(ticket if arguments.json else ticket["message"], console)
    return 0


def retry(service: Coatcheck, arguments: argparse.Namespace, console: Console) -> int:
    """Run a failed or cancelled job again."""
    ticket = service.retry(arguments.pid)
    if arguments.wait:
        return _wait(service, arguments.pid, arguments, console)
    _print(ticket if arguments.json else ticket["message"], console)
    return 0


def delete(service: Coatcheck, arguments: argparse.Namespace, _console: Console) -> int:
    """Forget a job."""
    service.delete(arguments.pid)
    return 0


def _wait(service: Coatcheck, pid: str, arguments: argparse.Namespace, console: Console) -> int:
    with Watch(Console(stderr=True)) as watch:
        job = service.wait(pid, timeout_seconds=arguments.timeout, on_change=watch.show)
    succeeded = job["status"] == "succeeded"
    if arguments.json:
        _print(job, console)
    elif succeeded:
        _print(job["result"], console)
    else:
        reason = f": {job['error']['message']}" if job["error"] else ""
        print(f"coatcheck: job {pid} {job['status']}{reason}", file=sys.stderr)
    return 0 if succeeded else ENDED_BADLY


def _print(value: Any, console: Console) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    console.print(text, markup=False, soft_wrap=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, limit: int = 120) -> str:
    line = text.replace("\n", "\\n")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("has to be a number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coatcheck", description="Hand slow work in, collect the result later.")
    parser.add_argument("--url", help="the API (default: COATCHECK_URL, else http://127.0.0.1:8000/api/v1)")
    parser.add_argument("--json", action="store_true", help="print what the API answers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        for argument in positional:
            sub.add_argument(argument)
        return sub

    add("tasks", show_tasks)
    one = add("submit", submit, "task")
    one.add_argument("params", nargs="*", metavar="name=value", help="@file for the content of a file")
    one.add_argument("--email", help="whom to tell")
    one.add_argument("--on", action="append", choices=MOMENTS, help="when to tell; may be repeated")
    one.add_argument("--reference", help="your own number for the job")
    one.add_argument("--tag", action="append", help="may be repeated")
    one.add_argument("--priority", choices=("low", "normal", "high"))
    one.add_argument("--not-before", help="RFC 3339 time")
    one.add_argument("--max-attempts", type=_positive)
    one.add_argument("--time-limit", type=float, help="seconds")
    one.add_argument("--retention-days", type=float, help="how long to keep the job after its end")
    one.add_argument("--idempotency-key", help="the same key gives the same job")
    again = add("retry", retry, "pid")
    for handing_in in (one, again):
        handing_in.add_argument("--wait", action="store_true", help="watch the job and print its result")
    for waiting in (one, again, add("wait", wait, "pid")):
        waiting.add_argument("--timeout", type=float, help="stop watching after so many seconds")
    add("job", show_job, "pid")
    add("result", show_result, "pid")
    add("cancel", cancel, "pid")
    add("delete", delete, "pid")
    listing = add("list", show_list)
    listing.add_argument("--limit", type=_positive, default=20)
    for name in ("tag", "reference"):
        listing.add_argument(f"--{name}")
    for filtered in (listing, add("latest", show_latest)):
        filtered.add_argument("--task")
        filtered.add_argument("--status", choices=("pending", "running", "succeeded", "failed", "cancelled"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
