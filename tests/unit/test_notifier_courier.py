"""What the courier decides, with an outbox and a mail server that are ours."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from contracts.status import NotificationState, NotifyOn
from results_service.notifier import patient_outbox
from results_service.notifier.courier import Courier
from results_service.notifier.loop import SendLoop
from results_service.notifier.outbox import Lease
from results_service.notifier.patient_outbox import TAKE_OVER_AFTER_SECONDS, PatientOutbox
from results_service.notifier.settings import NotifierSettings
from results_service.notifier.smtp import Refused, RefusedForNow, ServerAway


class HandClock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self.seconds


class FakeOutbox:
    """Hands out leases from a list and writes down what happens to them."""

    def __init__(self, clock: HandClock, leases: int, tries: int = 1, to: str = "ada@b.example") -> None:
        self.clock = clock
        self.waiting = [
            Lease(id=str(n), pid=f"pid-{n}", on=NotifyOn.SUCCEEDED, to=to, tries=tries, job={}, since=clock.seconds)
            for n in range(leases)
        ]
        self.take_overs: list[bool] = []
        self.settled: list[tuple[str, NotificationState]] = []
        self.put: list[dict[str, Any]] = []
        self.failures = 0
        self.due: datetime | None = None

    def _may_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise AutoReconnect("not now")

    def lease(self, *, take_over: bool) -> Lease | None:
        """See `Outbox.lease`."""
        self._may_fail()
        self.take_overs.append(take_over)
        return self.waiting.pop(0) if self.waiting else None

    def settle(self, lease: Lease, state: NotificationState, reason: str | None = None) -> bool:
        """See `Outbox.settle`."""
        self._may_fail()
        self.settled.append((lease.pid, state))
        return reason is None or bool(reason)

    def put_back(self, lease: Lease, **how: Any) -> bool:
        """See `Outbox.put_back`."""
        self._may_fail()
        self.put.append({"pid": lease.pid} | how)
        return True

    def next_due(self) -> datetime | None:
        """See `Outbox.next_due`."""
        return self.due


class FakeSender:
    """Accepts, or raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sent: list[str] = []
        self.tried = 0
        self.closed = 0
        self.during: Callable[[], None] = lambda: None

    def send(self, mail: EmailMessage, *, to: str, data_before: float) -> None:
        """See `SmtpSender.send`."""
        self.tried += 1
        self.during()
        if self.error:
            raise self.error
        self.sent.append(to)

    def close(self) -> None:
        """See `SmtpSender.close`."""
        self.closed += 1


class World:
    """A courier and everything around it."""

    def __init__(self, leases: int = 1, tries: int = 1, to: str = "ada@b.example", **settings: Any) -> None:
        self.clock = HandClock()
        self.outbox = FakeOutbox(self.clock, leases, tries, to)
        self.sender = FakeSender()
        self.stopping = threading.Event()
        self.render: Callable[[Lease], EmailMessage] = lambda _: EmailMessage()
        self.patient = PatientOutbox(self.outbox, clock=self.clock, stopping=self.stopping)  # type: ignore[arg-type]
        self.courier = Courier(
            outbox=self.patient,
            render=self._render,
            sender=self.sender,
            settings=NotifierSettings(**({"mail_allow": "*"} | settings)),
            clock=self.clock,
            stopping=self.stopping,
        )

    def _render(self, lease: Lease) -> EmailMessage:
        return self.render(lease)


def test_everything_due_goes_out_over_one_connection():
    """A pass sends all that is due, marks each as sent, and closes the connection once."""
    world = World(leases=3)
    world.courier.deliver_due()
    assert [state for _, state in world.outbox.settled] == [NotificationState.SENT] * 3
    assert world.sender.closed == 1


def test_a_pass_is_bounded():
    """However much is due, a pass ends after a batch, and the next one follows at once."""
    world = World(leases=9, mail_batch=4)
    assert world.courier.deliver_due() == 0
    assert len(world.sender.sent) == 4


@pytest.mark.parametrize(
    ("error", "state"), [(Refused("550"), NotificationState.FAILED), (None, NotificationState.SENT)]
)
def test_final_answers_are_final(error: Exception | None, state: NotificationState):
    """A refusal for good is failed, an acceptance is sent, nothing is put back."""
    world = World()
    world.sender.error = error
    world.courier.deliver_due()
    assert world.outbox.settled == [("pid-0", state)]
    assert world.outbox.put == []


@pytest.mark.parametrize(("tries", "full"), [(1, 15), (2, 30), (5, 240), (400, 900)])
def test_refused_for_now_backs_off(tries: int, full: float):
    """A refusal for the time being is put back for a doubled, capped and jittered time, and counts."""
    world = World(tries=tries)
    world.sender.error = RefusedForNow("450")
    world.courier.deliver_due()
    (put,) = world.outbox.put
    assert full / 2 <= put["seconds"] <= full
    assert put["counted"]


def test_the_last_try_fails():
    """When every try is used, the mail is given up."""
    world = World(tries=500)
    world.sender.error = RefusedForNow("450")
    world.courier.deliver_due()
    assert world.outbox.settled == [("pid-0", NotificationState.FAILED)]


def test_a_server_away_is_probed_by_one_mail_at_a_time():
    """While the mail server is away only one mail per probe is touched, none counts, and the probes get rarer."""
    world = World(leases=50, tries=10_000, smtp_probe_seconds=60)
    world.sender.error = ServerAway("refused")
    for _ in range(600):
        world.courier.deliver_due()
        world.clock.seconds += 1
    assert 10 <= world.sender.tried <= 30
    assert not world.outbox.settled
    assert not any(put["counted"] for put in world.outbox.put)
    world.sender.error = None
    world.clock.seconds += 60
    while world.outbox.waiting:
        world.courier.deliver_due()
    assert len(world.outbox.settled) + len(world.outbox.put) == 50


def test_a_mail_that_cannot_be_made_does_not_hold_up_others():
    """A document that breaks the renderer is put back, and the next mail goes out."""
    world = World(leases=2)

    def render(lease: Lease) -> EmailMessage:
        if lease.pid == "pid-0":
            raise KeyError("task")
        return EmailMessage()

    world.render = render
    world.courier.deliver_due()
    assert [put["pid"] for put in world.outbox.put] == ["pid-0"]
    assert world.outbox.settled == [("pid-1", NotificationState.SENT)]


@pytest.mark.parametrize(
    ("to", "state"),
    [("ada@evil.example", NotificationState.SUPPRESSED), ("not@an@address@b.example", NotificationState.FAILED)],
)
def test_who_may_not_get_mail_is_settled_without_a_connection(to: str, state: NotificationState):
    """Recipients outside the allow-list, and such that are no address, never reach the mail server."""
    world = World(to=to, mail_allow="@b.example")
    world.courier.deliver_due()
    assert world.outbox.settled == [("pid-0", state)]
    assert world.sender.tried == 0


def test_an_acceptance_is_written_however_long_it_takes(monkeypatch: pytest.MonkeyPatch):
    """When MongoDB is away after the mail was accepted, the mark is tried until it is written; nothing is sent again."""
    monkeypatch.setattr(patient_outbox, "WRITE_AGAIN_SECONDS", 0.0)
    world = World()

    def mongodb_dies() -> None:
        world.outbox.failures = 100

    world.sender.during = mongodb_dies
    world.courier.deliver_due()
    assert world.outbox.settled == [("pid-0", NotificationState.SENT)]
    assert world.sender.tried == 1


def test_a_stop_does_not_wait_for_ever_for_mongodb(monkeypatch: pytest.MonkeyPatch):
    """Asked to stop with MongoDB away, the writing is given up after its bound."""
    monkeypatch.setattr(patient_outbox, "WRITE_AGAIN_SECONDS", 0.0)
    world = World()

    def everything_ends() -> None:
        world.outbox.failures = 10**9
        world.stopping.set()

    def time_passes() -> None:
        world.clock.seconds += 1
        if world.outbox.failures:
            world.outbox.failures -= 1
            raise AutoReconnect("not now")

    world.sender.during = everything_ends
    monkeypatch.setattr(world.outbox, "_may_fail", time_passes)
    world.courier.deliver_due()
    assert world.outbox.settled == []


def test_leases_of_others_are_taken_over_only_when_mongodb_is_well():
    """A lease that ran out is left to its holder until MongoDB has been well for a while, anew after each outage."""
    world = World(leases=0)
    for _ in range(3):
        world.courier.deliver_due()
        world.clock.seconds += TAKE_OVER_AFTER_SECONDS / 2
    assert world.outbox.take_overs == [False, False, True]
    world.outbox.failures = 1
    with pytest.raises(AutoReconnect):
        world.courier.deliver_due()
    world.courier.deliver_due()
    assert world.outbox.take_overs[-1] is False


def test_the_next_look_is_when_something_is_due():
    """The loop sleeps until the earliest due entry, at most for the poll, and looks soon while it may not take over."""
    world = World(leases=0, mail_poll_seconds=30)
    assert world.courier.deliver_due() == TAKE_OVER_AFTER_SECONDS
    world.clock.seconds += TAKE_OVER_AFTER_SECONDS
    assert world.courier.deliver_due() == 30
    world.outbox.due = world.clock.now() + timedelta(seconds=7)
    assert world.courier.deliver_due() == 7


def test_many_wake_ups_are_one_look():
    """A thousand wake-ups while the loop is at work cause one further look, not a thousand."""
    world = World(leases=0)
    loop = SendLoop(world.courier, clock=world.clock, stopping=world.stopping)
    for _ in range(1000):
        loop.wake()
    thread = threading.Thread(target=loop.run)
    looked = threading.Event()
    lease = world.outbox.lease

    def note(*, take_over: bool) -> Lease | None:
        looked.set()
        return lease(take_over=take_over)

    world.outbox.lease = note  # type: ignore[method-assign]
    thread.start()
    assert looked.wait(10)
    loop.wind_down()
    assert loop.wait_ended(10)
    thread.join(10)
    assert len(world.outbox.take_overs) <= 2
