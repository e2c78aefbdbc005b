"""The reference pages name everything that there is, and nothing else."""

import argparse
import ast
import re
from pathlib import Path

from client import cli
from contracts import topology
from contracts.errors import CoatcheckError
from contracts.status import ErrorKind, NotificationState, NotifyOn, Priority
from gateway import swagger
from gateway.links import PREFIX
from gateway.submissions import Options

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
API = (REFERENCE / "api.md").read_text()
ERRORS = (REFERENCE / "errors.md").read_text()
CLI = (REFERENCE / "cli.md").read_text()
MESSAGES = (REFERENCE / "messages.md").read_text()
UNDOCUMENTED_IN_SWAGGER = {"/problems/{name}"}
"""Pages for people."""


def section(text: str, heading: str) -> str:
    """What stands under *heading*, up to the next one."""
    return re.split(r"^#+ ", text.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows."""
    return [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines() if line.startswith("| ")
    ]


def kinds(base: type[CoatcheckError] = CoatcheckError) -> list[type[CoatcheckError]]:
    """Every error class."""
    return [base, *(found for child in base.__subclasses__() for found in kinds(child))]


def test_api_names_every_address_and_its_answers() -> None:
    """Methods, paths and status codes are those of the Swagger document, 405 and 406 aside."""
    named = {}
    for row in rows(API):
        if match := re.fullmatch(r"([A-Z]+) `(/[^`]*)`", row[0]):
            named[match[1].lower(), match[2]] = set(re.findall(r"\d{3}", row[-1]))
    document = swagger.build([])["paths"]
    served = {
        (method, path.removeprefix(PREFIX)): set(operation["responses"]) - {"405", "406"}
        for path, operations in document.items()
        for method, operation in operations.items()
    }
    served["post", "/tasks/{task}/jobs"] = served["post", "/jobs"]  # the document has it once per task
    assert {key: codes for key, codes in named.items() if key[1] not in UNDOCUMENTED_IN_SWAGGER} == served


def test_api_names_every_option() -> None:
    """The table of options has exactly the fields of a submission."""
    assert {row[0].strip("`") for row in rows(section(API, "Submitting"))[1:] if row[0].startswith("`")} == set(
        Options.model_fields
    )


def test_api_names_every_kind_of_error() -> None:
    """The table of `error.kind` is the enum."""
    table = section(API, "`error.kind`")
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(ErrorKind)


def test_api_names_closed_vocabularies() -> None:
    """Priorities and moments are those of the enums."""
    text = section(API, "Submitting")
    for word in (*Priority, *NotifyOn):
        assert f"`{word}`" in text


def test_errors_are_all_there() -> None:
    """Name, status and title of every problem type."""
    named = {row[0].strip("`"): (row[1], row[2]) for row in rows(ERRORS)[1:]}
    assert named == {kind.problem: (str(kind.status), kind.title) for kind in kinds()}


def test_cli_names_every_command_and_option() -> None:
    """Commands and their options are those of the parser."""
    parser = cli._parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {row[0].strip("`").split()[0] for row in rows(CLI.partition("## Params")[0])[1:]} == set(commands)
    named = {row[0].strip("`"): set(re.findall(r"--[a-z-]+", row[1])) for row in rows(section(CLI, "Options"))[1:]}
    assert named == {
        name: found
        for name, command in commands.items()
        if (found := {o for a in command._actions for o in a.option_strings if o.startswith("--")} - {"--help"})
    }


def test_messages_name_the_wiring() -> None:
    """Exchanges, queues, keys and bounds are those of `contracts.topology`."""
    assert [(row[0].strip("`"), row[1].partition(",")[0]) for row in rows(section(MESSAGES, "Exchanges"))[1:]] == list(
        topology.EXCHANGES
    )
    for word in (
        topology.doorbell_queue("<pool>"),
        topology.ledger_queue("<method>"),
        topology.JOBS_CHANGED,
        topology.worker_key("<worker_id>"),
        topology.NOTIFICATION_DUE,
        topology.CATALOGUE_CHANGED,
        topology.PROBE,
        f"`x-max-length` {topology.DOORBELL_BOUND}",
        f"`{topology.DEAD_LETTERS}`, durable, with `x-max-length`\n{topology.DEAD_LETTER_BOUND}",
        f"`x-max-length-bytes` {topology.DEAD_LETTER_BYTES}",
        topology.NOTIFIER_QUEUE,
        topology.RESULTS_QUEUE,
    ):
        assert word in MESSAGES


def test_messages_name_every_method() -> None:
    """The methods of the results service are those that the pages list."""
    named = {row[0].strip("`") for row in rows(section(MESSAGES, "`ledger`: served in batches"))[1:]}
    assert named == set(topology.LEDGER_METHODS)
    named |= {row[0].strip("`") for row in rows(section(MESSAGES, "`results`: plain Nameko RPC"))[1:]}
    module = ast.parse((REFERENCE.parents[1] / "results_service" / "service.py").read_text())
    served = {
        method.name
        for method in ast.walk(module)
        if isinstance(method, ast.FunctionDef)
        and re.search(r"batch|rpc", "".join(map(ast.unparse, method.decorator_list)))
    }
    assert named == served


def test_mail_states_are_all_there() -> None:
    """The how-to names every state of a mail."""
    page = (REFERENCE.parent / "how-to" / "be-told-by-mail.md").read_text()
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == list(NotificationState)
