"""When a worker claims, and what becomes of bells."""

import itertools

from compute_service.claims import EMPTY_TRIES, Claims
from contracts.messages import Grant, Settled


def make(free: int = 2) -> Claims[str]:
    """Claims with *free* slots whose first look at the ledger is over."""
    numbers = itertools.count(1)
    claims: Claims[str] = Claims(worker_id="w", pool="p", tasks=["t"], claim_id=lambda: f"c{next(numbers)}")
    for _ in range(free):
        claims.slot_free()
    if claims.begin():
        claims.answered(Settled())
    return claims


def grants(count: int) -> list[Grant]:
    return [
        Grant(
            pid=f"j{number}",
            fence=1,
            task="t",
            task_version="1",
            params={},
            attempt=1,
            max_attempts=1,
            time_limit=1,
            claim_id="c",
        )
        for number in range(count)
    ]


def test_a_bell_claims_for_all_free_slots() -> None:
    """One bell asks for as many jobs as there are free slots, and is acknowledged after the reply."""
    claims = make(2)
    assert not claims.bell("b").acknowledge
    claim = claims.begin()
    assert claim is not None
    assert claim.count == 2
    todo = claims.answered(Settled(grants=grants(1)))
    assert (todo.acknowledge, todo.ring, claims.free) == (["b"], False, 1)
    assert not claims.due


def test_bells_during_a_claim_are_absorbed_into_one_more() -> None:
    """Bells that ring while a claim is under way lead to one further claim, not to one each."""
    claims = make(2)
    claims.bell("a")
    claims.begin()
    for bell in "bcd":
        claims.bell(bell)
    assert claims.answered(Settled(grants=grants(1))).acknowledge == ["a"]
    assert claims.begin() is not None
    assert claims.answered(Settled()).acknowledge == ["b", "c", "d"]
    assert not claims.due


def test_a_bell_that_finds_no_slot_is_passed_on() -> None:
    """A full worker acknowledges, rings for the others, and stops listening until a slot is free."""
    claims = make(1)
    claims.bell("a")
    claims.begin()
    claims.answered(Settled(grants=grants(1)))
    todo = claims.bell("b")
    assert (todo.acknowledge, todo.ring, todo.listen) == (["b"], True, False)
    claims.ride()
    assert claims.rode(Settled()).listen is True


def test_news_without_a_slot_goes_to_others() -> None:
    """If the ledger has more than this worker can take, one bell is rung."""
    claims = make(1)
    claims.bell("a")
    claims.begin()
    assert claims.answered(Settled(grants=grants(1), more=True)).ring


def test_a_lost_reply_repeats_the_same_claim() -> None:
    """A claim that may have been served keeps its id and its slots until it is answered."""
    claims = make(2)
    claims.bell("a")
    first = claims.begin()
    claims.failed(perhaps_sent=True)
    claims.failed(perhaps_sent=False)
    assert claims.begin() is first
    assert claims.free == 0


def test_a_claim_that_never_left_is_made_anew() -> None:
    """A claim that was not sent frees its slots, so that a stop need not wait for an answer."""
    claims = make(2)
    claims.bell("a")
    claims.begin()
    claims.failed(perhaps_sent=False)
    assert (claims.free, claims.unresolved, claims.due) == (2, False, True)


def test_others_were_faster() -> None:
    """Empty replies although there is more are tried again soon, but only so often."""
    claims = make(1)
    claims.bell("a")
    tries = 0
    while claims.begin():
        if claims.answered(Settled(more=True)).soon:
            tries += 1
            claims.look_again()
    assert tries == EMPTY_TRIES


def test_a_ride_that_comes_back_empty_frees_the_slot() -> None:
    """The claim on a finish either brings the next job or frees its slot, and absorbs bells meanwhile."""
    claims = make(1)
    claims.bell("a")
    claims.begin()
    claims.answered(Settled(grants=grants(1)))
    assert claims.ride() is not None
    assert claims.bell("b").ring is False
    claims.rode(Settled(grants=[]))
    assert (claims.free, claims.due) == (1, True)


def test_a_new_connection_looks_for_itself() -> None:
    """After a reconnect the worker claims without a bell, since bells may have been lost."""
    claims = make(1)
    assert not claims.due
    claims.connected()
    assert claims.due


def test_a_closed_worker_takes_nothing() -> None:
    """A worker that drains claims no more, passes bells on and does not listen."""
    claims = make(1)
    assert claims.close().listen is False
    assert claims.bell("a").ring
    assert claims.ride() is None
    assert claims.begin() is None
