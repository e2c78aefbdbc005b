"""The slot pool: threads around the desk that decides (`compute_service.desk`), and a drain at the end.

Threads: one goes to the ledger, one beats (`compute_service.heart`), one announces, one per slot
runs jobs. All share one lock, which is never held while somebody else is asked. A thread that fails
takes the service with it (`Pool.wait_failed`): half a worker would be worse.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from compute_service.announcer import Announcer
from compute_service.attempts import Ending, unstarted
from compute_service.children import ChildFailedError
from compute_service.desk import Desk, Todo
from compute_service.ports import Ledger, RingsBells, RunsJobs
from compute_service.roster import Roster
from compute_service.settings import ComputeSettings
from contracts.catalogue import TaskDescriptor
from contracts.errors import CoatcheckError, NotSent, Unavailable
from contracts.job import Progress
from contracts.logs import logger
from contracts.messages import Finish, Grant, Settle, Settled, Stop
from contracts.status import Outcome

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 15.0
SOON_SECONDS = 0.05
IDLE_SECONDS = 60.0
"""How long a thread sleeps at most before it looks whether it missed something."""
JOIN_SECONDS = 5.0

Bell = TypeVar("Bell")


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
        self.roster: Roster[RunsJobs] = Roster()
        self.tasks: list[TaskDescriptor] = []
        self.draining = False
        self.stopped = False
        self._slots = [make_slot(self._progress) for _ in range(settings.slots)]
        self._desk: Desk[Bell] = self._open_desk([])
        self._trip_wanted = threading.Condition(self.lock)
        self._granted = threading.Condition(self.lock)
        self._quiet = threading.Condition(self.lock)
        self._announcer = Announcer(worker_id, ledger)
        self._connections = 0
        self._reconnected = threading.Condition(self.lock)
        self._look_again_at: float | None = None
        self._drain_until: float | None = None
        self._failure: BaseException | None = None
        self._failed = threading.Event()
        self._threads: list[threading.Thread] = []

    # ---- life

    def start(self) -> None:
        """Warm the first slot, learn the tasks, start the threads; raises `ChildFailedError`."""
        first = self._slots[0]
        first.warm_up()
        self.tasks = [task for task in first.catalogue if task.pool == self._settings.pool]
        if not self.tasks:
            msg = f"no task of {self._settings.task_modules} belongs to the pool {self._settings.pool!r}"
            raise ChildFailedError(msg)
        self._desk = self._open_desk([task.name for task in self.tasks])
        self.spawn("desk", self._settle_for_ever)
        self.spawn("announce", lambda: self._announcer.announce_for_ever(self.tasks))
        for number, slot in enumerate(self._slots):
            self.spawn(f"slot-{number}", lambda slot=slot: self._serve(slot))  # type: ignore[misc]

    def _open_desk(self, tasks: list[str]) -> Desk[Bell]:
        ahead = self._settings.claim_ahead * self._settings.slots
        return Desk(worker_id=self.worker_id, pool=self._settings.pool, tasks=tasks, ahead=ahead)

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
            todo = self._desk.close()
            self._trip_wanted.notify()
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
        self.hand_back()
        self.kill()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def hand_back(self) -> None:
        """Take no more work, stop what runs, and report it as handed back, as far as the ledger answers in time."""
        self.begin_drain()
        with self.lock:
            running = [(entry.grant, entry.holder) for entry in self.roster]
        for grant, slot in running:
            log.info("A job is handed back.", action="job_handed_back", pid=grant.pid)
            if slot is not None:
                slot.stop(grant.pid, grant.fence, Ending.HANDED_BACK)
        with self.lock:
            self._quiet.wait_for(lambda: not self.roster and self._desk.quiet, self._settings.hand_back_seconds)

    def kill(self) -> None:
        """End the children and the threads at once; what ran is for the ledger to miss."""
        with self.lock:
            self.stopped = True
            for condition in (self._trip_wanted, self._granted, self.beat_wanted, self._reconnected):
                condition.notify_all()
        for slot in self._slots:
            slot.close()
        self._announcer.stop()
        self._failed.set()

    # ---- what comes from the broker; none of these blocks

    def connected(self) -> None:
        """The connection to the broker is new."""
        with self.lock:
            self._connections += 1
            self._desk.connected()
            self._trip_wanted.notify()
            self._reconnected.notify_all()

    def bell(self, bell: Bell) -> None:
        """Work waits in the pool."""
        with self.lock:
            todo = self._desk.bell(bell)
            self._trip_wanted.notify()
        self._do(todo)

    def stop(self, stop: Stop) -> None:
        """The ledger wants a job stopped."""
        ending = Ending(stop.reason)
        with self.lock:
            slot = self.roster.find(stop.pid, stop.fence)
            if self._desk.withdraw(stop.pid, stop.fence, ending):
                if ending is Ending.SUPERSEDED:
                    self.roster.remove(stop.pid, stop.fence)
                self._trip_wanted.notify()
        if slot is not None:
            log.info("A job is stopped.", action="job_stopped", pid=stop.pid, reason=stop.reason)
            slot.stop(stop.pid, stop.fence, ending)

    def announce(self) -> None:
        """The ledger wants to know the tasks."""
        self._announcer.want()

    @property
    def claim_unresolved(self) -> str | None:
        """The claim by which jobs may have been granted that the roster does not list yet. Needs the lock."""
        return self._desk.unresolved

    # ---- to the ledger and back

    def _settle_for_ever(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            settle = self._next_trip()
            if settle is None:
                return
            connections = self._connections
            try:
                settled = self._ledger.settle(settle)
            except CoatcheckError as error:
                with self.lock:
                    self._desk.failed(
                        str(error),
                        perhaps_served=not isinstance(error, NotSent),
                        refused_by_ledger=not isinstance(error, Unavailable),
                    )
                self._complain(settle, error)
                delay = self._back_off(delay, connections)
                continue
            delay = FIRST_RETRY_SECONDS
            with self.lock:
                for finish in settle.finishes:
                    self.roster.remove(finish.pid, finish.fence)
                for grant in settled.grants:
                    self.roster.add(grant, None)
                todo = self._desk.answered(settled, time.monotonic())
                self._granted.notify(len(settled.grants))
                self._quiet.notify_all()
            self._do(todo)
            self._log_ends(settle, settled)

    def _next_trip(self) -> Settle | None:
        """Wait until there is something to bring or to ask for; None when the pool has stopped."""
        while True:
            with self.lock:
                if self.stopped:
                    return None
                now = time.monotonic()
                if self._look_again_at is not None and now >= self._look_again_at:
                    self._look_again_at = None
                    self._desk.look_again()
                todo = self._desk.expire(now)
                if self._desk.due:
                    settle = self._desk.trip()
                else:
                    moments = [moment for moment in (self._look_again_at, self._desk.hold_until) if moment is not None]
                    self._trip_wanted.wait(min([IDLE_SECONDS, *(max(0.0, moment - now) for moment in moments)]))
                    settle = None
            self._do(todo)
            if settle is not None:
                return settle

    def _do(self, todo: Todo[Bell]) -> None:
        if todo.listen is not None:
            self._bells.listen(on=todo.listen)
        if todo.acknowledge:
            self._bells.acknowledge(todo.acknowledge)
        if todo.ring:
            self._bells.ring()
        if todo.soon:
            self._look_again_at = time.monotonic() + SOON_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 -- jitter

    # ---- running

    def _serve(self, slot: RunsJobs) -> None:
        """The work of a slot's thread."""
        waits = False
        while waits or self._warm(slot):
            with self.lock:
                if not waits:
                    self._desk.slot_waits()
                    self._trip_wanted.notify()
                while not (self._desk.ready or self.stopped):
                    self._granted.wait(IDLE_SECONDS)
                grant = self._desk.take()
                if grant is None:
                    return
                self.roster.add(grant, slot)
            began = time.monotonic()
            finish = self._run(slot, grant)
            waits = slot.warm
            with self.lock:
                self._desk.ended(finish, time.monotonic() - began, warm=waits)
                if finish is None:
                    self.roster.remove(grant.pid, grant.fence)
                    self._quiet.notify_all()
                self._trip_wanted.notify()

    def _warm(self, slot: RunsJobs) -> bool:
        """Have a child in the slot; False when the pool takes no more work."""
        delay = FIRST_RETRY_SECONDS
        while not (self.draining or self.stopped):
            try:
                slot.warm_up()
            except ChildFailedError as error:
                log.error("No child gets ready.", action="child_failed", reason=str(error))  # noqa: TRY400 -- a sentence
                delay = self._back_off(delay, None)
            else:
                return True
        return False

    def _run(self, slot: RunsJobs, grant: Grant) -> Finish | None:
        handed_back = unstarted(grant, self.worker_id, Ending.HANDED_BACK)
        if self.draining:
            return handed_back
        try:
            return slot.run(grant)
        except ChildFailedError as error:
            log.error("No child takes the job.", action="child_failed", pid=grant.pid, reason=str(error))  # noqa: TRY400
            return handed_back

    def _progress(self, grant: Grant, progress: Progress) -> None:
        with self.lock:
            known = self.roster.news
            self.roster.progress(grant, progress)
            if not known:
                self.beat_wanted.notify()

    # ---- waiting and telling

    def _back_off(self, delay: float, connections: int | None) -> float:
        """Wait about *delay* seconds, less if the broker is back or the worker stops; the next delay."""
        wait = delay * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
        with self.lock:
            self._reconnected.wait_for(
                lambda: self.stopped or (connections is not None and self._connections != connections), wait
            )
        return min(delay * 2, LAST_RETRY_SECONDS)

    def _complain(self, settle: Settle, error: CoatcheckError) -> None:
        if isinstance(error, NotSent):  # the client has said once that the broker is away
            return
        pids = [finish.pid for finish in settle.finishes]
        log.warning("The ledger did not answer.", action="settle_unanswered", pids=pids, reason=str(error))

    def _log_ends(self, settle: Settle, settled: Settled) -> None:
        for finish, verdict in zip(settle.finishes, settled.verdicts, strict=True):
            if finish.outcome is not Outcome.SUCCEEDED:
                log.info(
                    "An attempt ended.",
                    action="attempt_ended",
                    pid=finish.pid,
                    outcome=finish.outcome,
                    kind=None if finish.error is None else finish.error.kind,
                    stored=verdict.finish,
                    status=verdict.status,
                )
