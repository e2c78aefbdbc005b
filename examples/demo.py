"""`make demo`: real work, its progress, its results, and the mails that came of it.

Against the stack that runs at PORT, or one that is started for as long as the demo takes.
"""

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
from Bio import SeqIO
from Bio.Align import PairwiseAligner, substitution_matrices
from rich.console import Console

from client.api import TERMINAL, Coatcheck
from client.errors import ClientError
from client.progress import Watch
from contracts.settings import load
from local_stack.settings import StackSettings
from local_stack.state import StackState

FASTA = Path(__file__).with_name("haemoglobin_alpha.fasta")
START_SECONDS = 120.0
STOP_SECONDS = 20.0
WORK_SECONDS = 120.0
MAIL_SECONDS = 30.0
LOOK_SECONDS = 0.3
SHOWN_LINES = 6
EVERY_MOMENT = ["accepted", "succeeded", "failed"]

console = Console(highlight=False, soft_wrap=True)


@dataclass(kw_only=True)
class Act:
    """One job of the demo, and what has to come of it."""

    title: str
    task: str
    params: dict[str, Any]
    ends: str = "succeeded"
    on: list[str] = field(default_factory=list)
    """The moments that are told by mail."""
    check: Callable[[dict[str, Any]], bool]
    """Whether the ended job is right."""
    pid: str = ""
    to: str = ""


def main() -> int:
    """The exit code: 0 if everything came out right."""
    settings = load(StackSettings)
    url = f"http://127.0.0.1:{settings.port}"
    try:
        with contextlib.nullcontext() if runs(url) else own_stack(settings):
            return perform(url, mail_folder(settings, url))
    except (ClientError, TimeoutError) as error:
        console.print(f"The demo stopped: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130


def perform(url: str, mails: Path | None) -> int:
    """Submit, watch, show."""
    acts = program()
    with Coatcheck(f"{url}/api/v1") as service:
        heading(f"Submitting {len(acts)} jobs to {url}")
        for act in acts:
            submit(service, act)
        jobs = watch(service, acts)
    wrong = [act.title for act in acts if not right(act, jobs[act.pid])]
    heading("What came of them")
    for act in acts:
        show(act, jobs[act.pid])
    if mails is None:
        heading("The mails went to SMTP_URI, so they cannot be shown here")
    else:
        wrong += show_mails(acts, mails)
    heading(f"Wrong: {', '.join(wrong)}" if wrong else "Everything came out right", bad=bool(wrong))
    return 1 if wrong else 0


def program() -> list[Act]:
    """What the demo does."""
    fasta = FASTA.read_text()
    return [
        Act(
            title="body mass index",
            task="bmi",
            params={"name": "Ada", "weight_kg": 70, "height_cm": 175},
            on=["succeeded"],
            check=lambda job: job["result"]["bmi"] == 22.9,  # noqa: PLR2004 - 70 / 1.75²
        ),
        Act(
            title="six times seven",
            task="arithmetic",
            params={"operation": "mul", "value": 6, "other": 7},
            on=EVERY_MOMENT,
            check=lambda job: job["result"]["result"] == 42,  # noqa: PLR2004 - six times seven
        ),
        Act(
            title="a wait of 6 seconds",
            task="wait",
            params={"message": "worth waiting for", "seconds": 6},
            check=lambda job: job["result"]["message"] == "worth waiting for",
        ),
        Act(
            title="haemoglobin alpha",
            task="align_sequences",
            params={"fasta": fasta, "mode": "global", "scoring": "blosum62"},
            check=lambda job: scores(job["result"]) == expected_scores(job["result"]),
        ),
        Act(
            title="one divided by zero",
            task="arithmetic",
            params={"operation": "div", "value": 1, "other": 0},
            ends="failed",
            on=EVERY_MOMENT,
            check=lambda job: job["error"]["kind"] == "task_error",
        ),
        Act(
            title="a wait, cancelled",
            task="wait",
            params={"message": "never said", "seconds": 600},
            ends="cancelled",
            check=lambda job: job["result"] is None,
        ),
    ]


def submit(service: Coatcheck, act: Act) -> None:
    """Hand one job in."""
    options: dict[str, Any] = {"tags": ["demo"]}
    if act.on:
        act.to = f"ada+{uuid.uuid4().hex[:8]}@example.org"
        options["notify"] = {"email": act.to, "on": act.on}
    act.pid = service.submit(act.task, act.params, **options)["pid"]
    console.print(f"  {act.pid}  {act.task:<16} {act.title}", markup=False)


def watch(service: Coatcheck, acts: list[Act]) -> dict[str, dict[str, Any]]:
    """All jobs as they ended; the one that is to be cancelled is, as soon as it runs."""
    heading("Watching them")
    jobs: dict[str, dict[str, Any]] = {}
    asked: set[str] = set()
    deadline = time.monotonic() + WORK_SECONDS
    with Watch(console, {act.pid: f"{act.title:<20}" for act in acts}) as bars:
        while open_acts := [act for act in acts if jobs.get(act.pid, {}).get("status") not in TERMINAL]:
            for act in open_acts:
                job = jobs[act.pid] = service.job(act.pid)
                bars.show(job)
                if act.ends == "cancelled" and job["status"] == "running" and act.pid not in asked:
                    asked.add(act.pid)
                    service.cancel(act.pid)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all jobs have ended within {WORK_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)
    return jobs


def right(act: Act, job: dict[str, Any]) -> bool:
    """Whether the job ended as it had to."""
    return job["status"] == act.ends and act.check(job)


def show(act: Act, job: dict[str, Any]) -> None:
    """A job's outcome."""
    console.print(f"\n{act.title}: {job['status']}", style="bold", markup=False)
    if job["error"]:
        console.print(f"  {job['error']['kind']}: {job['error']['message']}", markup=False)
    elif act.task == "align_sequences" and job["result"]:
        show_alignment(job["result"])
    elif job["result"]:
        for name, value in job["result"].items():
            console.print(f"  {name}: {value}", markup=False)


def show_alignment(result: dict[str, Any]) -> None:
    """The pairs, best first, with their alignments."""
    for pair in sorted(result["pairs"], key=lambda pair: -pair["score"]):
        console.print(
            f"\n  {pair['first']} and {pair['second']}: score {pair['score']:g}, "
            f"{pair['identities']} of {pair['columns']} columns identical ({pair['identity_percent']:.1f}%), "
            f"{pair['gaps']} gaps",
            markup=False,
        )
        for line in (pair["alignment"] or "").splitlines():
            console.print(f"    {line}", markup=False)


def scores(result: dict[str, Any]) -> list[float]:
    """The score of every pair."""
    return [pair["score"] for pair in result["pairs"]]


def expected_scores(result: dict[str, Any]) -> list[float]:
    """What Biopython says when it is called directly."""
    aligner = PairwiseAligner(mode="global")
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    aligner.open_gap_score = result["open_gap_score"]
    aligner.extend_gap_score = result["extend_gap_score"]
    sequences = [str(record.seq) for record in SeqIO.parse(FASTA, "fasta")]
    return [float(aligner.score(first, second)) for first, second in combinations(sequences, 2)]


def show_mails(acts: list[Act], folder: Path) -> list[str]:
    """The mails that arrived; answers for whom some are missing."""
    heading(f"The mails, kept in {folder}")
    told = [act for act in acts if act.on]
    expected = {act.to: 1 if len(act.on) == 1 else 2 for act in told}  # accepted, and the way it ended
    deadline = time.monotonic() + MAIL_SECONDS
    while True:
        arrived = read_mails(folder, set(expected))
        counts = {to: sum(mail["To"] == to for mail in arrived) for to in expected}
        if counts == expected or time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    for mail in arrived:
        console.print(f"\n  To: {mail['To']}\n  Subject: {mail['Subject']}", markup=False)
        body = mail.get_body(("plain",))
        lines = [line for line in (body.get_content() if body else "").splitlines() if line.strip()]
        for line in lines[:SHOWN_LINES]:
            console.print(f"    {line}", markup=False)
    return [f"the mails about {act.title}" for act in told if counts[act.to] != expected[act.to]]


def read_mails(folder: Path, recipients: set[str]) -> list[EmailMessage]:
    """Those of the Maildir that went to *recipients*, oldest first."""
    files = sorted((folder / "new").glob("*"), key=lambda mail: mail.stat().st_mtime_ns)
    mails = (message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=policy.default) for file in files)
    return [mail for mail in mails if mail["To"] in recipients]


def runs(url: str) -> bool:
    """Whether a stack is there and ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=3).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def mail_folder(settings: StackSettings, url: str) -> Path | None:
    """Where the mails of the stack at *url* are, if it keeps them."""
    state = StackState.read(settings.local_dir)
    return Path(state.mail) if state.ready and state.url == url and state.mail else None


@contextlib.contextmanager
def own_stack(settings: StackSettings) -> Iterator[None]:
    """A stack for as long as the block takes. A group of its own, so that Ctrl-C reaches us first."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "local_stack"]
    stack = subprocess.Popen(command, process_group=0)  # noqa: S603 - our own command
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(settings, stack.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                stack.wait(LOOK_SECONDS)
            if stack.returncode is not None:
                raise SystemExit(stack.returncode or 1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stack was not ready within {START_SECONDS:.0f} s")
        yield
    finally:
        stack.send_signal(signal.SIGTERM)
        stack.wait(STOP_SECONDS)


def _ready(settings: StackSettings, pid: int) -> bool:
    state = StackState.read(settings.local_dir)
    return state.ready and state.supervisor == pid


def heading(text: str, *, bad: bool = False) -> None:
    """A line that stands out."""
    console.print(f"\n== {text}", style="bold red" if bad else "bold cyan", markup=False)


if __name__ == "__main__":
    sys.exit(main())
