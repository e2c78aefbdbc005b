"""The pool's decisions, with a ledger, bells and slots written by hand."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from compute_service.attempts import Ending
from compute_service.desk import MAX_REFUSALS
from compute_service.pool import Pool
from compute_service.settings import ComputeSettings
from contracts.catalogue import TaskDescriptor
from contracts.errors import CoatcheckError, NoReply, NotSent
from contracts.job import Progress
from contracts.messages import Announcement, Finish, Grant, Heartbeat, HeartbeatReply, Settle, Settled, Stop, Verdict
from contracts.status import Outcome

PATIENCE_SECONDS = 10.0
TASK = TaskDescriptor(
    name="t",
    version="1",
    title="T",
    description="",
    params_schema={},
    result_schema={},
    example={},
    pool="default",
    time_limit=1,
    memory_limit_mb=None,
    max_attempts=1,
)


class FakeLedger:
    """Grants what waits; fails as often as it is told to."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: list[str] = []
        self.settles: list[Settle] = []
        self.announced = 0
        self.failures: list[CoatcheckError] = []
        self.fences = 0

    def settle(self, settle: Settle) -> Settled:
        with self.changed:
            self.settles.append(settle)
            self.changed.notify_all()
            if self.failures:
                raise self.failures.pop(0)
            grants = []
            while settle.claim and self.waiting and len(grants) < settle.claim.count:
                self.fences += 1
                grants.append(grant(self.waiting.pop(0), self.fences))
            verdicts = [Verdict(pid=one.pid, fence=one.fence, finish="stored") for one in settle.finishes]
            return Settled(verdicts=verdicts, grants=grants, more=bool(self.waiting))

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        return HeartbeatReply()

    def announce(self, announcement: Announcement) -> None:
        with self.changed:
            self.announced += 1
            self.changed.notify_all()

    def finishes(self) -> list[tuple[str, Outcome]]:
        return [(finish.pid, finish.outcome) for one in self.settles for finish in one.finishes]

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_SECONDS)


class FakeBells:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.rung = 0

    def listen(self, *, on: bool) -> None: ...

    def acknowledge(self, bells: list[str]) -> None: ...

    def ring(self) -> None:
        self.rung += 1


class FakeSlot:
    """Runs a job until it is let go or stopped; jobs called ``quick`` end at once."""

    warm = True

    def __init__(self) -> None:
        self.catalogue = [TASK]
        self.go = threading.Event()
        self.ending: Ending | None = None

    def warm_up(self) -> None: ...

    def run(self, grant: Grant) -> Finish | None:
        if grant.pid == "broken":
            raise RuntimeError("a fault of ours")
        if not grant.pid.startswith("quick"):
            assert self.go.wait(PATIENCE_SECONDS)
        ending, self.ending = self.ending, None
        self.go.clear()
        if ending is Ending.SUPERSEDED:
            return None
        outcome = Outcome(ending) if ending else Outcome.SUCCEEDED
        return Finish(pid=grant.pid, fence=grant.fence, worker_id="w", outcome=outcome)

    def stop(self, pid: str, fence: int, ending: Ending) -> None:
        self.ending = ending
        self.go.set()

    def close(self) -> None: ...


def grant(pid: str, fence: int) -> Grant:
    return Grant(
        pid=pid,
        fence=fence,
        task="t",
        task_version="1",
        params={},
        attempt=1,
        max_attempts=1,
        time_limit=1,
        claim_id="c",
    )


class World:
    """A pool and the fakes around it."""

    def __init__(self, slots: int = 1) -> None:
        self.ledger, self.bells, self.slots = FakeLedger(), FakeBells(), []  # type: ignore[var-annotated]

        def make_slot(_on_progress: Callable[[Grant, Progress], None]) -> FakeSlot:
            self.slots.append(FakeSlot())
            return self.slots[-1]

        settings = ComputeSettings(slots=slots, drain_seconds=0.2, hand_back_seconds=5)
        self.pool: Pool[str] = Pool(
            worker_id="w", settings=settings, ledger=self.ledger, bells=self.bells, make_slot=make_slot
        )

    def add(self, *pids: str) -> None:
        with self.ledger.changed:
            self.ledger.waiting += pids
        self.pool.bell("bell")


@pytest.fixture
def world() -> World:
    made = World()
    made.pool.start()
    return made


def test_the_next_job_rides_on_the_finish(world: World) -> None:
    """While work waits, one settle both reports a job and brings the next."""
    world.add(*(f"quick{number}" for number in range(10)))
    world.ledger.wait_for(lambda: len(world.ledger.finishes()) == 10)
    assert all(one.claim for one in world.ledger.settles if one.finishes)
    assert len([one for one in world.ledger.settles if not one.finishes]) <= 3
    world.pool.kill()


@pytest.mark.parametrize("error", [NoReply("lost"), NotSent("away")])
def test_a_finish_is_repeated_until_it_is_answered(world: World, error: CoatcheckError) -> None:
    """A finish without an answer is sent again; if it may have been served, with the same claim, and says so."""
    world.add("slow")
    world.ledger.wait_for(lambda: len(world.pool.roster) == 1)
    world.ledger.failures = [error, error]
    before = len(world.ledger.settles)
    world.slots[0].go.set()
    world.ledger.wait_for(lambda: len(world.ledger.settles) >= before + 3)
    sent = [one for one in world.ledger.settles if one.finishes]
    assert sent[0].finishes == sent[1].finishes == sent[2].finishes
    if isinstance(error, NoReply):
        assert [one.repeated for one in sent] == [False, True, True]
        assert sent[0].claim == sent[1].claim == sent[2].claim
    else:
        assert [one.repeated for one in sent] == [False, False, False]
    world.pool.kill()


def test_a_result_the_ledger_refuses_becomes_a_failure(world: World) -> None:
    """A finish that the ledger answers with errors does not hold the slot for ever."""
    world.ledger.failures = []
    world.add("slow")
    world.ledger.wait_for(lambda: len(world.pool.roster) == 1)
    world.ledger.failures = [CoatcheckError("too odd")] * (MAX_REFUSALS + 1)
    world.slots[0].go.set()
    world.ledger.wait_for(lambda: ("slow", Outcome.FAILED) in world.ledger.finishes())
    world.pool.kill()


def test_superseded_reports_nothing_and_frees_the_slot(world: World) -> None:
    """After a superseded job the slot takes the next one, and the old one is never mentioned."""
    world.add("old")
    world.ledger.wait_for(lambda: len(world.pool.roster) == 1)
    world.pool.stop(Stop(pid="old", fence=1, reason="superseded"))
    world.add("quick")
    world.ledger.wait_for(world.ledger.finishes)
    assert world.ledger.finishes() == [("quick", Outcome.SUCCEEDED)]
    world.pool.kill()


def test_a_stop_with_an_old_fence_is_ignored(world: World) -> None:
    """A stop for another fence does not reach the slot."""
    world.add("job")
    world.ledger.wait_for(lambda: len(world.pool.roster) == 1)
    world.pool.stop(Stop(pid="job", fence=99, reason="cancelled"))
    assert world.slots[0].ending is None
    world.slots[0].go.set()
    world.ledger.wait_for(lambda: world.ledger.finishes() == [("job", Outcome.SUCCEEDED)])
    world.pool.kill()


def test_a_drain_hands_back_what_runs_and_takes_nothing(world: World) -> None:
    """A drain gives the running job back without asking for another, and ends."""
    world.add("job", "next")
    world.ledger.wait_for(lambda: len(world.pool.roster) == 1)
    world.pool.drain()
    assert world.ledger.finishes() == [("job", Outcome.HANDED_BACK)]
    assert world.ledger.waiting == ["next"]
    assert world.ledger.settles[-1].claim is None


def test_a_fault_of_a_thread_is_the_pools_fault(world: World) -> None:
    """A thread that fails makes itself known instead of leaving half a worker."""
    world.add("broken")
    assert isinstance(world.pool.wait_failed(), RuntimeError)
    world.pool.kill()


def test_announcements_are_made_and_repeated_on_demand(world: World) -> None:
    """The catalogue is announced at the start and whenever the ledger asks."""
    world.ledger.wait_for(lambda: world.ledger.announced == 1)
    world.pool.announce()
    world.ledger.wait_for(lambda: world.ledger.announced == 2)
    world.pool.kill()
