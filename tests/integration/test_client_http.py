"""The client against a server that loses an answer."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import Coatcheck
from client.errors import NotRetryable

PID = "01a1fb09-8758-721f-aec3-473509465807"
JOB = {"pid": PID, "status": "running", "created_at": "2030-01-31T08:00:00Z", "links": {}}
PROBLEM = {"type": "/problems/not-retryable", "detail": "Job is running.", "job_status": "running"}


class LosesAnswers(BaseHTTPRequestHandler):
    """The job is active; the connection of the first so many retries breaks before their answer."""

    lose = 0

    def do_POST(self) -> None:
        """A retry, which is refused."""
        if type(self).lose:
            type(self).lose -= 1
            self.close_connection = True
        else:
            self._answer(409, PROBLEM)

    def do_GET(self) -> None:
        """The job."""
        self._answer(200, JOB)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's signature
        """Say nothing."""

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def service() -> Iterator[Coatcheck]:
    """The client, at that server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), LosesAnswers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Coatcheck(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()


def test_a_retry_whose_answer_was_lost_is_done(service: Coatcheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repetition is told that the job is active: that is what was asked for, so it is no error."""
    monkeypatch.setattr(LosesAnswers, "lose", 1)
    assert service.retry(PID) == {**JOB, "message": "The job runs again."}


def test_a_retry_that_is_refused_at_once_is_an_error(service: Coatcheck) -> None:
    """Nothing was lost, so somebody else's run is not taken for ours."""
    with pytest.raises(NotRetryable):
        service.retry(PID)
