"""The gateway as users meet it: under gunicorn, over HTTP, in a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from conftest import Servers
from gateway_ledger import BMI, MEETING, MemoryLedger, Responder

from local_stack import ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 10.0
BODY = {"params": BMI.example}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@dataclass(frozen=True)
class Gateway:
    """A gateway under gunicorn, and the results service behind it."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    responder: Responder


@pytest.fixture(scope="module")
def gateway(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all tests that leave it as it was."""
    with running(servers, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@contextmanager
def running(servers: Servers, folder: Path) -> Iterator[Gateway]:
    """Started as in production, on a free port, in a vhost of its own."""
    vhost = f"test-{uuid.uuid4()}"
    uri = servers.make_vhost(vhost)
    responder = Responder(uri, MemoryLedger(BMI, MEETING))
    port = ports.pick()
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "python:gateway.gunicorn_conf"],
            env=os.environ | {"AMQP_URI": uri, "PORT": str(port), "PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while not _ready(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Gateway(url, port, process, responder)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
        responder.close()
        servers.drop_vhost(vhost)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_listens_on_loopback_and_takes_jobs(gateway: Gateway):
    """A submission over HTTP is stored, and its Location answers."""
    response = httpx.post(f"{gateway.url}/api/v1/tasks/bmi/jobs", json=BODY)
    assert response.status_code == 202
    assert response.headers["Location"].startswith(f"{gateway.url}/api/v1/jobs/")
    assert httpx.get(response.headers["Location"]).json()["params"] == BMI.example


def test_a_request_in_flight_is_answered_before_it_stops(servers: Servers, tmp_path: Path):
    """SIGTERM lets the request that waits for an answer end, then the process goes away by itself."""
    with running(servers, tmp_path) as gateway, ThreadPoolExecutor() as pool:
        gateway.responder.mute = True
        asked = pool.submit(httpx.post, f"{gateway.url}/api/v1/tasks/bmi/jobs", json=BODY)
        deadline = time.monotonic() + START_SECONDS
        while not gateway.responder.silenced:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(STOP_SECONDS) == 0
        assert asked.result(STOP_SECONDS).json()["pid"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(1024 * 1024, 400), (1024 * 1024 + 1, 413), (4 * 1024 * 1024, 413)])
def test_the_limit_of_a_body_holds_to_the_byte(gateway: Gateway, size: int, status: int, *, chunked: bool):
    """A body of the limit is read, a longer one is 413, whether it tells its length or comes in chunks."""
    body = b'"' + b"a" * (size - 2) + b'"'
    content = (body[start : start + 65536] for start in range(0, size, 65536)) if chunked else body
    response = httpx.post(f"{gateway.url}/api/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "request_line",
    [b"GET /api/v1/jobs/\xff\xfe HTTP/1.1", b"BREW /api/v1/jobs HTTP/1.1", b"GET /api/v1/jobs?limit=%FF HTTP/1.1"],
)
def test_odd_requests_are_4xx(gateway: Gateway, request_line: bytes):
    """What no ordinary client would send is refused, never a server error."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = connection.recv(65536)
    assert re.match(rb"HTTP/1.1 4\d\d ", answer)
