"""Tables for a terminal and for Markdown."""

from bench.table import Table

TABLE = Table(title="Jobs", header=("", "ours", "theirs"), rows=[("jobs/s", "1,000", "7")], notes=["A note."])


def test_text_aligns_columns() -> None:
    """On a terminal, numbers stand under each other on the right."""
    assert TABLE.text().splitlines() == [
        "Jobs",
        "         ours  theirs",
        "-" * 21,
        "jobs/s  1,000       7",
        "A note.",
    ]


def test_markdown_is_a_table() -> None:
    """In the kept file it is a Markdown table with a heading and its notes."""
    assert TABLE.markdown().splitlines() == [
        "## Jobs",
        "",
        "|  | ours | theirs |",
        "|---|---:|---:|",
        "| jobs/s | 1,000 | 7 |",
        "",
        "- A note.",
    ]
