"""The Nameko service: `nameko run --config compute_service/config.yaml compute_service.service`."""

from typing import Any

from nameko.extensions import DependencyProvider, Entrypoint

from compute_service.settings import ComputeSettings
from compute_service.worker import Worker
from contracts import logs
from contracts.nameko_amqp import rpc
from contracts.settings import load

SETTINGS = load(ComputeSettings)
logs.configure(
    level=SETTINGS.log_level, fmt=SETTINGS.log_format, service="compute"
)  # after `nameko run` set up its own


class WorkerProvider(DependencyProvider):
    """Ties a worker's life to the container's."""

    worker: Worker

    def setup(self) -> None:
        """Put the worker together."""
        self.worker = Worker(SETTINGS)

    def start(self) -> None:
        """Start it, and let the container die if a part of it does."""
        self.worker.start()
        self.container.spawn_managed_thread(self._watch, identifier="worker.watch")

    def stop(self) -> None:
        """Drain it."""
        self.worker.drain()

    def kill(self) -> None:
        """End it without ado."""
        self.worker.kill()

    def get_dependency(self, worker_ctx: object) -> Worker:  # noqa: ARG002 -- Nameko's signature
        """The worker; its `describe` may be called from any thread."""
        return self.worker

    def _watch(self) -> None:
        failure = self.worker.pool.wait_failed()
        if failure is not None:
            raise failure


class DrainsFirst(Entrypoint):
    """Begins the drain together with the container's stop.

    Nameko stops dependencies only when its consumers have gone, seconds later; until then a worker
    would go on taking jobs.
    """

    def stop(self) -> None:
        """Called for all entrypoints at once, before anything else stops."""
        for dependency in self.container.dependencies:
            if isinstance(dependency, WorkerProvider):
                dependency.worker.begin_drain()


class ComputeService:
    """Runs tasks."""

    name = "compute"

    worker: Worker = WorkerProvider()  # Nameko puts the dependency where the provider stands

    @rpc
    @DrainsFirst.decorator
    def describe(self) -> dict[str, Any]:
        """Who answers, and what it runs at this moment."""
        return self.worker.describe()
