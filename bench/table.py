"""A table that reads well on a terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text under a heading; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For a terminal: columns aligned, numbers to the right."""
        lines = self._aligned()
        return "\n".join([self.title, lines[0], "-" * len(lines[0]), *lines[1:], *self.notes, ""])

    def markdown(self) -> str:
        """For a file."""
        rule = "|" + "|".join(["---", *["---:"] * (len(self.header) - 1)]) + "|"
        rows = ["| " + " | ".join(row) + " |" for row in (self.header, *self.rows)]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"## {self.title}", "", rows[0], rule, *rows[1:], "", *notes, ""])

    def _aligned(self) -> list[str]:
        everything = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
        return [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in everything
        ]
