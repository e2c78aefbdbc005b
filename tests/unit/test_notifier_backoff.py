from hypothesis import given
from hypothesis import strategies as st

from results_service.notifier.backoff import backoff


@given(st.integers(min_value=1, max_value=10**6))
def test_waits_double_up_to_the_cap(tries: int):
    """Each wait is between half and all of the doubled first wait, and never above the cap."""
    full = min(15 * 2.0 ** min(tries - 1, 32), 900)
    assert full / 2 <= backoff(tries, first=15, last=900) <= full


def test_waits_differ():
    """What failed together does not come back together."""
    assert len({backoff(5, first=1, last=900) for _ in range(20)}) > 1
