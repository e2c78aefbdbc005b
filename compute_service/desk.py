"""What the worker brings to the ledger and takes from it: decisions only, no threads, no clock.

A job moves from `ready` (granted) through a slot to the outbox (ended) and is gone when the ledger
has answered. One trip to the ledger at a time carries all that has ended and a claim for all there
is room for, so the more there is to do, the less each job costs.

While jobs are short, a few more than there are slots are claimed ahead: a slot that ends one takes
the next without waiting for the ledger. If jobs turn out long, what was claimed ahead is handed
back, uncounted, before anybody has waited for it noticeably.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from compute_service.attempts import Ending, refused, unstarted
from contracts.ids import new_id
from contracts.messages import MAX_FINISHES, Claim, Finish, Grant, Settle, Settled

Bell = TypeVar("Bell")

EMPTY_TRIES = 5
"""Claims in a row that may come back empty although there is more, before the bells are trusted again."""
SHORT_SECONDS = 0.05
"""Jobs are short when each of the last `PACE_JOBS` took less."""
PACE_JOBS = 8
HOLD_SECONDS = 0.5
"""A job that was claimed ahead is handed back if no slot has taken it for so long."""
RING_SECONDS = 1.0
"""Between two bells for the work that this worker has no room for."""
MAX_REFUSALS = 3
MAX_CLAIM = 256


@dataclass(kw_only=True, slots=True)
class Todo(Generic[Bell]):
    """What a decision asks of the broker."""

    acknowledge: list[Bell] = field(default_factory=list)
    ring: bool = False
    """Pass the news on: there may be work that this worker has no room for."""
    listen: bool | None = None
    """Take bells from now on, or no more."""
    soon: bool = False
    """Others were faster, but there is more: look again after a short pause."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A job that waits for a slot of this worker."""

    grant: Grant
    since: float


class Desk(Generic[Bell]):
    """Decides what the next trip carries, and what becomes of the bells.

    Bells that ring during a trip are kept until its answer, since the work they announce may be
    younger than the claim. A worker without room passes a bell on and stops listening; it listens
    again when the ledger has nothing more for it.
    """

    def __init__(
        self, *, worker_id: str, pool: str, tasks: list[str], ahead: int, claim_id: Callable[[], str] = new_id
    ) -> None:
        self._worker_id = worker_id
        self._pool = pool
        self._tasks = tasks
        self._ahead = ahead
        self._claim_id = claim_id
        self.ready: deque[Ready] = deque()
        self._outbox: list[Finish] = []
        self._idle = 0
        self._pace: deque[float] = deque(maxlen=PACE_JOBS)
        self._wanted = False
        self._listening = False
        self._closed = False
        self._empty = 0
        self._rung_at = float("-inf")
        self._bells: list[Bell] = []
        self._answering: list[Bell] = []
        self._claim: Claim | None = None
        self._sent: list[Finish] = []
        self._perhaps_served = False
        self._refusals = 0

    # ---- slots

    def slot_waits(self) -> None:
        """A slot has a new child, and no finish on the way that would claim for it."""
        self._idle += 1
        self._wanted = True

    def take(self) -> Grant | None:
        """The next job, for a slot that waits."""
        if not self.ready:
            return None
        self._idle -= 1
        return self.ready.popleft().grant

    def ended(self, finish: Finish | None, seconds: float, *, warm: bool) -> None:
        """A slot has run a job; None if there is nothing to report. A *warm* slot waits for the next."""
        self._pace.append(seconds)
        self._idle += warm
        if finish is not None:
            self._outbox.append(finish)
        else:
            self._wanted = True

    def withdraw(self, pid: str, fence: int, ending: Ending) -> bool:
        """Stop a job that no slot has taken yet; False if this desk does not hold it."""
        for held in self.ready:
            if (held.grant.pid, held.grant.fence) == (pid, fence):
                self.ready.remove(held)
                if ending is not Ending.SUPERSEDED:
                    self._outbox.append(unstarted(held.grant, self._worker_id, ending))
                return True
        return False

    # ---- trips

    @property
    def room(self) -> int:
        """How many more jobs this worker wants."""
        if self._closed:
            return 0
        short = len(self._pace) == PACE_JOBS and max(self._pace) < SHORT_SECONDS
        wanted = self._idle + (self._ahead if short else 0) - len(self.ready)
        return min(max(wanted, 0), MAX_CLAIM)

    @property
    def unresolved(self) -> str | None:
        """The id of the claim that the ledger may have granted something, and whose answer has not come."""
        return None if self._claim is None else self._claim.claim_id

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way to or from the ledger."""
        return self._claim is None and not self._outbox

    @property
    def due(self) -> bool:
        """Whether `trip` has something to carry."""
        return bool(self._outbox) or self._claim is not None or (self._wanted and self.room > 0)

    def trip(self) -> Settle:
        """The message to send now. A claim stays the same until it is answered or was never sent."""
        self._sent = self._outbox[: 1 if self._refusals else MAX_FINISHES]
        if self._claim is None and (room := self.room) > 0:
            self._claim = Claim(
                claim_id=self._claim_id(),
                worker_id=self._worker_id,
                pool=self._pool,
                tasks=self._tasks,
                count=room,
                heard=self._wanted or bool(self._bells),
            )
            self._wanted = False
            self._answering, self._bells = self._answering + self._bells, []
        return Settle(finishes=self._sent, claim=self._claim, repeated=self._perhaps_served)

    def failed(self, reason: str, *, perhaps_served: bool, refused_by_ledger: bool) -> None:
        """No answer came, or an error instead of one; everything is carried again by the next trip."""
        self._perhaps_served |= perhaps_served
        if self._claim is not None and not self._perhaps_served:
            self._claim = None
            self._wanted = True
            self._bells, self._answering = self._answering + self._bells, []
        if refused_by_ledger and self._sent:
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:  # alone on its trip since the first refusal
                self._outbox[0] = refused(self._sent[0], reason)

    def answered(self, settled: Settled, now: float) -> Todo[Bell]:
        """The ledger has what was sent, and these jobs are ours."""
        claim, self._claim = self._claim, None
        del self._outbox[: len(self._sent)]
        self._sent = []
        self._perhaps_served = False
        self._refusals = 0
        if self._closed:
            self._outbox += [unstarted(grant, self._worker_id, Ending.HANDED_BACK) for grant in settled.grants]
        else:
            self.ready.extend(Ready(grant=grant, since=now) for grant in settled.grants)
        todo: Todo[Bell] = Todo() if claim is None else self._look(settled, now)
        if self._bells and not self.room:
            passed = self._pass_on()
            todo.acknowledge, todo.ring, todo.listen = passed.acknowledge, True, passed.listen
        elif self._bells:
            self._wanted = True
        todo.acknowledge = self._answering + todo.acknowledge
        self._answering = []
        return todo

    def _look(self, settled: Settled, now: float) -> Todo[Bell]:
        """What the answer to a claim says about the work that is left."""
        todo: Todo[Bell] = Todo()
        if settled.grants or not settled.more:
            self._empty = 0
        if not settled.more:
            todo.listen = self._listen()
        elif not self.room:
            todo.ring = self._ring(now)
        elif settled.grants:
            self._wanted = True
        elif self._empty < EMPTY_TRIES:
            self._empty += 1
            todo.soon = True
        else:
            todo.listen = self._listen()
        return todo

    # ---- time

    @property
    def hold_until(self) -> float | None:
        """When `expire` has something to do, unless a slot is faster."""
        return self.ready[0].since + HOLD_SECONDS if self.ready and not self._idle else None

    def expire(self, now: float) -> Todo[Bell]:
        """Hand back what was claimed ahead of jobs that turned out long."""
        if self.hold_until is None or now < self.hold_until:
            return Todo()
        self._hand_back_ready()
        self._pace.clear()
        return Todo(ring=True)

    # ---- bells

    def bell(self, bell: Bell) -> Todo[Bell]:
        """A bell has rung."""
        self._bells.append(bell)
        if self._closed or not (self.room or self.unresolved):
            return self._pass_on()
        self._wanted = True
        return Todo()

    def connected(self) -> None:
        """The connection is new: bells may have been lost, and those that were kept come again."""
        self._bells.clear()
        self._answering.clear()
        self._wanted = True

    def look_again(self) -> None:
        """The short pause is over."""
        self._wanted = True

    def close(self) -> Todo[Bell]:
        """Take no more work; what no slot has taken goes back, bells go to others."""
        self._closed = True
        self._hand_back_ready()
        todo = self._pass_on() if self._bells else Todo()
        todo.listen, self._listening = False, False
        return todo

    def _hand_back_ready(self) -> None:
        self._outbox += [unstarted(held.grant, self._worker_id, Ending.HANDED_BACK) for held in self.ready]
        self.ready.clear()

    def _listen(self) -> bool | None:
        was, self._listening = self._listening, not self._closed
        return True if self._listening and not was else None

    def _ring(self, now: float) -> bool:
        if now - self._rung_at < RING_SECONDS:
            return False
        self._rung_at = now
        return True

    def _pass_on(self) -> Todo[Bell]:
        bells, self._bells = self._bells, []
        was, self._listening = self._listening, False
        return Todo(acknowledge=bells, ring=True, listen=False if was else None)
