"""The stack's life: it comes up, keeps its jobs, stops in order, and leaves nothing behind."""

import os
import signal
import time

import httpx
import psutil
import pytest
from running_stack import MakeStack, RunningStack, survivors

from client.api import Coatcheck

RESTART_SECONDS = 20.0
"""On a machine that has nothing else to do."""
STOP_SECONDS = 15.0
BMI = {"name": "Ada", "weight_kg": 70, "height_cm": 175}


def run_a_job(stack: RunningStack) -> str:
    """Submit a BMI job and wait for its result; answers the pid."""
    with Coatcheck(stack.api) as service:
        pid = service.submit("bmi", BMI)["pid"]
        job = service.wait(pid, timeout_seconds=30)
    assert job["result"]["bmi"] == 22.9
    return pid


def stop_in_time(stack: RunningStack, sign: signal.Signals = signal.SIGINT) -> None:
    """Stop it as Ctrl-C does; in time, with exit code 0, and with no process left."""
    family = stack.family()
    since = time.monotonic()
    assert stack.stop(sign) == 0, stack.text()
    assert time.monotonic() - since < STOP_SECONDS
    assert survivors(family, 0.5) == []


def test_stop_restart_and_sudden_death(new_stack: MakeStack):
    """Ctrl-C ends all within 15 s; a restart on other ports has the jobs within 20 s; kill -9 leaves nothing."""
    stack = new_stack()
    stack.start()
    pid = run_a_job(stack)
    stop_in_time(stack)
    (stack.folder / "stack.json").unlink()  # which remembers the ports, so the servers move to others
    since = time.monotonic()
    stack.start()
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.monotonic() - since < RESTART_SECONDS * crowd, stack.text()
    with Coatcheck(stack.api) as service:
        assert service.job(pid)["result"]["bmi"] == 22.9
    run_a_job(stack)
    family = stack.family()
    stack.running.kill()
    stack.running.wait(5)
    assert survivors(family, 10) == []


def test_two_stacks_side_by_side(new_stack: MakeStack):
    """Two stacks with their own PORT and LOCAL_DIR share nothing; Ctrl-C twice ends one at once, not the other."""
    first, second = new_stack("first"), new_stack("second")
    first.launch()
    second.launch()
    for stack in (first, second):
        stack.wait_for(lambda stack=stack: stack.state.ready, 120, "ready")
    pid = run_a_job(first)
    assert httpx.get(f"{second.api}/jobs/{pid}", timeout=5).status_code == 404
    assert set(first.state.ports.values()).isdisjoint(second.state.ports.values())
    family = first.family()
    first.running.send_signal(signal.SIGINT)
    first.wait_for(lambda: "stopping gateway" in first.text(), 5, "stopping")
    first.running.send_signal(signal.SIGINT)
    assert first.running.wait(10) == 130
    assert survivors(family, 3) == []
    run_a_job(second)


@pytest.mark.parametrize("name", ["gateway", "compute", "results", "notifier", "rabbitmq", "mongodb", "smtp", "epmd"])
def test_a_killed_process_comes_back(own_stack: RunningStack, name: str):
    """Kill -9 of any process: the terminal says so, it is started again, and jobs run as before."""
    before = own_stack.pid(name)
    os.kill(before, signal.SIGKILL)
    own_stack.wait_for(lambda: own_stack.state.processes.get(name, before) != before, 10, "started again")
    own_stack.wait_for(lambda: f"{name} was killed by SIGKILL" in own_stack.text(), 5, "said")
    assert str(own_stack.folder / "log" / f"{name}.log") in own_stack.text()
    own_stack.wait_for(lambda: ready(own_stack), 90, "ready again")
    run_a_job(own_stack)


@pytest.mark.parametrize(
    ("moment", "sign"), [("mongodb", signal.SIGINT), ("rabbitmq", signal.SIGHUP), ("results", signal.SIGTERM)]
)
def test_it_can_be_stopped_while_it_starts(new_stack: MakeStack, moment: str, sign: signal.Signals):
    """Ctrl-C, a closed terminal or SIGTERM while it comes up stops what was started, in time."""
    stack = new_stack()
    stack.launch()
    stack.wait_for(lambda: moment in stack.state.processes, 60, f"starting {moment}")
    stop_in_time(stack, sign)


def test_nothing_listens_beyond_loopback(own_stack: RunningStack):
    """Every port of the stack is on loopback."""
    for process in own_stack.family():
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in {"127.0.0.1", "::1"}, (process.name(), connection)


def test_files_with_secrets_are_private(own_stack: RunningStack):
    """The broker's password is readable by its owner only, wherever it is written."""
    for name in ("stack.json", "rabbitmq/password", "rabbitmq/rabbitmq.conf"):
        assert (own_stack.folder / name).stat().st_mode & 0o077 == 0
    password = (own_stack.folder / "rabbitmq/password").read_text()
    assert password not in own_stack.text()
    for log in (own_stack.folder / "log").iterdir():
        assert password not in log.read_text(errors="replace")


def ready(stack: RunningStack) -> bool:
    """Whether it is ready, and a worker serves."""
    try:
        if httpx.get(f"{stack.url}/readyz", timeout=3).status_code != httpx.codes.OK:
            return False
        tasks = httpx.get(f"{stack.api}/tasks", timeout=3).json()["tasks"]
    except (httpx.HTTPError, KeyError):
        return False
    return any(task["serving"] for task in tasks)


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory):
    """A stack with private servers, for the tests of this file that break it and see it heal."""
    stack = RunningStack(tmp_path_factory.mktemp("own") / "local")
    try:
        stack.start()
        yield stack
    finally:
        stack.end()
