"""Idempotency keys that come to an end before or after the job they belong to."""

from ledger_bench import Bench

from contracts.messages import Idempotency, Notify
from contracts.status import NotifyOn


def test_a_key_whose_time_is_over_wakes_like_any_other(bench: Bench) -> None:
    """The job that takes over an old key has its mail sent and its time kept as if the key were new."""
    key = Idempotency(key="order-17", fingerprint="a")
    bench.register(idempotency=key)
    bench.clock.advance(24 * 3600 + 1)
    pid = bench.register(idempotency=key, notify=Notify(email="ada@example.org", on=[NotifyOn.ACCEPTED]))
    assert bench.events.mails == [pid]
