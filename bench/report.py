"""What a run found, as one document for machines and one for people."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.table import Table


def write(folder: Path, name: str, found: dict[str, Any], tables: list[Table]) -> tuple[Path, Path]:
    """Keep *found* as ``<date>-<name>.json`` and the tables as ``.md`` beside it; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(found["at"])
    stem = folder / f"{moment:%Y-%m-%d-%H%M}-{name}"
    as_json, as_markdown = stem.with_suffix(".json"), stem.with_suffix(".md")
    as_json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    as_markdown.write_text(markdown(name, found, tables))
    return as_json, as_markdown


def markdown(name: str, found: dict[str, Any], tables: list[Table]) -> str:
    """The tables, then everything needed to judge them."""
    machine, versions = found["machine"], found["versions"]
    where = (
        f"Commit {found['commit']}. {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, kernel {machine['kernel']}, data on {machine['data_on']}."
    )
    lines = [
        f"# Bench: {name}, {found['at']}",
        "",
        where,
        "",
        *(table.markdown() for table in tables),
        "## Versions",
        "",
        ", ".join(f"{package} {version}" for package, version in versions.items()) + ".",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps({"scale": found["scale"], **_settings(found)}, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    return {stage: result["settings"] for stage, result in found["stages"].items() if "settings" in result}
