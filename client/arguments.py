"""From ``name=value`` on a command line to the params of a task."""

import json
from pathlib import Path
from typing import Any


class BadArgument(ValueError):
    """The command line does not say what was meant; the message does."""


def params_from(arguments: list[str], schema: dict[str, Any]) -> dict[str, Any]:
    """The params that *arguments* stand for.

    ``name=value`` is text where *schema* allows text, and JSON elsewhere; ``name=@file`` is the
    content of the file. Raises `BadArgument`.
    """
    params: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not (name and equals):
            raise BadArgument(f"{argument}: params are given as name=value")
        if text.startswith("@"):
            text = _content(text[1:])
        params[name] = text if _allows_text(schema, schema.get("properties", {}).get(name, {})) else _value(name, text)
    return params


def _content(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"{path} cannot be read: {error}") from None


def _value(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadArgument(f"{name}={text}: the task wants JSON here, such as 1.5, true or [1, 2]") from None


def _allows_text(root: dict[str, Any], schema: dict[str, Any]) -> bool:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _allows_text(root, root.get("$defs", {}).get(name, {}))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return any(_allows_text(root, option) for option in options)
    kinds = schema.get("type", [])
    named = schema.get("enum", []) or ([schema["const"]] if "const" in schema else [])
    return "string" in ([kinds] if isinstance(kinds, str) else kinds) or any(isinstance(one, str) for one in named)
