"""The settings reference is written from the settings classes.

``python tests/unit/test_docs_settings.py`` writes it anew; the tests below only compare.
"""

import ast
import difflib
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compute_service.settings import ComputeSettings
from contracts.settings import ServiceSettings
from gateway.settings import GatewaySettings
from local_stack.services import QUICK_STOP
from local_stack.settings import StackSettings
from results_service.notifier.settings import NotifierSettings
from results_service.settings import ResultsSettings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "settings.md"
PACKAGES = ("contracts", "gateway", "compute_service", "results_service", "local_stack")

HEAD = """\
# Settings

Every setting is an environment variable. This page is written from the settings classes by
`.venv/bin/python tests/unit/test_docs_settings.py`; a test compares the two.

A value that cannot work stops the service at its start, with one sentence per variable. Unknown
variables are ignored. Durations are seconds unless the name says otherwise.
"""
LOCAL_STACK = f"""\
Read by `make run` and `make demo`. All other variables of the environment reach the services as they are.
Where they are not set, the local stack sets `PUBLIC_URL` to its own address, `LOG_FORMAT=console`,
`MAIL_ALLOW=*` (with its own sink only), {", ".join(f"`{name}={value}`" for name, value in QUICK_STOP.items())}."""
SECTIONS: tuple[tuple[type[ServiceSettings], str, str], ...] = (
    (ServiceSettings, "Every service", "Gateway, compute service, results service and notifier read these."),
    (GatewaySettings, "Gateway", "Read by gunicorn's configuration and by each of its processes."),
    (ComputeSettings, "Compute service", ""),
    (ResultsSettings, "Results service", ""),
    (NotifierSettings, "Notifier", "It uses the same MongoDB as the results service."),
    (StackSettings, "Local stack", LOCAL_STACK),
)
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}
TAIL = """\
## Command line and client library

| variable | type | default | meaning |
|---|---|---|---|
| `COATCHECK_URL` | text | `http://127.0.0.1:8000/api/v1` | The API that `coatcheck` and `client.Coatcheck` speak to, \
unless they are given another. |

## Nameko's own settings

`config.yaml` beside each Nameko service takes `AMQP_URI` and `HEARTBEAT` from the same variables, with the same
defaults. Nothing else has to be set there.
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, title, about in SECTIONS:
        rows = [
            f"| `{name.upper()}` | {type_of(field)} | {default_of(field)} | {meaning} |"
            for name, field, meaning in own_fields(kind)
        ]
        intro = f"{about}\n\n" if about else ""
        table = "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"## {title}\n\n{intro}{table}\n")
    return "\n".join([*parts, TAIL])


def own_fields(kind: type[ServiceSettings]) -> Iterator[tuple[str, FieldInfo, str]]:
    """The fields that *kind* itself declares, with what stands under them."""
    meanings = docstrings(kind)
    for name in kind.__annotations__:
        if name in kind.model_fields:
            yield name, kind.model_fields[name], meanings.get(name, "")


def docstrings(kind: type[ServiceSettings]) -> dict[str, str]:
    """Attribute docstrings, as one line of Markdown each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            text = " ".join(str(following.value.value).split())
            found[statement.target.id] = text.replace("``", "`").replace("|", "\\|")
    return found


def type_of(field: FieldInfo) -> str:
    """What may be given, in words."""
    kind = plain(field.annotation)
    if typing.get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    names = {int: "whole number", float: "number", str: "text", SecretStr: "URI", Path: "path"}
    word = names.get(kind, "URL")
    limits = [text for limit in field.metadata if (text := bound(limit))]
    return ", ".join([word, *limits])


def plain(annotation: Any) -> Any:
    """*annotation* without ``None`` and without metadata."""
    while arguments := [one for one in typing.get_args(annotation) if one is not type(None)]:
        if typing.get_origin(annotation) is Literal:
            break
        annotation = arguments[0]
    return annotation


def bound(limit: object) -> str:
    """One bound of a number or a text."""
    for name, words in BOUNDS.items():
        if hasattr(limit, name):
            return f"{words} {getattr(limit, name)}"
    pattern = getattr(limit, "pattern", None)
    return f"`{pattern}`" if pattern else ""


def default_of(field: FieldInfo) -> str:
    """The default as it would be written in the environment."""
    value = field.default
    if value is PydanticUndefined:
        return "computed"
    if value is None:
        return "none"
    if isinstance(value, SecretStr):  # a default is no secret
        value = value.get_secret_value()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`" if str(value) else "empty"


def test_page_is_current() -> None:
    """docs/reference/settings.md says what the classes say."""
    found, wanted = PAGE.read_text(), render()
    difference = "\n".join(
        difflib.unified_diff(
            found.splitlines(), wanted.splitlines(), "the page", "the classes", "", "", lineterm="", n=0
        )
    )
    assert found == wanted, f"Run .venv/bin/python {Path(__file__).relative_to(ROOT)}:\n{difference}"


def test_every_settings_class_is_on_the_page() -> None:
    """A settings class that the page does not know would be found in its module."""
    declared = {
        node.name
        for package in PACKAGES
        for module in (ROOT / package).rglob("settings.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "").endswith("Settings") for base in node.bases)
    }
    assert declared == {kind.__name__ for kind, _, _ in SECTIONS}


def test_every_setting_has_a_meaning() -> None:
    """No field of any settings class is without its docstring line."""
    silent = [
        f"{kind.__name__}.{name}" for kind, _, _ in SECTIONS for name, _, meaning in own_fields(kind) if not meaning
    ]
    assert silent == []


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render())
