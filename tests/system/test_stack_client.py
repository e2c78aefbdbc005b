"""The client library and the command line against the whole stack."""

import json
import os
import signal
import uuid

import pytest
from running_stack import RunningStack

from client import Coatcheck
from client.cli import main
from client.errors import (
    JobCancelled,
    JobFailed,
    NotCancellable,
    NotFinished,
    NotFound,
    NotRetryable,
    Unreachable,
    ValidationFailed,
    WaitTimeout,
)


@pytest.fixture
def service(stack: RunningStack):
    """The client, at the stack."""
    with Coatcheck(stack.api) as client:
        yield client


def test_a_job_from_submission_to_result(service: Coatcheck):
    """Submit, watch, collect: progress is reported on the way."""
    seen = []
    pid = service.submit("wait", {"message": "hello", "seconds": 2}, reference="order-7")["pid"]
    with pytest.raises(NotFinished):
        service.result(pid)
    job = service.wait(pid, timeout_seconds=30, on_change=seen.append)
    assert job["status"] == "succeeded"
    assert service.result(pid)["message"] == "hello"
    assert {job["status"] for job in seen} >= {"running", "succeeded"}
    assert any(job["progress"] for job in seen)


def test_errors_have_their_own_classes(service: Coatcheck):
    """Every refusal is an exception of its own."""
    with pytest.raises(ValidationFailed, match="weight_kg"):
        service.submit("bmi", {"name": "Ada", "weight_kg": -1, "height_cm": 175})
    with pytest.raises(NotFound):
        service.job("01890a5d-ac96-774b-bcce-b302099a8057")
    pid = service.submit("arithmetic", {"operation": "div", "value": 1, "other": 0})["pid"]
    assert service.wait(pid, timeout_seconds=30)["error"]["kind"] == "task_error"
    with pytest.raises(JobFailed):
        service.result(pid)
    with pytest.raises(NotCancellable):
        service.cancel(pid)


def test_a_failed_job_runs_again(service: Coatcheck):
    """Retry keeps the pid; the job fails again, as it must, and both attempts are on record."""
    pid = service.submit("arithmetic", {"operation": "div", "value": 1, "other": 0})["pid"]
    service.wait(pid, timeout_seconds=30)
    assert service.retry(pid)["pid"] == pid
    job = service.wait(pid, timeout_seconds=30)
    assert [attempt["error"]["kind"] for attempt in job["attempts"]] == ["task_error", "task_error"]
    assert (job["status"], job["attempts_total"], job["attempt"]) == ("failed", 2, 1)


def test_a_job_that_succeeded_is_not_run_again(service: Coatcheck):
    """Its result stands."""
    pid = service.submit("arithmetic", {"operation": "sum", "value": 1, "other": 2})["pid"]
    service.wait(pid, timeout_seconds=30)
    with pytest.raises(NotRetryable):
        service.retry(pid)


def test_cancel_and_delete(service: Coatcheck):
    """A cancelled job ends as cancelled; a deleted one is unknown."""
    pid = service.submit("wait", {"message": "", "seconds": 600})["pid"]
    with pytest.raises(WaitTimeout):
        service.wait(pid, timeout_seconds=0.3)
    service.cancel(pid)
    assert service.wait(pid, timeout_seconds=30)["status"] == "cancelled"
    with pytest.raises(JobCancelled):
        service.result(pid)
    service.delete(pid)
    with pytest.raises(NotFound):
        service.job(pid)


def test_jobs_reads_page_after_page(service: Coatcheck):
    """The iterator goes on over pages, newest first, and filters."""
    reference = str(uuid.uuid4())
    params = {"operation": "sum", "value": 1, "other": 2}
    pids = [service.submit("arithmetic", params, reference=reference)["pid"] for _ in range(5)]
    assert [job["pid"] for job in service.jobs(page_size=2, reference=reference)] == pids[::-1]
    assert service.latest(task="arithmetic")["pid"] == pids[-1]


def test_a_submission_rides_out_a_dead_results_service(stack: RunningStack, service: Coatcheck):
    """While the results service is away the client waits as it is told, and the job is stored once."""
    reference = str(uuid.uuid4())
    os.kill(stack.pid("results"), signal.SIGKILL)
    ticket = service.submit("arithmetic", {"operation": "sum", "value": 1, "other": 2}, reference=reference)
    assert service.wait(ticket["pid"], timeout_seconds=30)["result"]["result"] == 3
    assert [job["pid"] for job in service.jobs(reference=reference)] == [ticket["pid"]]


def test_command_line_submits_and_waits(stack: RunningStack, capsys: pytest.CaptureFixture[str]):
    """One command from parameters to the result."""
    code = main(["--url", stack.api, "submit", "bmi", "name=70", "weight_kg=70", "height_cm=175", "--wait"])
    assert code == 0
    assert json.loads(capsys.readouterr().out) == {"name": "70", "bmi": 22.9, "category": "normal weight"}


def test_command_line_says_why_a_job_failed(stack: RunningStack, capsys: pytest.CaptureFixture[str]):
    """A job that fails is exit code 1 and its reason."""
    code = main(["--url", stack.api, "submit", "arithmetic", "operation=div", "value=1", "other=0", "--wait"])
    assert code == 1
    assert "divided by zero" in capsys.readouterr().err


def test_command_line_runs_a_job_again(stack: RunningStack, capsys: pytest.CaptureFixture[str]):
    """Retry waits like a submission does, and says why the job failed again."""
    main(["--url", stack.api, "submit", "arithmetic", "operation=div", "value=1", "other=0", "--wait"])
    capsys.readouterr()
    with Coatcheck(stack.api) as service:
        pid = service.latest(task="arithmetic", status="failed")["pid"]
    assert main(["--url", stack.api, "retry", pid, "--wait"]) == 1
    assert "divided by zero" in capsys.readouterr().err
    assert main(["--url", stack.api, "retry", pid]) == 0
    assert "waits to run again" in capsys.readouterr().out


def test_command_line_lists_what_there_is(stack: RunningStack, capsys: pytest.CaptureFixture[str]):
    """Tasks, jobs and the latest job can be read."""
    assert main(["--url", stack.api, "tasks"]) == 0
    assert "align_sequences" in capsys.readouterr().out
    assert main(["--url", stack.api, "submit", "bmi", "name=Ada", "weight_kg=70", "height_cm=175"]) == 0
    pid = capsys.readouterr().out.split()[0]
    assert main(["--url", stack.api, "--json", "list", "--limit", "1"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["pid"] == pid
    assert main(["--url", stack.api, "latest"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == pid
    assert main(["--url", stack.api, "job", pid]) == 0


def test_nobody_there():
    """A service that does not answer is an error of its own."""
    with Coatcheck("http://127.0.0.1:1/api/v1", retry_seconds=0) as nobody, pytest.raises(Unreachable):
        nobody.tasks()
