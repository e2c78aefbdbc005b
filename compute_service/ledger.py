"""The ledger as a worker sees it, and the doorbell of its pool."""

from contracts import codec, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.messages import Announcement, Doorbell, Heartbeat, HeartbeatReply, Settle, Settled


class BrokerLedger:
    """`Ledger` by RPC."""

    def __init__(self, client: BrokerClient, *, timeout_seconds: float) -> None:
        self._client = client
        self._timeout = timeout_seconds

    def settle(self, settle: Settle) -> Settled:
        """See `Ledger.settle`."""
        reply = self._client.call(
            topology.LEDGER_SERVICE,
            "settle",
            {"request": settle.model_dump(mode="json")},
            timeout=self._timeout,
            expires=not settle.finishes,
        )
        return Settled.model_validate(reply)

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """See `Ledger.heartbeat`."""
        request = {"request": heartbeat.model_dump(mode="json")}
        reply = self._client.call(topology.LEDGER_SERVICE, "heartbeat", request, timeout=self._timeout)
        return HeartbeatReply.model_validate(reply)

    def announce(self, announcement: Announcement) -> None:
        """See `Ledger.announce`."""
        request = {"request": announcement.model_dump(mode="json")}
        self._client.call(topology.RESULTS_SERVICE, "announce", request, timeout=self._timeout)


class BrokerBells:
    """The doorbell of the worker's pool, over a subscription of the broker client."""

    def __init__(self, client: BrokerClient, subscription: Subscription, pool: str) -> None:
        self._client = client
        self._subscription = subscription
        self._pool = pool

    def listen(self, *, on: bool) -> None:
        """Take bells, or no more."""
        (self._client.resume if on else self._client.pause)(self._subscription)

    def acknowledge(self, bells: list[Delivery]) -> None:
        """These bells have been answered."""
        for bell in bells:
            self._client.ack(bell)

    def ring(self) -> None:
        """Tell the pool that work may wait."""
        bell = Doorbell(pool=self._pool)
        self._client.send(topology.DOORBELL_EXCHANGE, self._pool, codec.dumps(bell.model_dump(mode="json")))
