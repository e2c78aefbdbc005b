"""The slot pool: bells and claims, slots and finishes, and a drain at the end.

Threads: one claims, one beats (`compute_service.heart`), one announces, one per slot runs jobs and
reports how they ended. All share one lock, which is never held while somebody else is asked. A
thread that fails takes the service with it (`Pool.wait_failed`): half a worker would be worse.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from compute_service.attempts import Ending, refused
from compute_service.children import ChildFailedError
from compute_service.claims import Claims, Todo
from compute_service.ledger import Ledger
from compute_service.roster import Roster
from compute_service.settings import ComputeSettings
from contracts.catalogue import TaskDescriptor
from contracts.errors import CoatcheckError, NotSent
from contracts.job import Progress
from contracts.logs import logger
from contracts.messages import Announcement, Finish, Grant, Settle, Settled, Stop
from contracts.status import Outcome

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 15.0
SOON_SECONDS = 0.05
IDLE_SECONDS = 60.0
"""How long a thread sleeps at most before it looks whether it missed something."""
JOIN_SECONDS = 5.0
MAX_REFUSALS = 5

Bell = TypeVar("Bell")


class RunsJobs(Protocol):
    """What the pool needs of `compute_service.slots.Slot`."""

    catalogue: list[TaskDescriptor]

    @property
    def warm(self) -> bool:
        """Whether it can take a job at once."""

    def warm_up(self) -> None:
        """Become warm; raises `ChildFailedError`."""

    def run(self, grant: Grant) -> Finish | None:
        """Run a job; None if nothing is to be reported."""

    def stop(self, pid: str, fence: int, ending: Ending) -> None:
        """End a job."""

    def close(self) -> None:
        """End whatever it runs."""


class RingsBells(Protocol[Bell]):
    """What the pool needs of `compute_service.ledger.BrokerBells`."""

    def listen(self, *, on: bool) -> None:
        """Take bells, or no more."""

    def acknowledge(self, bells: list[Bell]) -> None:
        """These bells have been answered."""

    def ring(self) -> None:
        """Tell the pool that work may wait."""


class Runner:
    """A slot, and the grant that waits for its thread."""

    def __init__(self, slot: RunsJobs, lock: threading.Lock) -> None:
        self.slot = slot
        self.wake = threading.Condition(lock)
        self.grant: Grant | None = None


class Pool(Generic[Bell]):
    """Runs the jobs of one pool in its slots."""

    def __init__(
        self,
        *,
        worker_id: str,
        settings: ComputeSettings,
        ledger: Ledger,
        bells: RingsBells[Bell],
        make_slot: Callable[[Callable[[Grant, Progress], None]], RunsJobs],
    ) -> None:
        self.worker_id = worker_id
        self._settings = settings
        self._ledger = ledger
        self._bells = bells
        self.lock = threading.Lock()
        """Guards everything below; the heart takes it as well."""
        self.beat_wanted = threading.Condition(self.lock)
        """Notified when a heartbeat may be due before its time."""
        self.roster: Roster[Runner] = Roster()
        self.tasks: list[TaskDescriptor] = []
        self.draining = False
        self.stopped = False
        self._runners = [Runner(make_slot(self._progress), self.lock) for _ in range(settings.slots)]
        self._idle: list[Runner] = []
        self._claims: Claims[Bell] = Claims(worker_id=worker_id, pool=settings.pool, tasks=[])
        self._claim_wanted = threading.Condition(self.lock)
        self._announce_wanted = threading.Condition(self.lock)
        self._announce = True
        self._quiet = threading.Condition(self.lock)
        self._connections = 0
        self._reconnected = threading.Condition(self.lock)
        self._look_again_at: float | None = None
        self._drain_until: float | None = None
        self._give_up_at: float | None = None
        self._failure: BaseException | None = None
        self._failed = threading.Event()
        self._threads: list[threading.Thread] = []

    # ---- life

    def start(self) -> None:
        """Warm the first slot, learn the tasks, start the threads; raises `ChildFailedError`."""
        first = self._runners[0].slot
        first.warm_up()
        self.tasks = [task for task in first.catalogue if task.pool == self._settings.pool]
        if not self.tasks:
            msg = f"no task of {self._settings.task_modules} belongs to the pool {self._settings.pool!r}"
            raise ChildFailedError(msg)
        names = [task.name for task in self.tasks]
        self._claims = Claims(worker_id=self.worker_id, pool=self._settings.pool, tasks=names)
        self.spawn("claim", self._claim_for_ever)
        self.spawn("announce", self._announce_for_ever)
        for number, runner in enumerate(self._runners):
            self.spawn(f"slot-{number}", lambda runner=runner: self._serve(runner))  # type: ignore[misc]

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Run *work* in a thread whose failure is the pool's failure."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                log.exception("A thread of the worker failed.", action="worker_failed", thread=name)
                self._failure = error
                self._failed.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait_failed(self) -> BaseException | None:
        """Wait until a thread of the pool has failed, or the pool has stopped (then None)."""
        while not self._failed.wait(IDLE_SECONDS):
            pass
        return self._failure

    def begin_drain(self) -> None:
        """Take no more work from now on, which is when the drain time begins. Does not wait."""
        with self.lock:
            if self._drain_until is not None:
                return
            self.draining = True
            self._drain_until = time.monotonic() + self._settings.drain_seconds
            todo = self._claims.close()
            self.beat_wanted.notify_all()
            running = len(self.roster)
        self._do(todo)
        log.info("The worker drains.", action="worker_drains", running=running)

    def drain(self) -> None:
        """Take no more work, finish what ends in time, hand back the rest, end the children."""
        self.begin_drain()
        with self.lock:
            left = (self._drain_until or 0.0) - time.monotonic()
            self._quiet.wait_for(lambda: not self.roster, max(left, 0.0))
            self._give_up_at = time.monotonic() + self._settings.hand_back_seconds
            running = list(self.roster)
        for entry in running:
            log.info("A job is handed back.", action="job_handed_back", pid=entry.grant.pid)
            entry.holder.slot.stop(entry.grant.pid, entry.grant.fence, Ending.HANDED_BACK)
        with self.lock:
            self._quiet.wait_for(
                lambda: not self.roster and not self._claims.unresolved, self._settings.hand_back_seconds
            )
        self.kill()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def kill(self) -> None:
        """End the children and the threads at once; what ran is for the ledger to miss."""
        with self.lock:
            self.stopped = True
            for condition in (self._claim_wanted, self._announce_wanted, self.beat_wanted, self._reconnected):
                condition.notify_all()
            for runner in self._runners:
                runner.wake.notify_all()
        for runner in self._runners:
            runner.slot.close()
        self._failed.set()

    # ---- what comes from the broker; none of these blocks

    def connected(self) -> None:
        """The connection to the broker is new."""
        with self.lock:
            self._connections += 1
            self._claims.connected()
            self._claim_wanted.notify()
            self._reconnected.notify_all()

    def bell(self, bell: Bell) -> None:
        """Work waits in the pool."""
        with self.lock:
            todo = self._claims.bell(bell)
            self._claim_wanted.notify()
        self._do(todo)

    def stop(self, stop: Stop) -> None:
        """The ledger wants a job stopped."""
        with self.lock:
            runner = self.roster.find(stop.pid, stop.fence)
        if runner is not None:
            log.info("A job is stopped.", action="job_stopped", pid=stop.pid, reason=stop.reason)
            runner.slot.stop(stop.pid, stop.fence, Ending(stop.reason))

    def announce(self) -> None:
        """The ledger wants to know the tasks."""
        with self.lock:
            self._announce = True
            self._announce_wanted.notify()

    @property
    def claim_unresolved(self) -> bool:
        """Whether jobs may have been granted that the roster does not list yet. Needs the lock."""
        return self._claims.unresolved

    # ---- claiming

    def _claim_for_ever(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            with self.lock:
                while not (self.stopped or self._claims.due):
                    self._wait_for_claim()
                claim = self._claims.begin()
                repeated = self._claims.repeats
                connections = self._connections
            if self.stopped or claim is None:
                return
            try:
                settled = self._ledger.settle(Settle(claim=claim, repeated=repeated))
            except CoatcheckError as error:
                with self.lock:
                    self._claims.failed(perhaps_sent=not isinstance(error, NotSent))
                    self._quiet.notify_all()
                self._complain(error, "claim_unanswered")
                delay = self._back_off(delay, connections)
                continue
            delay = FIRST_RETRY_SECONDS
            with self.lock:
                todo = self._claims.answered(settled)
                for grant in settled.grants:
                    runner = self._idle.pop()
                    self.roster.add(grant, runner)
                    runner.grant = grant
                    runner.wake.notify()
                self._quiet.notify_all()
            self._do(todo)

    def _wait_for_claim(self) -> None:
        if self._look_again_at is None:
            self._claim_wanted.wait(IDLE_SECONDS)
            return
        left = self._look_again_at - time.monotonic()
        if left > 0:
            self._claim_wanted.wait(left)
        else:
            self._look_again_at = None
            self._claims.look_again()
            if not self._claims.due:
                self._claim_wanted.wait(IDLE_SECONDS)

    def _do(self, todo: Todo[Bell]) -> None:
        if todo.listen is not None:
            self._bells.listen(on=todo.listen)
        if todo.acknowledge:
            self._bells.acknowledge(todo.acknowledge)
        if todo.ring:
            self._bells.ring()
        if todo.soon:
            with self.lock:
                self._look_again_at = time.monotonic() + SOON_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 -- jitter
                self._claim_wanted.notify()

    # ---- running

    def _serve(self, runner: Runner) -> None:
        self._free(runner)
        while True:
            with self.lock:
                while runner.grant is None and not self.stopped:
                    runner.wake.wait(IDLE_SECONDS)
                grant, runner.grant = runner.grant, None
            if grant is None or self.stopped:
                return
            while grant is not None:
                grant = self._complete(runner, grant)

    def _free(self, runner: Runner) -> None:
        """Warm the slot, then offer it."""
        delay = FIRST_RETRY_SECONDS
        while not (self.draining or self.stopped):
            try:
                runner.slot.warm_up()
                break
            except ChildFailedError as error:
                log.error("No child gets ready.", action="child_failed", reason=str(error))  # noqa: TRY400 -- a sentence
                delay = self._back_off(delay, None)
        with self.lock:
            self._idle.append(runner)
            todo = self._claims.slot_free()
            self._claim_wanted.notify()
        self._do(todo)

    def _complete(self, runner: Runner, grant: Grant) -> Grant | None:
        """Run one job and report it; the next one if the answer brought it."""
        finish = self._run(runner.slot, grant)
        with self.lock:
            claim = self._claims.ride() if finish is not None and runner.slot.warm else None
        settled = None if finish is None else self._report(Settle(finish=finish, claim=claim))
        following: Grant | None = None
        todo: Todo[Bell] = Todo()
        with self.lock:
            self.roster.remove(grant)
            if claim is not None and settled is not None:
                todo = self._claims.rode(settled)
                if settled.grants:
                    following = settled.grants[0]
                    self.roster.add(following, runner)
                else:
                    self._idle.append(runner)
            if not self.roster:
                self._quiet.notify_all()
            if self._claims.due:
                self._claim_wanted.notify()
        self._do(todo)
        if claim is None:
            self._free(runner)
        return following

    def _run(self, slot: RunsJobs, grant: Grant) -> Finish | None:
        handed_back = Finish(
            pid=grant.pid,
            fence=grant.fence,
            worker_id=self.worker_id,
            outcome=Outcome.HANDED_BACK,
            notify=grant.notify,
        )
        if self.draining:
            return handed_back
        try:
            return slot.run(grant)
        except ChildFailedError as error:
            log.error("No child takes the job.", action="child_failed", pid=grant.pid, reason=str(error))  # noqa: TRY400
            return handed_back

    def _report(self, settle: Settle) -> Settled | None:
        """Repeat until the ledger answers, however long it is away; None if the worker stops first."""
        delay = FIRST_RETRY_SECONDS
        refusals = 0
        while not self.stopped:
            connections = self._connections
            try:
                settled = self._ledger.settle(settle)
            except CoatcheckError as error:
                pid = settle.finish.pid if settle.finish is not None else None
                self._complain(error, "finish_unanswered", pid=pid)
                refusals += error.status != 503  # noqa: PLR2004 -- Unavailable: no answer at all
                if refusals == MAX_REFUSALS and settle.finish is not None:
                    settle = settle.model_copy(update={"finish": refused(settle.finish, str(error))})
                if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                    break
                settle = settle.model_copy(update={"repeated": True})
                delay = self._back_off(delay, connections)
                continue
            self._log_end(settle, settled)
            return settled
        return None

    def _progress(self, grant: Grant, progress: Progress) -> None:
        with self.lock:
            known = self.roster.news
            self.roster.progress(grant, progress)
            if not known:
                self.beat_wanted.notify()

    # ---- announcing

    def _announce_for_ever(self) -> None:
        delay = FIRST_RETRY_SECONDS
        announcement = Announcement(worker_id=self.worker_id, tasks=self.tasks)
        while True:
            with self.lock:
                while not (self._announce or self.stopped):
                    self._announce_wanted.wait(IDLE_SECONDS)
                self._announce = False
                connections = self._connections
            if self.stopped:
                return
            try:
                self._ledger.announce(announcement)
                delay = FIRST_RETRY_SECONDS
            except CoatcheckError as error:
                self._complain(error, "announce_unanswered")
                with self.lock:
                    self._announce = True
                delay = self._back_off(delay, connections)

    # ---- waiting and telling

    def _back_off(self, delay: float, connections: int | None) -> float:
        """Wait about *delay* seconds, less if the broker is back or the worker stops; the next delay."""
        wait = delay * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
        with self.lock:
            self._reconnected.wait_for(
                lambda: self.stopped or (connections is not None and self._connections != connections), wait
            )
        return min(delay * 2, LAST_RETRY_SECONDS)

    def _complain(self, error: CoatcheckError, action: str, pid: str | None = None) -> None:
        if not isinstance(error, NotSent):  # the client has said once that the broker is away
            log.warning("The ledger did not answer.", action=action, pid=pid, reason=str(error))

    def _log_end(self, settle: Settle, settled: Settled) -> None:
        finish = settle.finish
        if finish is None or finish.outcome is Outcome.SUCCEEDED:
            return
        log.info(
            "An attempt ended.",
            action="attempt_ended",
            pid=finish.pid,
            outcome=finish.outcome,
            kind=None if finish.error is None else finish.error.kind,
            stored=settled.finish,
            status=settled.status,
        )
