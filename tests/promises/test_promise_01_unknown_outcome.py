"""Promise 1, in the ledger: when MongoDB's answer is lost after the write, the ledger looks and never guesses."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Servers
from ledger_bench import Bench
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from contracts.errors import NoReply
from contracts.ids import new_id
from contracts.messages import Claim, Finish, Idempotency, Settle, Ticket
from contracts.status import JobStatus, Outcome
from results_service.ledger.database import Database


class OneWay:
    """A TCP relay whose connections can be made deaf: what they ask arrives, what is answered is lost."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._deaf: set[int] = set()
        self._made = 0
        self.all_deaf = False
        threading.Thread(target=self._accept, daemon=True).start()

    def deafen(self) -> None:
        """Every connection that there is; new ones work."""
        self._deaf = set(range(self._made))

    def close(self) -> None:
        """Take it away."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, timeout=5)
                threading.Thread(target=self._relay, args=(near, far, self._made), daemon=True).start()
                self._made += 1

    def _relay(self, near: socket.socket, far: socket.socket, number: int) -> None:
        with near, far, contextlib.suppress(OSError):
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is near:
                        far.sendall(data)
                    elif not self.all_deaf and number not in self._deaf:
                        near.sendall(data)


@pytest.fixture
def relay(servers: Servers) -> Iterator[OneWay]:
    """On the way to the shared mongod."""
    host, _, port = servers.mongodb.partition(":")
    relay = OneWay((host, int(port)))
    yield relay
    relay.close()


@pytest.fixture
def far(bench: Bench, relay: OneWay, fresh_database: str) -> Iterator[Bench]:
    """A ledger beyond the relay, over the database of `bench`, with its connection warm."""
    name = parse_uri(fresh_database)["database"]
    assert name
    uri = f"mongodb://127.0.0.1:{relay.port}/?directConnection=true"
    database = Database(uri, name, timeout_seconds=1)
    far = Bench(database)
    far.register()
    assert len(far.claim()) == 1
    yield far
    database.close()


def test_a_registration_whose_answer_was_lost_is_looked_up(far: Bench, relay: OneWay, bench: Bench) -> None:
    """The write arrived, its answer did not: the ticket is given all the same, once the ledger has seen the job.

    Break: results_service/ledger/register.py `__call__` answering `NoReply` for what is unsure.
    """
    jobs = [far.new(), far.new(idempotency=Idempotency(key="k", fingerprint="f"))]
    relay.deafen()
    answers = far.ledger.register(jobs)
    assert [answer.pid for answer in answers if isinstance(answer, Ticket)] == [job.pid for job in jobs]
    assert {bench.job(job.pid)["status"] for job in jobs} == {JobStatus.PENDING}


def test_what_cannot_be_looked_up_is_unknown(far: Bench, relay: OneWay, bench: Bench) -> None:
    """As long as MongoDB answers nothing at all, the answer is that the outcome is unknown; the job may be stored.

    Break: results_service/ledger/register.py `_insert` answering set() for an error of unknown outcome.
    """
    job = far.new()
    relay.all_deaf = True
    (answer,) = far.ledger.register([job])
    assert isinstance(answer, NoReply)
    relay.all_deaf = False
    assert bench.job(job.pid)["status"] == JobStatus.PENDING


def lose_the_answer(far: Bench, relay: OneWay, trip: Settle) -> None:
    """Settle *trip*, and go deaf between its reads and its write."""
    jobs = far.ledger.settle._jobs
    write = jobs.bulk_write

    def deaf_write(*operations: Any, **options: Any) -> Any:
        relay.deafen()
        return write(*operations, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "bulk_write", deaf_write)
        with pytest.raises(PyMongoError):
            far.settle(trip)


def test_a_claim_and_a_finish_whose_answers_were_lost_count_once(far: Bench, relay: OneWay, bench: Bench) -> None:
    """Repeated, the claim has the same grant and the finish is stored, as one attempt with its first result.

    Break: results_service/ledger/settle.py `_granted_before` returning {}; `_verdict` without the settled fence.
    """
    pid = far.register()
    claim = Claim(claim_id=new_id(), worker_id="w1", pool="default", tasks=["bmi"], count=1)
    lose_the_answer(far, relay, Settle(claim=claim))
    assert bench.job(pid)["status"] == JobStatus.RUNNING
    (grant,) = far.settle(Settle(claim=claim, repeated=True)).grants
    assert (grant.pid, grant.fence, grant.attempt) == (pid, 1, 1)
    finish = Finish(pid=pid, fence=1, worker_id="w1", outcome=Outcome.SUCCEEDED, result="first")
    lose_the_answer(far, relay, Settle(finishes=[finish]))
    assert bench.job(pid)["status"] == JobStatus.SUCCEEDED
    again = Finish(pid=pid, fence=1, worker_id="w1", outcome=Outcome.SUCCEEDED, result="second")
    (verdict,) = far.settle(Settle(finishes=[again], repeated=True)).verdicts
    assert (verdict.finish, verdict.status) == ("stored", JobStatus.SUCCEEDED)
    job = bench.job(pid)
    assert (job["result"], job["attempt"], len(job["attempts"])) == ("first", 1, 1)
