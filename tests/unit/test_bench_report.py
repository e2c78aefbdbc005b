"""What is printed and kept of a run."""

import json
from pathlib import Path
from typing import Any

from bench import compare, counter, report, speedup


def repetition(factor: float) -> dict[str, Any]:
    """One repetition in which every measure is *factor*."""
    measures = {measure: factor for measure, _ in compare.MEASURES}
    by_role = {"gateway": factor, "load generator": 9.0}
    keys = ("cpu_ms_per_job_by_role", "memory_mib_by_role", "rest_cpu_ms_per_second_by_role")
    return measures | dict.fromkeys(keys, by_role)


def comparison() -> dict[str, Any]:
    """Two sides, two repetitions each, the first three times the second."""
    sides = {"coatcheck": [repetition(2.0), repetition(4.0)], "celery": [repetition(1.0), repetition(1.0)]}
    return compare.result_of(sides, {name: {"slots": 2} for name in sides}, ["coatcheck", "celery"])


def test_comparison_shows_medians_spreads_and_ratios() -> None:
    """Each measure is a row with both sides' medians and spreads, and ours over theirs."""
    compared, ours, theirs = compare.tables(comparison())
    assert compared.header == ("", "coatcheck", "celery", "ratio")
    assert compared.rows[0] == ("jobs/s, end to end", "3.00 (2.00-4.00)", "1.00", "3.00 x")
    assert ours.rows == [("gateway", "3.00", "3.00", "3.00")]
    assert theirs.rows == [("gateway", "1.00", "1.00", "1.00")]


def test_counter_shows_what_was_lost() -> None:
    """The lines that tell of lost connections stand under the table, not only their number."""
    result = {
        "jobs": 4,
        "milliseconds": 20_000,
        "slots": 2,
        "heartbeat_seconds": 5,
        "requests": 2000,
        "get_ms": {"p50": 2.0, "p99": 30.0, "p100": 60.0},
        "wanted_ms_p99": 50.0,
        "lost_connections": ["compute.log: broker_lost"],
    }
    [table] = counter.tables(result)
    assert ("broker connections lost", "1") in table.rows
    assert table.notes == ["compute.log: broker_lost"]


def test_report_keeps_everything(tmp_path: Path) -> None:
    """The JSON has what was measured; the Markdown names commit, machine, versions and settings."""
    tables = speedup.tables({"jobs": 20, "milliseconds": 50, "jobs_per_second": {1: 18.0, 2: 36.0}, "speed_up": 2.0})
    found = {
        "at": "2026-01-02T03:04:05+00:00",
        "commit": "abc123",
        "machine": {"cpu": "Z80", "cores": 2, "memory_gib": 4, "kernel": "6", "system": "Debian", "data_on": "ext4"},
        "versions": {"python": "3.11.0", "mongod": "6.0.5"},
        "scale": {"repetitions": 3},
        "stages": {"compare": comparison()},
    }
    as_json, as_markdown = report.write(tmp_path, "bench", found, tables)
    assert as_json.name == "2026-01-02-0304-bench.json"
    assert json.loads(as_json.read_text())["stages"]["compare"]["ratios"]["jobs_per_second"] == 3.0
    text = as_markdown.read_text()
    for expected in ("abc123", "Z80", "mongod 6.0.5", '"repetitions": 3', '"slots": 2', "| speed-up | 2.00 |"):
        assert expected in text
