"""Promise 1: after 202 a job reaches a terminal state, once whatever was killed is back."""

import threading
from collections.abc import Iterator

import pika
import pytest
from breaking import eventually, kill, serves, step_down
from customers import BMI, Customers
from running_stack import RunningStack

from contracts import topology

METHODS = ("register", "settle", "heartbeat", "get")
QUEUES = (topology.doorbell_queue("default"), "rpc-results", *map(topology.ledger_queue, METHODS))


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with servers of its own, which the tests break and which heals."""
    environment = {
        "LEASE_SECONDS": "6",
        "WORKER_HEARTBEAT_SECONDS": "0.5",
        "SWEEP_SECONDS": "1",
        "SLOTS": "2",
        "MAIL_POLL_SECONDS": "2",
    }
    stack = RunningStack(tmp_path_factory.mktemp("promise-1") / "local", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def whole(counter: RunningStack) -> RunningStack:
    """The stack, healed from the test before."""
    eventually(lambda: serves(counter), "ready and serving")
    return counter


@pytest.mark.parametrize("name", ["gateway", "results", "compute", "rabbitmq", "mongodb"])
def test_kill_9_right_after_a_202_loses_nothing(whole: RunningStack, name: str) -> None:
    """Kill -9 in the moment of a 202, under load: every acknowledged job ends, is never unknown, and runs once.

    A 503 left no job or the one whose pid it named, and a mail comes once. Only the worker's death costs an attempt.
    Break: results_service/ledger/sweep.py `_give_up_silent_workers` giving nobody up (compute);
    gateway/rpc_ledger.py `register` without the pid in the error (results, mongodb); contracts/broker.py `_run` ending
    with a connection that was ready (rabbitmq); gateway/api/jobs.py `submit` without `register` (gateway).
    """
    with Customers(whole) as customers:
        customers.at(10, lambda: kill(whole, name))
        customers.wait_accepted(40)
    ended = customers.wait_ended()
    customers.check_the_book()
    if name != "compute":
        assert {pid: job["attempt"] for pid, job in ended.items() if job["attempt"] != 1} == {}
    assert {job["status"] for job in ended.values()} == {"succeeded", "failed"}
    assert {job["error"]["kind"] for job in ended.values() if job["error"]} == {"task_error"}
    customers.check_the_mail(ended)


def test_a_step_down_loses_nothing_and_runs_nothing_twice(whole: RunningStack) -> None:
    """The primary steps down under load and is elected again: every acknowledged job ends after one attempt.

    Break: compute_service/desk.py `failed` emptying `_outbox`.
    """
    with Customers(whole, threads=4, pause=0.03) as customers:
        customers.at(10, lambda: threading.Thread(target=step_down, args=(whole, 3)).start())
        eventually(lambda: any(answer.status == 503 for answer in customers.book), "an answer without a primary")
        customers.wait_accepted(len(customers.accepted) + 30)
    ended = customers.wait_ended()
    customers.check_the_book()
    assert {job["attempt"] for job in ended.values()} == {1}
    customers.check_the_mail(ended)


def test_messages_may_be_lost(whole: RunningStack) -> None:
    """Whatever waits while the results service is dead is thrown away: requests are answered 503, and all jobs end.

    Break: compute_service/desk.py `failed` emptying `_outbox`.
    """
    before = whole.pid("results")
    purged = 0
    with (
        pika.BlockingConnection(pika.URLParameters(whole.state.amqp_uri)) as connection,
        Customers(whole, pause=0.05) as customers,
    ):
        customers.at(10, lambda: kill(whole, "results"))
        customers.wait_accepted(10)
        channel = connection.channel()

        def purge() -> bool:
            nonlocal purged
            purged += sum(channel.queue_purge(queue).method.message_count for queue in QUEUES)
            return whole.pid("results") != before and purged > 0

        eventually(purge, "messages lost")
        customers.wait_accepted(len(customers.accepted) + 10)
    ended = customers.wait_ended()
    customers.check_the_book()
    assert {job["attempt"] for job in ended.values()} == {1}


def test_bells_may_be_lost(whole: RunningStack) -> None:
    """Jobs whose bells went nowhere wait for no other job's bell: the sweep rings for them.

    Break: results_service/ledger/sweep.py `_ring_for_due_jobs` returning at once.
    """
    queue, exchange = topology.doorbell_queue("default"), topology.DOORBELL_EXCHANGE
    with (
        whole.client() as http,
        pika.BlockingConnection(pika.URLParameters(whole.state.amqp_uri)) as connection,
    ):
        channel = connection.channel()
        channel.queue_unbind(queue, exchange, "default")
        try:
            pids = [http.post("/jobs", json={"task": "bmi", "params": BMI}).json()["pid"] for _ in range(5)]
            assert {http.get(f"/jobs/{pid}").json()["status"] for pid in pids} == {"pending"}
        finally:
            channel.queue_bind(queue, exchange, "default")
        eventually(
            lambda: all(http.get(f"/jobs/{pid}").json()["status"] == "succeeded" for pid in pids), "all of them ended"
        )
