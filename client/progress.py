"""A job that moves, on a terminal or in a log."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Watch:
    """Give its `show` to `Coatcheck.wait`: a live bar on a terminal, a line per change elsewhere."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task(title, total=100, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: dict[str, Any]) -> None:
        """The job has changed."""
        progress = job["progress"] or {}
        percent = 100.0 if job["status"] == "succeeded" else progress.get("percent")
        note = describe(job)
        self._progress.update(self._bar, completed=percent or 0, note=note)
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {note}", highlight=False, markup=False)


def describe(job: dict[str, Any]) -> str:
    """Where a job stands, in a few words."""
    progress = job["progress"] or {}
    words = [job["status"]]
    if job["status"] == "pending" and job.get("queue_position"):
        words.append(f"(place {job['queue_position']} in the queue)")
    if progress.get("percent") is not None:
        words.append(f"{progress['percent']:.0f}%")
    words += [str(progress[name]) for name in ("stage", "message") if progress.get(name)]
    return " ".join(words)
