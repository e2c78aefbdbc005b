"""Promise 4: a repeated Idempotency-Key gives the same job, and another payload under it is refused."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from breaking import Api, eventually, jobs_of, serves
from customers import BMI
from running_stack import RunningStack

AT_ONCE = 30


@pytest.fixture
def api(stack: RunningStack) -> Iterator[Api]:
    """A client of the shared stack, ready again if a test before has killed something."""
    eventually(lambda: serves(stack), "ready and serving")
    with stack.client() as http:
        yield Api(http)


def submit(http: httpx.Client, key: str, **changes: object) -> httpx.Response:
    """Submit under *key*."""
    return http.post("/jobs", json={"task": "bmi", "params": BMI} | changes, headers={"Idempotency-Key": key})


def stored(stack: RunningStack, key: str) -> int:
    """How many jobs the ledger has that were ever submitted under *key*, which is their reference as well."""
    with jobs_of(stack, stack.environment["DATABASE"]) as jobs:
        return jobs.count_documents({"reference": key})


def test_thirty_at_once_are_one_job(api: Api, stack: RunningStack) -> None:
    """Thirty submissions of one key at the same moment: one pid, one stored job, one run; all but one say replayed.

    Break: results_service/ledger/database.py index `idempotency` without unique.
    """
    key = uuid.uuid4().hex
    start = threading.Barrier(AT_ONCE)

    def one(_: int) -> httpx.Response:
        with stack.client() as http:
            start.wait(30)
            return submit(http, key, reference=key)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, range(AT_ONCE)))
    assert {answer.status_code for answer in answers} == {202}
    (pid,) = {answer.json()["pid"] for answer in answers}
    assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in answers) == [
        "",
        *["true"] * (AT_ONCE - 1),
    ]
    assert {answer.headers["Location"] for answer in answers} == {f"{stack.api}/jobs/{pid}"}
    assert stored(stack, key) == 1
    assert len(api.ended(pid)["attempts"]) == 1


def test_another_payload_is_refused(api: Api, stack: RunningStack) -> None:
    """Another task, other params or other options under a used key: 422, and no job; bare and quoted are one key.

    Break: gateway/submissions.py fingerprint of the params alone.
    """
    key = uuid.uuid4().hex
    first = submit(api.http, key, reference=key)
    assert first.status_code == 202
    for changes in ({"params": BMI | {"name": "Bob"}}, {"priority": "high"}, {"tags": ["x"]}):
        answer = submit(api.http, key, **({"reference": key} | changes))
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "idempotency-mismatch")
    quoted = submit(api.http, f'"{key}"', reference=key)
    assert (quoted.status_code, quoted.json()["pid"]) == (202, first.json()["pid"])
    assert stored(stack, key) == 1


def test_refusals_are_not_remembered(api: Api) -> None:
    """A submission that was refused leaves its key free.

    Break: gateway/submissions.py `new_job` without raising what it found.
    """
    key = uuid.uuid4().hex
    assert submit(api.http, key, params={}).status_code == 400
    assert submit(api.http, key).status_code == 202


def test_a_key_outlives_the_death_of_the_results_service(api: Api, stack: RunningStack) -> None:
    """Submissions of one key while the results service is killed -9 and comes back are one job, answered 202 in the end.

    Break: results_service/ledger/documents.py `new_document` without `idempotency`.
    """
    key = uuid.uuid4().hex
    before = stack.pid("results")
    answers: list[httpx.Response] = []
    leaving = threading.Event()

    def insist() -> None:
        with stack.client() as http:
            while not leaving.wait(0.02):
                answers.append(submit(http, key, reference=key))

    threads = [threading.Thread(target=insist) for _ in range(4)]
    os.kill(before, signal.SIGKILL)
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: any(answer.status_code == 202 for answer in answers), "taken")
        os.kill(eventually(lambda: (now := stack.pid("results")) != before and now, "started again"), signal.SIGKILL)
        told = len(answers)
        eventually(lambda: any(answer.status_code == 202 for answer in answers[told + 20 :]), "taken once more")
    finally:
        leaving.set()
        for thread in threads:
            thread.join(30)
    assert {answer.status_code for answer in answers} <= {202, 503}
    (pid,) = {answer.json()["pid"] for answer in answers if answer.status_code == 202}
    assert stored(stack, key) == 1
    assert api.ended(pid)["attempt"] == 1


def test_a_503_is_repeated_without_fear(api: Api, stack: RunningStack, tmp_path: Path) -> None:
    """A submission whose answer was lost with the results service, repeated under its key, gives what was stored.

    Break: results_service/ledger/register.py `_replay` inserting at once.
    """
    key = uuid.uuid4().hex
    results = stack.pid("results")
    os.kill(results, signal.SIGSTOP)
    try:
        lost = submit(api.http, key, reference=key)
    finally:
        os.kill(results, signal.SIGCONT)
    assert lost.status_code == 503
    answer = eventually(
        lambda: (found := submit(api.http, key, reference=key)).status_code == 202 and found, "taken in the end"
    )
    assert stored(stack, key) == 1
    if "Idempotency-Replayed" in answer.headers:  # it had been stored after all, under the pid that was named
        assert answer.json()["pid"] == lost.json()["pid"]
