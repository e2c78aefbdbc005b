"""What the ledger tells the others: wake-ups, all of them. Losing one breaks nothing."""

from concurrent.futures import TimeoutError as FutureTimeoutError

from contracts import codec, topology
from contracts.broker import BrokerClient
from contracts.errors import CoatcheckError
from contracts.messages import Doorbell, JobsChanged, Message, NotificationDue, StateChange, Stop


class Events:
    """Publishes to the exchange of events and to the doorbells."""

    def __init__(self, client: BrokerClient) -> None:
        self._client = client

    def jobs_changed(self, changes: list[StateChange]) -> None:
        """Jobs are in another state now."""
        if changes:
            self._publish(topology.JOBS_CHANGED, JobsChanged(changes=changes))

    def mail_due(self, pid: str) -> None:
        """The notifier has something to send."""
        self._publish(topology.NOTIFICATION_DUE, NotificationDue(pid=pid))

    def stop(self, worker_id: str, order: Stop) -> None:
        """A worker must stop a job; the reply to its next heartbeat says the same."""
        self._publish(topology.worker_key(worker_id), order)

    def catalogue_changed(self) -> None:
        """Gateways should read the catalogue again."""
        self._publish(topology.CATALOGUE_CHANGED, Message())

    def ring(self, pool: str) -> None:
        """Work waits in *pool*."""
        body = codec.dumps(Doorbell(pool=pool).model_dump())
        self._client.send(topology.DOORBELL_EXCHANGE, pool, body)

    def broker_answers(self, timeout: float) -> bool:
        """Whether RabbitMQ takes a message within *timeout* seconds. An open connection alone does not say so."""
        if not self._client.ready:
            return False
        try:
            self._client.publish(topology.EVENTS_EXCHANGE, topology.PROBE, b"").result(timeout)
        except (CoatcheckError, FutureTimeoutError):
            return False
        return self._client.ready

    def _publish(self, key: str, message: Message) -> None:
        self._client.send(topology.EVENTS_EXCHANGE, key, codec.dumps(message.model_dump()))
