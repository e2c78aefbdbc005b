"""Which process counts for which part of a side."""

import pytest

from bench.processes import inside, role_of, spent


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["/usr/lib/erlang/erts-13/bin/beam.smp", "-W", "w"], "rabbitmq"),
        (["/usr/bin/mongod", "--port", "1"], "mongod"),
        (["mongod"], "mongod"),
        (["python", "-m", "gunicorn", "--config", "gateway/gunicorn_conf.py"], "gateway"),
        (["python", "/x/bin/nameko", "run", "--config", "compute_service/config.yaml"], "compute"),
        (["python", "/x/bin/nameko", "run", "results_service.service"], "results"),
        (["python", "/x/bin/nameko", "run", "results_service.notifier.service"], "notifier"),
        (["python", "-m", "celery", "--app", "bench.peer.tasks", "worker"], "worker"),
        (["python", "-m", "bench.load"], "load generator"),
        (["python", "-m", "local_stack.smtp_sink", "/x"], "smtp sink"),
        (["python", "-m", "local_stack"], "supervisor"),
    ],
)
def test_role_from_the_command_line(command: list[str], role: str) -> None:
    """Every program that either side starts is told by its command line."""
    assert role_of(command, "inherited") == role


def test_role_is_inherited() -> None:
    """A helper that says nothing about itself counts for its parent; an argument that names a URI is no server."""
    assert role_of(["python", "-c", "x", "mongodb://127.0.0.1/"], "compute") == "compute"


def test_inside_leaves_out_what_drives_a_side() -> None:
    """The load generator and the supervisor are in no sum."""
    assert inside({"gateway": 1.0, "mongod": 2.0, "load generator": 8.0, "supervisor": 16.0}) == 3.0


def test_spent_counts_processes_that_came_and_went() -> None:
    """A role that is only in one of two readings still counts, so that time moved to a parent balances."""
    assert spent({"compute": 1.0, "child": 0.5}, {"compute": 2.0}) == {"child": -0.5, "compute": 1.0}
