"""What waits where: the pools, the queues of the services, and what could not be read."""

from typing import Any

from flask import Response

from contracts import topology
from contracts.inspection import QueueState
from gateway.api.resource import Resource, answer

NOTHING = QueueState(messages=0, consumers=0)
"""Of a queue that nobody has needed yet."""


class Queues(Resource):
    """``/queues``."""

    def get(self) -> Response:
        """Pools as the ledger knows them, queues as RabbitMQ does."""
        pools = self.services.ledger.pools()
        bells = {load.pool: topology.doorbell_queue(load.pool) for load in pools}
        states = self.services.ledger.inspect([*bells.values(), *topology.service_queues(), topology.DEAD_LETTERS])
        rows: list[dict[str, Any]] = [
            {
                "name": load.pool,
                "kind": "pool",
                "depth": load.due,
                "consumers": states.get(bells[load.pool], NOTHING).consumers,
                **load.model_dump(include={"scheduled", "running", "workers", "slots"}),
            }
            for load in pools
        ]
        rows += [_row(queue, "service", states) for queue in topology.service_queues()]
        rows.append(_row(topology.DEAD_LETTERS, "dead_letters", states))
        return answer({"queues": rows, "next": None})


def _row(queue: str, kind: str, states: dict[str, QueueState]) -> dict[str, Any]:
    state = states.get(queue, NOTHING)
    return {"name": queue, "kind": kind, "depth": state.messages, "consumers": state.consumers}
