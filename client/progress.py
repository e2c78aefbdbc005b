"""Jobs that move, on a terminal or in a log."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

FULL = 100.0
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Watch:
    """Give its `show` to `Coatcheck.wait`: live bars on a terminal, a line per change elsewhere."""

    def __init__(self, console: Console, titles: dict[str, str] | None = None) -> None:
        self._console = console
        self._titles = titles or {}
        self._lines: dict[str, str] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: dict[str, Any]) -> None:
        """Show where *job* stands now."""
        pid = job["pid"]
        title, note = self._titles.get(pid, pid), describe(job)
        if pid not in self._bars:
            self._bars[pid] = self._progress.add_task(title, total=FULL, note="")
        percent = FULL if job["status"] == "succeeded" else (job["progress"] or {}).get("percent")
        self._progress.update(self._bars[pid], completed=percent or 0, note=note)
        if job["status"] in ENDED:
            self._progress.stop_task(self._bars[pid])
        if not self._console.is_terminal and self._lines.get(pid) != note:
            self._console.print(f"{title}: {note}", highlight=False, markup=False, soft_wrap=True)
        self._lines[pid] = note


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
