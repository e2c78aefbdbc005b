"""The services of Coatcheck as programs of the stack."""

import sys
from collections.abc import Mapping
from pathlib import Path

from local_stack.process import Program

ROOT = Path(__file__).parents[1]
QUIET = "ignore:::nameko.cli.main,ignore:::nameko.cli.commands"
"""Nameko's command line imports eventlet and pkg_resources, and both warn that they are old."""
QUICK_STOP = {"GRACEFUL_TIMEOUT_SECONDS": "2", "DRAIN_SECONDS": "1", "HAND_BACK_SECONDS": "2"}
"""Settings of gateway and compute service that fit into the seconds they get to stop."""


def nameko(name: str, module: str, config: str, environment: Mapping[str, str], stop_seconds: float) -> Program:
    """One Nameko service."""
    command = (str(Path(sys.executable).with_name("nameko")), "run", "--config", str(ROOT / config), module)
    return Program(name=name, command=command, environment=environment, stop_seconds=stop_seconds)


def workers(count: int) -> list[str]:
    """The names of the compute services: compute, compute-2, compute-3 and so on."""
    return ["compute", *(f"compute-{number}" for number in range(2, count + 1))]


def services(environment: Mapping[str, str], *, compute: int = 1) -> list[Program]:
    """All of them, the gateway first; *compute* is how many compute services there are."""
    quiet = {**environment, "PYTHONWARNINGS": QUIET}
    gunicorn = (sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gateway/gunicorn_conf.py"))
    return [
        Program(name="gateway", command=gunicorn, environment=environment, stop_seconds=2.5),
        *(
            nameko(name, "compute_service.service", "compute_service/config.yaml", quiet, 3.5)
            for name in workers(compute)
        ),
        nameko("notifier", "results_service.notifier.service", "results_service/notifier/config.yaml", quiet, 3.0),
        nameko("results", "results_service.service", "results_service/config.yaml", quiet, 3.0),
    ]
