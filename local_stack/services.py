"""The services of Coatcheck as programs of the stack."""

import sys
from collections.abc import Mapping
from pathlib import Path

from local_stack.process import Program

ROOT = Path(__file__).parents[1]
QUIET = "ignore:::nameko.cli.main,ignore:::nameko.cli.commands"
"""Nameko's command line imports eventlet and pkg_resources, and both warn that they are old."""
GATEWAY_STOP_SECONDS = "2"
"""What requests in flight get; a little less than gunicorn gets."""


def nameko(name: str, module: str, config: str, environment: Mapping[str, str], stop_seconds: float) -> Program:
    """One Nameko service."""
    command = (str(Path(sys.executable).with_name("nameko")), "run", "--config", str(ROOT / config), module)
    return Program(name=name, command=command, environment=environment, stop_seconds=stop_seconds)


def services(environment: Mapping[str, str]) -> list[Program]:
    """All of them, in the order in which they stop."""
    quiet = {**environment, "PYTHONWARNINGS": QUIET}
    gunicorn = (sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gateway/gunicorn_conf.py"))
    return [
        Program(name="gateway", command=gunicorn, environment=environment, stop_seconds=2.5),
        nameko("compute", "compute_service.service", "compute_service/config.yaml", quiet, 3.5),
        nameko("notifier", "results_service.notifier.service", "results_service/notifier/config.yaml", quiet, 1.5),
        nameko("results", "results_service.service", "results_service/config.yaml", quiet, 1.5),
    ]
