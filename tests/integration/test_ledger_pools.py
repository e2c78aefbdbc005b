"""What waits and runs in each pool, counted in a real mongod."""

from datetime import timedelta

from ledger_bench import LEASE_SECONDS, Bench

from contracts.messages import Order, PoolLoad


def load(pool: str, **changes: int) -> PoolLoad:
    """A pool in which there is nothing but *changes*."""
    return PoolLoad(**({"pool": pool, "due": 0, "scheduled": 0, "running": 0, "workers": 0, "slots": 0} | changes))


def test_every_pool_is_counted(bench: Bench):
    """Due, scheduled and running jobs and live workers per pool; what has ended or was cancelled does not count."""
    assert bench.ledger.pools() == []
    for _ in range(6):
        bench.register()
    bench.register(not_before=bench.clock.now() + timedelta(hours=1))
    bench.ledger.orders.cancel(Order(pid=bench.register(), owner="local"))
    bench.register(pool="night", owner="somebody")
    bench.register(pool="art")
    first, *_ = bench.claim(count=3)
    bench.finish(first)
    bench.beat(worker="w1")
    bench.beat(worker="w2")
    assert bench.ledger.pools() == [
        load("art", due=1),
        load("default", due=3, scheduled=1, running=2, workers=2, slots=4),
        load("night", due=1),
    ]


def test_who_is_silent_is_not_counted(bench: Bench):
    """A worker whose last beat is older than the lease is not alive; its pool is still named while a job is there."""
    bench.register()
    bench.beat(worker="w1")
    bench.clock.advance(LEASE_SECONDS + 1)
    assert bench.ledger.pools() == [load("default", due=1)]
