"""Slots with real child processes, and tasks that do their worst."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from slot_bench import PATIENCE_SECONDS, ROOT, Bench, gone, wait_until

from compute_service.attempts import Ending
from compute_service.children import ChildFailedError
from compute_service.groups import ProcessGroups
from compute_service.settings import ComputeSettings
from compute_service.slots import Slot
from contracts.status import ErrorKind, Outcome


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def test_jobs_share_a_warm_child(bench: Bench) -> None:
    """A clean child runs one job after the other; results and costs come back."""
    first = bench.run("process_id")
    moved = bench.run("move", point={"x": 1, "y": 2}, by=4)
    assert first.outcome is Outcome.SUCCEEDED
    assert first.result == bench.run("process_id").result
    assert moved.result == {"x": 5, "y": 2}
    assert moved.cpu_seconds is not None
    assert (moved.peak_memory_bytes or 0) > 1024 * 1024


def test_cpu_seconds_are_the_attempts_own(bench: Bench) -> None:
    """The CPU time of one job is not counted for the next."""
    assert 0.35 < (bench.run("use_cpu", seconds=0.4).cpu_seconds or 0) < 2
    assert (bench.run("noop").cpu_seconds or 0) < 0.1


@pytest.mark.parametrize(
    ("task", "params", "exit_code", "signal_name"),
    [("leave", {"code": 3}, 3, None), ("leave", {"code": 0}, 0, None), ("kill_itself", {}, None, "SIGKILL")],
)
def test_a_child_that_dies_is_a_crash(
    bench: Bench, task: str, params: dict[str, Any], exit_code: int | None, signal_name: str | None
) -> None:
    """A dead child is told with its exit code or signal, may be retried, and the slot goes on."""
    finish = bench.run(task, **params)
    assert finish.outcome is Outcome.FAILED
    assert finish.error is not None
    assert (finish.error.kind, finish.error.exit_code, finish.error.signal) == (
        ErrorKind.CRASHED,
        exit_code,
        signal_name,
    )
    assert finish.retriable
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


def test_memory_above_the_limit_of_the_process(bench: Bench) -> None:
    """An allocation above the limit is out_of_memory, and the next job is not limited."""
    finish = bench.run("allocate")
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.OUT_OF_MEMORY
    assert finish.retriable
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


def test_memory_above_the_limit_of_the_group(bench: Bench) -> None:
    """Processes that are too large only together are found by polling and killed."""
    before = set(psutil.Process().children(recursive=True))
    finish = bench.run("allocate_in_children")
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.OUT_OF_MEMORY
    assert (finish.peak_memory_bytes or 0) > 120 * 1024 * 1024
    wait_until(
        lambda: all(gone(one.pid) for one in set(psutil.Process().children(recursive=True)) - before),
        "the end of the children",
    )


def test_what_a_job_starts_and_leaves_ends_with_it(bench: Bench, tmp_path: Path) -> None:
    """A process that a successful job leaves behind is killed, and the child replaced."""
    bench.slot.warm_up()
    finish = bench.run("leave_process_behind", file=str(tmp_path / "pid"))
    assert finish.outcome is Outcome.SUCCEEDED
    assert not bench.slot.warm
    wait_until(lambda: gone(int((tmp_path / "pid").read_text())), "the end of the process")


def test_a_daemon_does_not_outlive_its_crashed_child(bench: Bench, tmp_path: Path) -> None:
    """A process in another session, whose parents are all dead, is found and killed all the same."""
    finish = bench.run("leave_daemon_behind_and_crash", file=str(tmp_path / "pid"))
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.CRASHED
    wait_until(lambda: gone(int((tmp_path / "pid").read_text())), "the end of the daemon")


def test_a_fork_that_holds_the_pipe_hides_no_crash(bench: Bench) -> None:
    """The death of a child is seen although its pipe is still open elsewhere."""
    finish = bench.run("leave_fork_behind_and_crash")
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.CRASHED


@pytest.mark.parametrize("task", ["leave_thread_behind", "change_directory", "change_environment"])
def test_leftovers_cost_the_child_its_place(bench: Bench, task: str) -> None:
    """A job that leaves something in the process succeeds, and the next job gets another process."""
    finish = bench.run(task)
    assert finish.outcome is Outcome.SUCCEEDED
    assert finish.result != bench.run("process_id").result


def test_children_are_replaced_by_number_of_jobs(make_bench: Callable[..., Bench]) -> None:
    """After its number of jobs a child is replaced."""
    bench = make_bench(child_max_jobs=2)
    seen = [bench.run("process_id").result for _ in range(4)]
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_no_secret_reaches_a_task(bench: Bench) -> None:
    """The environment of a task lacks the service's addresses with their passwords."""
    assert "AMQP_URI" not in bench.run("environment").result


def test_cancel_is_cooperative(bench: Bench, tmp_path: Path) -> None:
    """A cancelled task gets `Cancelled` and may tidy up; the outcome is cancelled."""
    thread, finishes = bench.run_aside("tidy_when_cancelled", file=str(tmp_path / "said"))
    bench.slot.stop("p1", 1, Ending.CANCELLED)
    thread.join(PATIENCE_SECONDS)
    assert finishes[0] is not None
    assert finishes[0].outcome is Outcome.CANCELLED
    assert (tmp_path / "said").read_text() == "tidied, cancelled=True"


@pytest.mark.parametrize("task", ["swallow_everything", "block_in_c"])
def test_cancel_is_not_a_plea(bench: Bench, task: str) -> None:
    """A task that swallows the exception, or never sees it, is killed after the grace."""
    thread, finishes = bench.run_aside(task)
    began = time.monotonic()
    bench.slot.stop("p1", 1, Ending.CANCELLED)
    thread.join(PATIENCE_SECONDS)
    assert finishes[0] is not None
    assert finishes[0].outcome is Outcome.CANCELLED
    assert 0.4 < time.monotonic() - began < 5


def test_a_stop_for_another_fence_is_ignored(bench: Bench) -> None:
    """A stop that is meant for an older claim of the job does not touch this one."""
    thread, finishes = bench.run_aside("return_what_there_is", time_limit=0.5)
    bench.slot.stop("p1", 0, Ending.SUPERSEDED)
    thread.join(PATIENCE_SECONDS)
    assert finishes[0] is not None
    assert finishes[0].result == "partial"


def test_superseded_says_nothing(bench: Bench) -> None:
    """A job that a newer claim owns is killed at once and not reported."""
    thread, finishes = bench.run_aside("swallow_everything")
    bench.slot.stop("p1", 1, Ending.SUPERSEDED)
    thread.join(PATIENCE_SECONDS)
    assert finishes == [None]


def test_handing_back(bench: Bench) -> None:
    """A job that the worker gives back is killed and reported as handed back."""
    thread, finishes = bench.run_aside("swallow_everything")
    bench.slot.stop("p1", 1, Ending.HANDED_BACK)
    thread.join(PATIENCE_SECONDS)
    assert finishes[0] is not None
    assert finishes[0].outcome is Outcome.HANDED_BACK


def test_the_time_limit(bench: Bench) -> None:
    """The time limit interrupts a task; what it does not catch is a timeout that may be retried."""
    finish = bench.run("tidy_when_cancelled", file="/dev/null", time_limit=0.3)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.TIMEOUT
    assert finish.retriable


def test_a_swallowed_time_limit_kills(bench: Bench) -> None:
    """A task that swallows the time limit is killed after the grace: a timeout too."""
    finish = bench.run("swallow_everything", time_limit=0.3)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.TIMEOUT


def test_an_answer_within_the_grace_counts(bench: Bench) -> None:
    """A task may answer with what it has when its time is up."""
    assert bench.run("return_what_there_is", time_limit=0.3).result == "partial"


@pytest.mark.parametrize(
    ("how", "kind", "retriable", "after"),
    [
        ("plain", ErrorKind.TASK_ERROR, False, None),
        ("retry", ErrorKind.TASK_ERROR, True, 7),
        ("retry_on", ErrorKind.TASK_ERROR, True, None),
        ("exit", ErrorKind.TASK_ERROR, False, None),
        ("surrogate", ErrorKind.TASK_ERROR, False, None),
        ("params", ErrorKind.INVALID_PARAMS, False, None),
    ],
)
def test_how_tasks_fail(bench: Bench, how: str, kind: ErrorKind, retriable: bool, after: float | None) -> None:  # noqa: FBT001
    """Each way to fail has its kind, and only those that ask for it are retried."""
    finish = bench.run("fail", how=how)
    assert finish.error is not None
    assert (finish.error.kind, finish.retriable, finish.retry_after_seconds) == (kind, retriable, after)
    assert "\0" not in finish.error.message
    finish.model_dump_json()
    if kind is ErrorKind.TASK_ERROR:
        assert "compute_tasks.py" in (finish.error.traceback or "")
        assert "execution.py" not in (finish.error.traceback or "")


def test_params_are_validated_with_pointers(bench: Bench) -> None:
    """Parameters that the annotations refuse are invalid_params, each with its pointer."""
    finish = bench.run("move", point={"x": "no"}, by=-1)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.INVALID_PARAMS
    assert [fault["pointer"] for fault in finish.error.errors or []] == ["/point/x", "/point/y", "/by"]
    assert not finish.retriable


@pytest.mark.parametrize("kind", ["large", "surrogate", "number"])
def test_results_that_cannot_be_stored(bench: Bench, kind: str) -> None:
    """A result that is too large, no JSON or not what the annotation says is invalid_result."""
    finish = bench.run("bad_result", kind=kind)
    assert finish.error is not None
    assert finish.error.kind is ErrorKind.INVALID_RESULT
    assert not finish.retriable


def test_progress_is_coalesced_and_complete(bench: Bench) -> None:
    """A hundred thousand reports become a few frames, and the last one is the last row."""
    finish = bench.run("report_rows", rows=100_000)
    assert finish.outcome is Outcome.SUCCEEDED
    assert len(bench.progress) < 100
    last = finish.progress or bench.progress[-1]
    assert (last.done, last.percent, last.stage) == (100_000, 100.0, "rows")


def test_the_newest_progress_leaves_a_silent_task(bench: Bench) -> None:
    """A report that came too soon after another is sent later although the task says no more."""
    thread, _ = bench.run_aside("report_then_fall_silent")
    wait_until(lambda: bench.progress[-1].done == 2, "the second report")
    bench.slot.stop("p1", 1, Ending.SUPERSEDED)
    thread.join(PATIENCE_SECONDS)


def test_what_tasks_print_disturbs_nothing(bench: Bench) -> None:
    """Output of the task and its processes does not meet the frames."""
    assert bench.run("print_much").outcome is Outcome.SUCCEEDED


def test_a_forked_copy_cannot_report(bench: Bench) -> None:
    """A fork of the child holds the same pipe, and writes nothing into it."""
    assert bench.run("fork_and_report").result == "done"
    assert bench.progress == []


def test_a_child_that_died_idle_costs_no_attempt(bench: Bench) -> None:
    """A job meets a fresh child when the warm one was killed while nothing ran."""
    victim = bench.run("process_id").result
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: gone(victim), "the child's death")
    assert bench.run("noop").outcome is Outcome.SUCCEEDED


def test_the_interpreter_yields_to_the_service(bench: Bench) -> None:
    """A child runs at nice 10 with a raised oom_score_adj, in a session of its own."""
    child = bench.run("process_id").result
    assert psutil.Process(child).nice() >= 10
    assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) >= 500
    assert os.getsid(child) == child


def test_a_module_that_cannot_be_loaded_is_named() -> None:
    """A worker whose task modules are broken fails at its start with the module's name."""
    groups = ProcessGroups()
    slot = Slot(
        worker_id="w",
        settings=ComputeSettings(task_modules="no_such_module"),
        groups=groups,
        on_progress=lambda _grant, _progress: None,
        environ={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with pytest.raises(ChildFailedError, match="no_such_module"):
        slot.warm_up()
