"""Promise 11: an unknown pid is 404 everywhere and always, and a job that was acknowledged never is."""

import threading
import uuid
from collections.abc import Iterator

import httpx
import pytest
from breaking import Api, eventually, serves
from customers import BMI, Customers
from running_stack import RunningStack

from contracts.ids import new_id

REQUESTS = (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""))
MALFORMED = ("x", "0", str(uuid.uuid4()), "0199c0de", "%00", "null", "latest2", "..%2Ftasks", "a" * 2000)


@pytest.fixture
def api(stack: RunningStack) -> Iterator[Api]:
    """A client of the shared stack."""
    eventually(lambda: serves(stack), "ready and serving")
    with stack.client() as http:
        yield Api(http)


def is_not_found(answer: httpx.Response) -> bool:
    """Whether it is the problem document of an unknown job."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    return (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found")


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_what_is_no_job_is_404(api: Api, method: str, path: str) -> None:
    """Well-formed but unknown, of another version, malformed or absurd: 404, never pending, never 500.

    Break: results_service/ledger/queries.py `get` answering a pending job for what is not there (GET);
    results_service/ledger/orders.py `_stop` and `retry` likewise (POST, DELETE).
    """
    for pid in (new_id(), *MALFORMED):
        answer = api.http.request(method, f"/jobs/{pid}{path}")
        assert is_not_found(answer), f"{pid}: {answer.text}"


@pytest.mark.parametrize("task", ["bmi", "wait"])
def test_what_was_deleted_is_404_at_once(api: Api, task: str) -> None:
    """From its 204 on a deleted job is unknown to every address and to the list, whether it had ended or still ran.

    Break: results_service/ledger/queries.py without the look at `deleted_at`.
    """
    pid = api.submit(task, BMI if task == "bmi" else {"message": "", "seconds": 600})
    eventually(lambda: api.job(pid).get("status") in {"running", "succeeded"}, "under way")
    assert api.http.delete(f"/jobs/{pid}").status_code == 204
    for method, path in REQUESTS:
        assert is_not_found(api.http.request(method, f"/jobs/{pid}{path}"))
    assert pid not in [job["pid"] for job in api.http.get("/jobs").json()["jobs"]]


def test_it_holds_under_load(api: Api, stack: RunningStack) -> None:
    """While jobs come and go, acknowledged ones are always found, and unknown and deleted ones never.

    Break: results_service/ledger/queries.py `get` taking some other job of its batch for one that it did not find.
    """
    wrong: list[str] = []
    leaving = threading.Event()

    def look() -> None:
        with stack.client() as http:
            while not leaving.is_set():
                pid = http.post("/jobs", json={"task": "bmi", "params": BMI}).json()["pid"]
                if http.delete(f"/jobs/{pid}").status_code != httpx.codes.NO_CONTENT:
                    wrong.append(f"{pid} was not there to be deleted")
                wrong.extend(
                    f"{method} {path} of {which}"
                    for which in (pid, new_id())
                    for method, path in REQUESTS
                    if not is_not_found(http.request(method, f"/jobs/{which}{path}"))
                )

    threads = [threading.Thread(target=look) for _ in range(3)]
    with Customers(stack, pause=0.02) as customers:
        for thread in threads:
            thread.start()
        try:
            customers.wait_accepted(60)
        finally:
            leaving.set()
            for thread in threads:
                thread.join(30)
    assert wrong == []
    assert customers.unseen == []
    customers.wait_ended()
