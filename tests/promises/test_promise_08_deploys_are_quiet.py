"""Promise 8: a service that is told to stop takes nothing new, ends what it holds, and loses nothing."""

import email
import email.policy
import json
import signal
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Smtp
from crew import Crew, Member, crew, eventually
from shared_servers import Servers

from local_stack.ports import LOOPBACK

DRAIN_SECONDS = 3.0
TAKE_OVER_SECONDS = 2.0


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One of each service; the tests start more and stop some."""
    folder = tmp_path_factory.mktemp("quiet")
    settings = {"DRAIN_SECONDS": str(DRAIN_SECONDS), "CANCEL_GRACE_SECONDS": "0.5"}
    with crew(servers, folder, "gateway", "results", "notifier", "compute", **settings) as one:
        yield one


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def last(stack: Crew, name: str) -> Member:
    """The newest service of that name that runs."""
    return [one for one in stack.members if one.log.stem.startswith(name) and one.process.exit_code() is None][-1]


def ran_on(worker: Member, attempt: dict[str, Any]) -> bool:
    """Whether this worker ran the attempt; a worker names itself in its own log."""
    return attempt["worker"] in worker.log.read_text()


def another_worker(stack: Crew, **settings: str) -> Member:
    """One more worker, ready."""
    (worker,) = stack.start("compute", **settings)
    eventually(lambda: "worker_started" in worker.log.read_text(), "the new worker")
    return worker


def test_a_worker_that_stops_finishes_what_fits_and_hands_back_the_rest(stack: Crew, tmp_path: Path) -> None:
    """SIGTERM: nothing new is taken, a short job ends in the drain time, a long one runs elsewhere in 2 s, uncounted.

    Break: compute_service/pool.py `slot.stop(grant.pid, grant.fence, Ending.HANDED_BACK)`, to `pass`, for the long
    job; compute_service/desk.py `self._closed = True`, to `False`, for what is new.
    """
    trace = tmp_path / "trace"
    old = last(stack, "compute")
    short = stack.submit("hold", {"file": str(trace), "release": str(tmp_path / "short")})
    long = stack.submit("hold", {"file": str(trace), "release": str(tmp_path / "long")}, max_attempts=1)
    for pid in (short, long):
        stack.started(pid)
    new = another_worker(stack)
    old.below()
    old.signal(signal.SIGTERM)
    eventually(lambda: "worker_drains" in old.log.read_text(), "the drain")
    (tmp_path / "short").touch()
    later = [stack.submit("noop") for _ in range(20)]
    assert all(ran_on(new, stack.wait(pid)["attempts"][0]) for pid in later)
    assert old.process.wait(DRAIN_SECONDS + 10)
    assert old.process.exit_code() == 0
    eventually(lambda: not old.survivors(), "the end of every process of the old worker", 1)
    done = stack.wait(short)
    assert [(ran_on(old, one), one["outcome"]) for one in done["attempts"]] == [(True, "succeeded")]
    stack.wait(long, "running", seconds=TAKE_OVER_SECONDS)
    (tmp_path / "long").touch()
    job = stack.wait(long)
    assert job["status"] == "succeeded", "its one attempt was left to it"
    given_back, again = job["attempts"]
    assert (ran_on(old, given_back), given_back["outcome"]) == (True, "handed_back")
    assert ran_on(new, again)
    pause = moment(again["started_at"]) - moment(given_back["finished_at"])
    assert pause.total_seconds() < TAKE_OVER_SECONDS


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)],
)
def test_whatever_signal_stops_a_worker_its_job_is_handed_back(
    stack: Crew, first: signal.Signals, second: signal.Signals
) -> None:
    """SIGTERM or Ctrl-C, and a second one while it drains: the job is handed back, and never lost to the lease.

    Break: compute_service/pool.py `slot.stop(grant.pid, grant.fence, Ending.HANDED_BACK)`, to `pass`.
    """
    pid = stack.submit("go_on", {"how": "swallow"}, max_attempts=1)
    stack.started(pid)
    old = last(stack, "compute")
    another_worker(stack)
    old.below()
    old.signal(first)
    eventually(lambda: "worker_drains" in old.log.read_text(), "the drain")
    old.signal(second)
    assert old.process.wait(DRAIN_SECONDS + 10)
    eventually(lambda: not old.survivors(), "the end of every process of the old worker", 1)
    eventually(lambda: len(stack.job(pid)["attempts"]) == 2, "the job at work elsewhere", TAKE_OVER_SECONDS)
    assert stack.job(pid)["attempts"][0]["outcome"] == "handed_back"
    stack.cancel(pid)
    assert stack.wait(pid)["status"] == "cancelled"


def test_a_results_service_that_stops_loses_no_request(stack: Crew) -> None:
    """One of two stops in the middle of many requests: every one of them is answered, and none with an error.

    Break: results_service/batch.py `self._stopped.wait(DRAIN_SECONDS)`, to `os._exit(1)`.
    """
    old = last(stack, "results")
    (new,) = stack.start("results")
    eventually(lambda: "broker_connected" in new.log.read_text(), "the second results service")
    over = threading.Event()
    codes: Counter[tuple[str, int]] = Counter()

    def ask() -> None:
        with httpx.Client(base_url=stack.http.base_url, timeout=10) as http:
            while not over.is_set():
                answer = http.post("/jobs", json={"task": "noop", "params": {}, "max_attempts": 1})
                codes["submit", answer.status_code] += 1
                if answer.status_code == 202:
                    pid = answer.json()["pid"]
                    codes["get", http.get(f"/jobs/{pid}").status_code] += 1
                    codes["list", http.get("/jobs?limit=1").status_code] += 1

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        eventually(lambda: codes["submit", 202] > 50, "requests on their way")
        old.signal(signal.SIGTERM)
        assert old.process.wait(15)
        before = codes["submit", 202]
        eventually(lambda: codes["submit", 202] > before + 50, "requests after it")
        over.set()
        for one in asking:
            one.result()
    assert old.process.exit_code() == 0
    assert set(codes) == {("submit", 202), ("get", 200), ("list", 200)}, codes


def test_a_notifier_that_stops_loses_and_repeats_no_mail(stack: Crew, smtp_sink: Smtp) -> None:
    """It stops in the middle of many mails; another one sends the rest, and nobody gets one twice.

    Break: results_service/notifier/wakeup.py `self.running.notifier.loop.wind_down()`, to `os._exit(1)`.
    """
    to = f"{uuid.uuid4().hex}@example.org"
    old = last(stack, "notifier")
    pids = [stack.submit("noop", notify={"email": to, "on": ["succeeded"]}) for _ in range(60)]
    eventually(lambda: len(recipients_pids(smtp_sink, to)) >= 5, "the first mails")
    old.signal(signal.SIGTERM)
    assert old.process.wait(15)
    assert old.process.exit_code() == 0
    assert all(entry["state"] != "failed" for pid in pids for entry in stack.job(pid)["notifications"])
    stack.start("notifier")
    eventually(lambda: len(recipients_pids(smtp_sink, to)) >= len(pids), "all mails", 90)
    eventually(lambda: all(stack.job(pid)["notifications"][0]["state"] == "sent" for pid in pids), "all written down")
    assert sorted(recipients_pids(smtp_sink, to)) == sorted(pids)


def recipients_pids(sink: Smtp, recipient: str) -> list[str]:
    """The jobs of the mails that *recipient* has got."""
    contents = (file.read_bytes() for file in sink.mails())
    mine = [one for one in contents if recipient.encode() in one]
    return [str(email.message_from_bytes(one, policy=email.policy.default)["X-Coatcheck-Pid"]) for one in mine]


def test_a_gateway_that_stops_finishes_requests_in_flight(stack: Crew) -> None:
    """SIGTERM while a slow request is under way: new connections are refused, the request is answered as ever.

    Break: gateway/gunicorn_conf.py `graceful_timeout = _settings.graceful_timeout_seconds`, to `0`.
    """
    gateway, results = last(stack, "gateway"), last(stack, "results")
    body = json.dumps({"task": "noop", "params": {}}).encode()
    head = (
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: {LOOPBACK}:{stack.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    stack.http.close()
    results.signal(signal.SIGSTOP)  # so that the request takes its time
    try:
        with socket.create_connection((LOOPBACK, stack.port), 10) as request:
            request.sendall(head.encode())
            assert b" 100 " in request.recv(1024), "the request is not being served"
            request.sendall(body)
            gateway.signal(signal.SIGTERM)
            eventually(lambda: refused(stack.port), "refused connections", 1.5)
            results.signal(signal.SIGCONT)
            answer = b"".join(iter(lambda: request.recv(4096), b""))
    finally:
        results.signal(signal.SIGCONT)
    assert answer.startswith(b"HTTP/1.1 202 "), answer
    assert gateway.process.wait(15)
    assert gateway.process.exit_code() == 0
    stack.http = httpx.Client(base_url=stack.http.base_url, timeout=10)
    stack.start("gateway")
    stack.ready()
    assert stack.wait(json.loads(answer.partition(b"\r\n\r\n")[2])["pid"])["status"] == "succeeded"


def refused(port: int) -> bool:
    """Whether nobody takes a new connection."""
    try:
        with socket.create_connection((LOOPBACK, port), 1):
            return False
    except ConnectionRefusedError:
        return True
