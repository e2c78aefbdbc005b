"""The compute service under `nameko run`, with the real broker and a ledger in memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from compute_ledger import PATIENCE_SECONDS, MemoryLedger, wait_until

from contracts.messages import Stop
from contracts.status import ErrorKind, Outcome

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Service:
    """A `nameko run` of the compute service."""

    def __init__(self, uri: str, folder: Path, **settings: Any) -> None:
        environ = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "AMQP_URI": uri,
            "HEARTBEAT": "5",
            "SLOTS": "2",
            "TASK_MODULES": "compute_service.tasks,compute_tasks",
            "WORKER_HEARTBEAT_SECONDS": "1",
            "CANCEL_GRACE_SECONDS": "0.5",
            "LEDGER_TIMEOUT_SECONDS": "2",
            "PYTHONWARNINGS": "ignore",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self.log = folder / "compute.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nameko",
                    "run",
                    "--config",
                    "compute_service/config.yaml",
                    "compute_service.service",
                ],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = set()

    def below(self) -> set[psutil.Process]:
        """Every process that the service has had; call it while it runs."""
        self.seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self.seen

    def end(self) -> None:
        """Kill it; the guardian does the rest."""
        if self.process.poll() is None:
            self.below()
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def leftover(self) -> list[psutil.Process]:
        """Processes of the service that are still there."""
        return [one for one in self.seen if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def ledger(fresh_vhost: str) -> Iterator[MemoryLedger]:
    one = MemoryLedger(fresh_vhost)
    yield one
    one.close()


@pytest.fixture
def start(fresh_vhost: str, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(**settings: Any) -> Service:
        started.append(Service(fresh_vhost, tmp_path, **settings))
        return started[-1]

    yield start
    for service in started:
        service.end()
        wait_until(lambda service=service: not service.leftover(), "the end of every process")  # type: ignore[misc]


def running(ledger: MemoryLedger, *pids: str) -> Callable[[], bool]:
    """Whether the newest heartbeat lists these jobs."""
    return lambda: bool(ledger.beats) and {job.pid for job in ledger.beats[-1].running} >= set(pids)


def finished(ledger: MemoryLedger, *pids: str) -> Callable[[], bool]:
    return lambda: {finish.pid for finish in ledger.finishes} >= set(pids)


def test_jobs_run_and_the_catalogue_is_announced(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """A bell brings work, results come back, and the catalogue is announced."""
    start()
    ledger.wait_for(lambda: ledger.announcements, "the announcement")
    assert {"bmi", "arithmetic", "wait", "align_sequences"} <= {task.name for task in ledger.announcements[0].tasks}
    for number in range(20):
        ledger.add(f"j{number}", "bmi", name="Ada", weight_kg=60 + number, height_cm=170)
    ledger.wait_for(finished(ledger, *(f"j{number}" for number in range(20))), "twenty results")
    assert {finish.outcome for finish in ledger.finishes} == {Outcome.SUCCEEDED}
    assert len(ledger.finishes) == 20


def test_a_busy_pool_needs_one_settle_per_job(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """While work waits, each finish brings the next job, so no other claims are made."""
    for number in range(50):
        ledger.waiting.append({"pid": f"j{number}", "task": "noop", "params": {}, "time_limit": 60})
    start()
    ledger.wait_for(lambda: len(ledger.finishes) == 50, "fifty results")
    assert len(ledger.claims) <= 50 + 2 + 2


def test_work_whose_bells_were_lost_is_claimed_on_connection(
    ledger: MemoryLedger, start: Callable[..., Service]
) -> None:
    """A worker that connects looks for work without a bell."""
    ledger.waiting.append({"pid": "quiet", "task": "noop", "params": {}, "time_limit": 60})
    start()
    ledger.wait_for(finished(ledger, "quiet"), "the result")


def test_lost_replies_repeat_the_claim_and_the_finish(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """A claim or finish whose reply is lost is repeated as it was: no job is lost, none runs twice."""
    ledger.lost_replies = 1
    start()
    ledger.add("first", "noop")
    ledger.wait_for(finished(ledger, "first"), "the first result")
    ledger.lost_replies = 1
    ledger.add("second", "noop")
    ledger.wait_for(finished(ledger, "second"), "the second result")
    fences = {(finish.pid, finish.fence) for finish in ledger.finishes}
    assert len(fences) == 2


def test_cpu_bound_jobs_do_not_touch_the_event_loop(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """Both slots burn CPU for longer than two broker heartbeats: beats go on and the connection holds."""
    service = start(heartbeat=1)
    ledger.add("a", "burn", seconds=6)
    ledger.add("b", "burn", seconds=6)
    ledger.wait_for(running(ledger, "a", "b"), "both jobs on the roster")
    first = ledger.beats[-1].beat
    ledger.wait_for(finished(ledger, "a", "b"), "both results")
    assert ledger.beats[-1].beat - first >= 4
    assert "broker_lost" not in service.log.read_text()


def test_a_cancelled_job_ends_and_the_other_does_not_notice(
    ledger: MemoryLedger, start: Callable[..., Service]
) -> None:
    """A stop event kills a job that ignores it after its grace; the other slot's job goes on."""
    start()
    ledger.add("victim", "swallow_everything")
    ledger.add("other", "burn", seconds=2)
    ledger.wait_for(running(ledger, "victim", "other"), "both jobs on the roster")
    grant = ledger.grant_of("victim")
    assert grant is not None
    ledger.tell_to_stop(ledger.beats[0].worker_id, Stop(pid="victim", fence=grant.fence, reason="cancelled"))
    ledger.wait_for(finished(ledger, "victim", "other"), "both ends")
    assert [(finish.pid, finish.outcome) for finish in ledger.finishes] == [
        ("victim", Outcome.CANCELLED),
        ("other", Outcome.SUCCEEDED),
    ]


def test_a_lost_cancel_arrives_with_the_heartbeat(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """What a heartbeat's reply names is stopped: cancelled is reported, superseded is not."""
    start()
    for pid in ("cancelled", "superseded"):
        ledger.add(pid, "swallow_everything")
    ledger.wait_for(running(ledger, "cancelled", "superseded"), "both jobs on the roster")
    for pid in ("cancelled", "superseded"):
        grant = ledger.grant_of(pid)
        assert grant is not None
        ledger.stop_by_beat.append(Stop(pid=pid, fence=grant.fence, reason=pid))  # type: ignore[arg-type]
    ledger.wait_for(finished(ledger, "cancelled"), "the cancelled job's end")
    ledger.add("next", "noop")
    ledger.wait_for(finished(ledger, "next"), "the next job's result")
    assert "superseded" not in {finish.pid for finish in ledger.finishes}


def test_progress_rides_on_early_heartbeats(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """New progress reaches the ledger well before the next regular beat."""
    start(worker_heartbeat_seconds=30)
    ledger.add("slow", "wait", message="x", seconds=600)
    ledger.wait_for(
        lambda: any(job.progress and (job.progress.done or 0) >= 2 for beat in ledger.beats for job in beat.running),
        "two seconds of progress",
    )


def test_sigterm_hands_back_what_cannot_finish(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """On SIGTERM a short job finishes, a long one is handed back, and no process stays."""
    service = start(drain_seconds=5)
    ledger.add("short", "burn", seconds=3)
    ledger.add("long", "burn", seconds=600)
    ledger.wait_for(running(ledger, "short", "long"), "both jobs on the roster")
    ledger.add("later", "noop")
    service.below()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(PATIENCE_SECONDS)
    assert [(finish.pid, finish.outcome) for finish in ledger.finishes] == [
        ("short", Outcome.SUCCEEDED),
        ("long", Outcome.HANDED_BACK),
    ]
    assert ledger.beats[-1].draining
    assert len(ledger.waiting) == 1
    wait_until(lambda: not service.leftover(), "the end of every process")


def test_a_killed_service_leaves_no_process(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """Kill -9 of the service ends its children and what they have started."""
    service = start()
    ledger.add("a", "start_processes")
    wait_until(lambda: len(service.below()) >= 5, "the job's processes")
    service.process.kill()
    wait_until(lambda: not service.leftover(), "the end of every process")


def test_a_killed_child_costs_only_its_job(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """Kill -9 of a child is a crash of its job; the other job and the next one go well."""
    service = start()
    ledger.add("victim", "swallow_everything")
    ledger.add("other", "burn", seconds=2)
    ledger.wait_for(running(ledger, "victim", "other"), "both jobs on the roster")
    children = [
        one for one in psutil.Process(service.process.pid).children() if "compute_service.child" in one.cmdline()
    ]

    def spent(child: psutil.Process) -> float:
        return float(sum(child.cpu_times()[:2]))

    wait_until(lambda: abs(spent(children[0]) - spent(children[1])) > 0.3, "the child that burns")
    min(children, key=spent).kill()
    ledger.wait_for(finished(ledger, "victim", "other"), "both ends")
    ledger.add("next", "noop")
    ledger.wait_for(finished(ledger, "next"), "the next result")
    crashed = ledger.finish_of("victim")
    assert crashed is not None
    assert crashed.error is not None
    assert (crashed.error.kind, crashed.error.signal) == (ErrorKind.CRASHED, "SIGKILL")
    assert ledger.finish_of("other").outcome is Outcome.SUCCEEDED  # type: ignore[union-attr]


def test_a_bad_task_module_ends_the_service_loudly(ledger: MemoryLedger, start: Callable[..., Service]) -> None:
    """A worker that cannot load its tasks exits with an error that names the module."""
    service = start(task_modules="no_such_module")
    assert service.process.wait(PATIENCE_SECONDS) != 0
    assert "no_such_module" in service.log.read_text()
