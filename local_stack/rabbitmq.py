"""A private RabbitMQ in a folder: own Erlang cookie, own epmd, own user, everything on loopback."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pika
import pika.exceptions

from local_stack.ports import LOOPBACK
from local_stack.problems import StackProblem
from local_stack.process import Program

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's /usr/sbin/rabbitmq-server changes the user; this one runs as the caller."""
USER = "coatcheck"
PROBE_SECONDS = 2.0
ERLANG_FLAGS = (
    f"-kernel inet_dist_use_interface {{{LOOPBACK.replace('.', ',')}}} +sbwt none +sbwtdcpu none +sbwtdio none"
)
"""The node talks to its tools on loopback only. Its schedulers sleep when they are idle instead of
spinning: on a machine with few cores they would take the time from the services that they wait for."""


class RabbitMQ:
    """One node. `programs` in this order: epmd first, the node as soon as epmd listens."""

    title = "RabbitMQ"

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        epmd_port: int,
        dist_port: int,
        management_port: int | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.epmd_port = epmd_port
        self.dist_port = dist_port
        self.management_port = management_port
        self._epmd = _find_epmd()
        if not SERVER.exists():
            raise StackProblem(
                "RabbitMQ is missing: install it with `apt-get install rabbitmq-server`, "
                "or set AMQP_URI to a server that runs."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.password = _password(folder / "password")
        self._configure()

    def uri(self, vhost: str = "/") -> str:
        """Where it listens, with its password."""
        return f"amqp://{USER}:{self.password}@{LOOPBACK}:{self.port}/{quote(vhost, safe='')}"

    @property
    def programs(self) -> Sequence[Program]:
        """epmd, then the node."""
        environment = {
            "HOME": str(self.folder),
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RUNNING_UNDER_SYSTEMD": "true",  # its script becomes the node instead of waiting beside it
            "RABBITMQ_NODENAME": "coatcheck@localhost",  # names the data, so it stays when ports change
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
        }
        epmd = (self._epmd, "-address", LOOPBACK, "-port", str(self.epmd_port))
        return (
            Program(name="epmd", command=epmd, port=self.epmd_port, stop_seconds=0.0),
            Program(name="rabbitmq", command=(str(SERVER),), environment=environment, stop_seconds=4.0),
        )

    def ready(self) -> bool:
        """Whether a client can log in now."""
        return fault(self.uri()) is None

    def _configure(self) -> None:
        for name in ("data", "conf.d", "generated"):
            (self.folder / name).mkdir(exist_ok=True)
        plugins = "[rabbitmq_management]." if self.management_port else "[]."
        (self.folder / "enabled_plugins").write_text(plugins + "\n")
        (self.folder / "advanced.config").write_text("[].\n")
        lines = [
            f"default_user = {USER}",  # so there is no guest
            f"default_pass = {self.password}",
            "default_user_tags.administrator = true",
            "log.console.level = info",
        ]
        if self.management_port:
            lines += [f"management.tcp.ip = {LOOPBACK}", f"management.tcp.port = {self.management_port}"]
        _write_private(self.folder / "rabbitmq.conf", "\n".join(lines) + "\n")


def fault(uri: str) -> str | None:
    """What keeps a client out of the broker at *uri*; None if nothing does."""
    try:
        parameters = pika.URLParameters(uri)
        parameters.socket_timeout = PROBE_SECONDS
        parameters.stack_timeout = PROBE_SECONDS
        parameters.blocked_connection_timeout = PROBE_SECONDS
        parameters.connection_attempts = 1
        pika.BlockingConnection(parameters).close()
    except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.ProbableAccessDeniedError):
        return "refuses the user, the password or the virtual host"
    except (pika.exceptions.AMQPError, OSError):
        return "does not answer"
    except ValueError:
        return "is no AMQP URI"
    return None


def _find_epmd() -> str:
    found = shutil.which("epmd")
    if found is None:
        raise StackProblem("epmd is missing: `apt-get install rabbitmq-server` brings it, or set AMQP_URI.")
    return found


def _password(path: Path) -> str:
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
