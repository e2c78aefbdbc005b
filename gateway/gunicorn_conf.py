"""How gunicorn serves the gateway: ``gunicorn -c python:gateway.gunicorn_conf``.

The application is made in the worker, after the fork, since it starts threads.
"""

from typing import Any

from contracts.settings import load
from gateway.app import close
from gateway.settings import GatewaySettings

_settings = load(GatewaySettings)

wsgi_app = "gateway.app:create_app()"
bind = f"{_settings.listen_host}:{_settings.port}"
worker_class = "gateway.worker.QuietWorker"
workers = _settings.gateway_processes
threads = _settings.gateway_threads
graceful_timeout = _settings.graceful_timeout_seconds
keepalive = 30
preload_app = False
loglevel = _settings.log_level.lower()
proc_name = "coatcheck-gateway"
control_socket_disable = True


def worker_exit(_server: Any, worker: Any) -> None:
    """Publish what is waiting and say goodbye to RabbitMQ; runs in the worker."""
    if (app := getattr(worker, "wsgi", None)) is not None:
        close(app)
