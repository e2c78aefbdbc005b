"""Work that goes through the whole stack: real servers, real processes, real mail."""

import email
import email.policy
import os
import select
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from Bio import SeqIO
from Bio.Align import PairwiseAligner, substitution_matrices
from conftest import Smtp
from running_stack import RunningStack

ROOT = Path(__file__).parents[2]
HAEMOGLOBIN = ROOT / "examples" / "haemoglobin_alpha.fasta"
PATIENCE_SECONDS = 60.0
SLOTS = 2


class Api:
    """The API of the stack, as a program uses it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def submit(self, task: str, params: dict[str, Any], **options: Any) -> str:
        answer = self.http.post("/jobs", json={"task": task, "params": params, **options})
        assert answer.status_code == 202, answer.text
        pid: str = answer.json()["pid"]
        return pid

    def job(self, pid: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{pid}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait(self, pid: str, *statuses: str) -> dict[str, Any]:
        """The job as soon as it is in one of *statuses*."""
        job: dict[str, Any] = {}

        def there() -> bool:
            job.update(self.job(pid))
            return job["status"] in statuses

        eventually(there, f"{pid} {'/'.join(statuses)}")
        return job


def eventually(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Poll *condition* until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        select.select([], [], [], 0.05)


@pytest.fixture
def api(stack: RunningStack) -> Iterator[Api]:
    """A client of the stack's API."""
    with stack.client() as http:
        yield Api(http)


def mails_to(sink: Smtp, recipient: str) -> list[EmailMessage]:
    """What has arrived for *recipient*, oldest first."""
    found = []
    for path in sink.mails():
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if mail["To"] == recipient:
            found.append(mail)
    return found


def test_the_alignment_is_what_biopython_says(api: Api) -> None:
    """Scores and identities of the haemoglobins equal those of Biopython called directly."""
    gaps = {"open_gap": -10.0, "extend_gap": -0.5}
    job = api.wait(
        api.submit("align_sequences", {"fasta": HAEMOGLOBIN.read_text(), "mode": "global", "scoring": "blosum62"}),
        "succeeded",
        "failed",
    )
    assert job["status"] == "succeeded", job["error"]
    records = list(SeqIO.parse(HAEMOGLOBIN, "fasta"))
    aligner = PairwiseAligner(mode="global", substitution_matrix=substitution_matrices.load("BLOSUM62"))
    aligner.open_gap_score, aligner.extend_gap_score = gaps["open_gap"], gaps["extend_gap"]
    expected = []
    for n, first in enumerate(records):
        for second in records[n + 1 :]:
            best = aligner.align(first.seq, second.seq)[0]
            expected.append((best.score, best.counts().identities))
    pairs = job["result"]["pairs"]
    assert [(pair["score"], pair["identities"]) for pair in pairs] == expected
    assert len(pairs) == 3
    assert job["progress"]["percent"] == 100


def test_mail_tells_of_acceptance_and_outcome(api: Api, stack: RunningStack, smtp_sink: Smtp) -> None:
    """Text and HTML with the pid, the task, the result or the error, and the link; a failure has its mail too."""
    to = f"{uuid.uuid4().hex}@example.org"
    good = api.submit(
        "arithmetic",
        {"operation": "mul", "value": 6, "other": 7},
        notify={"email": to, "on": ["accepted", "succeeded", "failed"]},
    )
    bad = api.submit("arithmetic", {"operation": "div", "value": 6, "other": 0}, notify={"email": to})
    eventually(lambda: len(mails_to(smtp_sink, to)) == 3, "three mails")
    by_job: dict[str, list[EmailMessage]] = {good: [], bad: []}
    for mail in mails_to(smtp_sink, to):
        by_job[mail["X-Coatcheck-Pid"]].append(mail)
    assert sorted(len(mails) for mails in by_job.values()) == [1, 2]
    for pid, mails in by_job.items():
        for mail in mails:
            for kind in ("plain", "html"):
                part = mail.get_body((kind,))
                assert part is not None
                text = part.get_content()
                assert pid in text
                assert "arithmetic" in text
                assert f"{stack.api}/jobs/{pid}" in text
    outcomes = [by_job[good][-1].get_body(("plain",)), by_job[bad][0].get_body(("plain",))]
    assert outcomes[0] is not None
    assert "42" in outcomes[0].get_content()
    assert outcomes[1] is not None
    assert "divided by zero" in outcomes[1].get_content()
    eventually(
        lambda: [n["state"] for n in api.job(good)["notifications"]] == ["sent", "sent", "skipped"], "marked as sent"
    )


def test_an_address_that_is_none_is_refused(api: Api) -> None:
    """An e-mail address that is none is a 400 that names it, and no job."""
    answer = api.http.post(
        "/jobs",
        json={"task": "bmi", "params": {"name": "A", "weight_kg": 1, "height_cm": 100}, "notify": {"email": "x"}},
    )
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/notify/email"]


def test_progress_is_seen_while_the_job_runs(api: Api) -> None:
    """`wait` reports every second, and what it reported last stays with the job."""
    pid = api.submit("wait", {"message": "hello", "seconds": 3})
    eventually(lambda: 0 < ((api.job(pid)["progress"] or {}).get("percent") or 0) < 100, "progress on the way")
    job = api.wait(pid, "succeeded", "failed")
    assert job["result"]["message"] == "hello"
    assert job["progress"]["percent"] == 100


def test_cpu_bound_work_disturbs_nobody(api: Api, stack: RunningStack) -> None:
    """While every slot burns CPU past the heartbeat (2 s), the counter answers and no connection is lost."""
    pids = [api.submit("burn", {"milliseconds": 6000}) for _ in range(SLOTS)]
    for pid in pids:
        api.wait(pid, "running")
    while any(api.job(pid)["status"] == "running" for pid in pids):
        assert api.http.get("/jobs/latest").status_code == 200
        select.select([], [], [], 0.2)
    assert [api.job(pid)["status"] for pid in pids] == ["succeeded"] * SLOTS
    assert all(api.job(pid)["attempt"] == 1 for pid in pids)
    for log in (stack.folder / "log").glob("*.log"):
        assert "broker_lost" not in log.read_text(errors="replace"), log.name


def test_a_killed_child_is_another_attempt(api: Api, stack: RunningStack) -> None:
    """Kill -9 of the process that runs a job: the crash is on record, and the job is run again."""
    pid = api.submit("wait", {"message": "again", "seconds": 4})
    eventually(lambda: api.job(pid)["progress"] is not None, "the job's first progress")
    service = psutil.Process(stack.pid("compute"))
    children = [child for child in service.children(recursive=True) if "compute_service.child" in child.cmdline()]
    for child in children:  # which of the slots runs it is nobody's business
        child.kill()
    job = api.wait(pid, "succeeded", "failed")
    assert job["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed", "succeeded"]
    assert job["attempts"][0]["error"]["kind"] == "crashed"
    assert job["attempts"][0]["error"]["signal"] == signal.SIGKILL.name


def test_a_running_job_is_cancelled(api: Api) -> None:
    """A job that burns CPU ends as cancelled soon after the cancel, and its result stays away."""
    pid = api.submit("burn", {"milliseconds": 600_000})
    api.wait(pid, "running")
    assert api.http.post(f"/jobs/{pid}/cancel").status_code == 202
    job = api.wait(pid, "cancelled", "succeeded", "failed")
    assert job["status"] == "cancelled"
    result = api.http.get(f"/jobs/{pid}/result")
    assert (result.status_code, result.json()["type"].rpartition("/")[2]) == (409, "job-cancelled")
    assert api.http.post(f"/jobs/{pid}/cancel").status_code == 202


def test_without_workers_work_is_kept(api: Api, stack: RunningStack) -> None:
    """A job that is submitted while the compute service is down waits, and runs when it is back."""
    compute = stack.pid("compute")
    os.kill(compute, signal.SIGKILL)
    pid = api.submit("bmi", {"name": "Ada", "weight_kg": 70, "height_cm": 175})
    eventually(lambda: stack.pid("compute") != compute, "a new compute service")
    assert api.wait(pid, "succeeded", "failed")["result"]["bmi"] == 22.9
