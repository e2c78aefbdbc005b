"""A stack that cannot run says so in a sentence, and leaves nothing behind."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running_stack import ROOT, MakeStack, RunningStack, survivors
from shared_servers import Servers

from local_stack import ports

REFUSAL_SECONDS = 30.0


def refuse(stack: RunningStack) -> str:
    """Start a stack that cannot run; answers what it said."""
    stack.launch()
    assert stack.running.wait(REFUSAL_SECONDS) == 1
    said = stack.text()
    assert "Traceback" not in said
    return said


def test_a_taken_port_is_named_with_what_to_do(new_stack: MakeStack):
    """The port of the gateway belongs to somebody else: say which, by whom, and how to choose another."""
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        said = refuse(new_stack(port=port))
    assert f"Port {port} is taken" in said
    assert "make run PORT=" in said


@pytest.mark.parametrize(
    ("variable", "uri"),
    [
        ("AMQP_URI", "amqp://user:s3cret@127.0.0.1:{port}/"),
        ("MONGODB_URI", "mongodb://127.0.0.1:{port}/?replicaSet=rs0"),
        ("SMTP_URI", "smtp://127.0.0.1:{port}"),
    ],
)
def test_a_dead_server_is_named_with_what_to_do(new_stack: MakeStack, variable: str, uri: str):
    """A server given by its URI does not answer: say which and how to do without, never its password."""
    said = refuse(new_stack(**{variable: uri.format(port=ports.pick())}))
    assert "does not answer" in said
    assert f"unset {variable}" in said
    assert "s3cret" not in said


def test_wrong_password_is_said(new_stack: MakeStack, servers: Servers):
    """A broker that refuses the login is told from one that is away."""
    said = refuse(new_stack(AMQP_URI=f"amqp://nobody:wrong@{servers.rabbitmq}/%2F"))
    assert "refuses the user" in said


def test_missing_packages_are_said(new_stack: MakeStack, tmp_path: Path):
    """Without mongod and RabbitMQ on the machine, the first one missing is named and how to get it."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import local_stack.rabbitmq, pathlib\nlocal_stack.rabbitmq.SERVER = pathlib.Path('/nowhere/rabbitmq-server')\n"
    )
    stack = new_stack()
    stack.environment["PYTHONPATH"] += f":{tmp_path}"
    said = refuse(stack)
    assert "apt-get install rabbitmq-server" in said


def test_a_service_that_cannot_start_ends_the_start(new_stack: MakeStack, servers: Servers):
    """A part that ends again and again gives up the start with its last words, and nothing is left."""
    stack = new_stack(
        AMQP_URI=servers.make_vhost("refusals"),
        MONGODB_URI=servers.mongodb_uri("refusals"),
        SMTP_URI=servers.smtp,
        LEASE_SECONDS="none",
    )
    stack.launch()
    stack.wait_for(lambda: "results" in stack.state.processes, 30, "starting the services")
    family = stack.family()
    assert stack.running.wait(60) == 1
    assert "results ends again and again" in stack.text()
    assert "LEASE_SECONDS" in stack.text()
    assert survivors(family, 2) == []


def test_a_second_stack_in_the_same_folder_is_refused(stack: RunningStack):
    """LOCAL_DIR belongs to one stack: the second is told who has it."""
    second = RunningStack(stack.folder)
    said = refuse(second)
    assert f"process {stack.running.pid}" in said
    assert stack.url in said
    assert stack.running.poll() is None


def test_without_its_packages_python_says_how_to_start():
    """A Python without our dependencies gets one sentence."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import local_stack.__main__"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "make run" in ended.stderr
    assert "Traceback" not in ended.stderr
