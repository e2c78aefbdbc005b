"""What the worker brings to the ledger and takes from it, and what becomes of bells."""

import itertools

import pytest

from compute_service.attempts import Ending
from compute_service.desk import EMPTY_TRIES, HOLD_SECONDS, MAX_REFUSALS, PACE_JOBS, SHORT_SECONDS, Desk
from contracts.messages import MAX_FINISHES, Finish, Grant, Settled
from contracts.status import Outcome

AHEAD = 4
LONG = SHORT_SECONDS * 2


def make(slots: int = 2) -> Desk[str]:
    """A desk with *slots* free slots whose first look at the ledger is over."""
    numbers = itertools.count(1)
    desk: Desk[str] = Desk(worker_id="w", pool="p", tasks=["t"], ahead=AHEAD, claim_id=lambda: f"c{next(numbers)}")
    for _ in range(slots):
        desk.slot_waits()
    desk.trip()
    desk.answered(Settled(), 0.0)
    return desk


def grants(count: int, start: int = 0) -> list[Grant]:
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
        for number in range(start, start + count)
    ]


def finish(pid: str = "j0") -> Finish:
    return Finish(pid=pid, fence=1, worker_id="w", outcome=Outcome.SUCCEEDED)


def run(desk: Desk[str], seconds: float) -> None:
    """One of the free slots runs a job that was ready."""
    grant = desk.take()
    assert grant is not None
    desk.ended(finish(grant.pid), seconds, warm=True)


def at_pace(desk: Desk[str], seconds: float) -> None:
    """The desk has seen enough jobs to know how long they take."""
    for number in range(PACE_JOBS):
        desk.bell("b")
        desk.trip()
        desk.answered(Settled(grants=grants(1, start=100 + number)), 0.0)
        run(desk, seconds)
    desk.trip()
    desk.answered(Settled(), 0.0)


def test_a_bell_claims_for_all_free_slots() -> None:
    """One bell asks for as many jobs as there are free slots, and is acknowledged after the answer."""
    desk = make(2)
    assert not desk.bell("b").acknowledge
    claim = desk.trip().claim
    assert claim is not None
    assert claim.count == 2
    todo = desk.answered(Settled(grants=grants(1)), 0.0)
    assert (todo.acknowledge, todo.ring) == (["b"], False)
    assert desk.take() is not None
    assert desk.room == 1
    assert not desk.due


def test_bells_during_a_trip_are_absorbed_into_one_more() -> None:
    """Bells that ring while a claim is under way lead to one further claim, not to one each."""
    desk = make(2)
    desk.bell("a")
    desk.trip()
    for bell in "bcd":
        desk.bell(bell)
    assert desk.answered(Settled(grants=grants(1)), 0.0).acknowledge == ["a"]
    assert desk.due
    desk.trip()
    assert desk.answered(Settled(), 0.0).acknowledge == ["b", "c", "d"]
    assert not desk.due


def test_what_ended_together_travels_together() -> None:
    """One message reports all that has ended meanwhile, and claims for all slots that are free again."""
    desk = make(2)
    desk.bell("b")
    desk.trip()
    desk.answered(Settled(grants=grants(2)), 0.0)
    for _ in range(2):
        run(desk, LONG)
    settle = desk.trip()
    assert [one.pid for one in settle.finishes] == ["j0", "j1"]
    assert settle.claim is not None
    assert settle.claim.count == 2
    desk.answered(Settled(), 0.0)
    assert desk.quiet


def test_a_message_is_bounded() -> None:
    """However much has ended, one message reports a bounded number."""
    desk = make(1)
    for number in range(MAX_FINISHES + 5):
        desk.ended(finish(f"j{number}"), LONG, warm=False)
    assert len(desk.trip().finishes) == MAX_FINISHES
    desk.answered(Settled(), 0.0)
    assert len(desk.trip().finishes) == 5


def test_short_jobs_are_claimed_ahead_and_long_ones_are_not() -> None:
    """Only when the last jobs were all short, more is claimed than there are slots."""
    desk = make(1)
    at_pace(desk, SHORT_SECONDS / 10)
    assert desk.room == 1 + AHEAD
    at_pace(desk, LONG)
    assert desk.room == 1


def test_what_was_claimed_ahead_of_a_long_job_is_handed_back() -> None:
    """A job that no slot takes in time goes back uncounted, others hear a bell, and no more is claimed ahead."""
    desk = make(1)
    at_pace(desk, SHORT_SECONDS / 10)
    desk.bell("b")
    desk.trip()
    desk.answered(Settled(grants=grants(3)), 1.0)
    assert desk.take() is not None
    assert not desk.expire(1.0 + HOLD_SECONDS / 2).ring
    assert desk.hold_until == 1.0 + HOLD_SECONDS
    assert desk.expire(1.0 + HOLD_SECONDS).ring
    settle = desk.trip()
    assert [(one.pid, one.outcome) for one in settle.finishes] == [
        ("j1", Outcome.HANDED_BACK),
        ("j2", Outcome.HANDED_BACK),
    ]
    assert settle.claim is None
    assert not desk.ready


@pytest.mark.parametrize(("ending", "reported"), [(Ending.CANCELLED, [Outcome.CANCELLED]), (Ending.SUPERSEDED, [])])
def test_a_job_is_stopped_before_a_slot_takes_it(ending: Ending, reported: list[Outcome]) -> None:
    """What was claimed ahead and is cancelled never starts; what is superseded is not mentioned."""
    desk = make(1)
    desk.bell("b")
    desk.trip()
    desk.answered(Settled(grants=grants(1)), 0.0)
    assert not desk.withdraw("j0", 99, ending)
    assert desk.withdraw("j0", 1, ending)
    assert desk.take() is None
    assert [one.outcome for one in desk.trip().finishes] == reported


def test_a_bell_that_finds_no_room_is_passed_on() -> None:
    """A full worker acknowledges, rings for the others, and stops listening until nothing more waits for it."""
    desk = make(1)
    desk.bell("a")
    desk.trip()
    desk.answered(Settled(grants=grants(1)), 0.0)
    grant = desk.take()
    todo = desk.bell("b")
    assert (todo.acknowledge, todo.ring, todo.listen) == (["b"], True, False)
    assert grant is not None
    desk.ended(finish(), LONG, warm=True)
    desk.trip()
    assert desk.answered(Settled(grants=grants(1), more=True), 5.0).listen is None
    run(desk, LONG)
    desk.trip()
    assert desk.answered(Settled(), 6.0).listen is True


def test_news_without_room_goes_to_others_now_and_then() -> None:
    """If the ledger has more than this worker can take, a bell is rung, but not with every answer."""
    desk = make(1)
    desk.bell("a")
    desk.trip()
    assert desk.answered(Settled(grants=grants(1), more=True), 5.0).ring
    run(desk, LONG)
    desk.trip()
    assert not desk.answered(Settled(grants=grants(1), more=True), 5.1).ring


def test_a_lost_answer_repeats_the_same_claim() -> None:
    """A claim that may have been served keeps its id until it is answered, while more finishes may join."""
    desk = make(2)
    desk.bell("a")
    first = desk.trip()
    assert not first.repeated
    desk.failed("lost", perhaps_served=True, refused_by_ledger=False)
    desk.failed("away", perhaps_served=False, refused_by_ledger=False)
    desk.ended(finish(), LONG, warm=False)
    again = desk.trip()
    assert (again.claim, again.repeated, len(again.finishes)) == (first.claim, True, 1)


def test_a_claim_that_never_left_is_made_anew() -> None:
    """A claim that was not sent is forgotten, so that a stop need not wait for an answer."""
    desk = make(2)
    desk.bell("a")
    first = desk.trip()
    desk.failed("away", perhaps_served=False, refused_by_ledger=False)
    assert not desk.unresolved
    again = desk.trip()
    assert again.claim != first.claim
    assert not again.repeated
    assert desk.answered(Settled(), 0.0).acknowledge == ["a"]


def test_a_finish_the_ledger_refuses_harms_no_other() -> None:
    """After a refusal finishes travel alone; one that is refused again and again becomes a failure."""
    desk = make(2)
    for pid in ("odd", "fine"):
        desk.ended(finish(pid), LONG, warm=False)
    assert len(desk.trip().finishes) == 2
    for _ in range(MAX_REFUSALS + 1):
        desk.failed("too odd", perhaps_served=True, refused_by_ledger=True)
        settle = desk.trip()
        assert [one.pid for one in settle.finishes] == ["odd"]
    assert settle.finishes[0].outcome is Outcome.FAILED
    desk.answered(Settled(), 0.0)
    assert [one.pid for one in desk.trip().finishes] == ["fine"]


def test_others_were_faster() -> None:
    """Empty answers although there is more are tried again soon, but only so often."""
    desk = make(1)
    desk.bell("a")
    for _ in range(EMPTY_TRIES):
        desk.trip()
        assert desk.answered(Settled(more=True), 0.0).soon
        desk.look_again()
    desk.trip()
    assert not desk.answered(Settled(more=True), 0.0).soon


def test_a_new_connection_looks_for_itself() -> None:
    """After a reconnect the worker claims without a bell, since bells may have been lost."""
    desk = make(1)
    assert not desk.due
    desk.connected()
    assert desk.due


def test_a_closed_desk_takes_nothing() -> None:
    """A worker that drains claims no more, hands back what no slot took, and passes bells on."""
    desk = make(1)
    desk.bell("a")
    desk.trip()
    desk.answered(Settled(grants=grants(1)), 0.0)
    desk.bell("b")
    todo = desk.close()
    assert todo.listen is False
    settle = desk.trip()
    assert [one.outcome for one in settle.finishes] == [Outcome.HANDED_BACK]
    assert settle.claim is None
    assert desk.bell("c").acknowledge == ["c"]


def test_grants_that_arrive_while_draining_go_back() -> None:
    """The answer to a claim that was under way when the drain began is handed back."""
    desk = make(1)
    desk.bell("a")
    desk.trip()
    desk.close()
    desk.answered(Settled(grants=grants(1)), 0.0)
    assert [one.outcome for one in desk.trip().finishes] == [Outcome.HANDED_BACK]
