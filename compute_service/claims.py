"""When to ask the ledger for work, for how many slots, and what becomes of the bells: decisions only."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from contracts.ids import new_id
from contracts.messages import Claim, Settled

Bell = TypeVar("Bell")

EMPTY_TRIES = 5
"""Claims in a row that may come back empty although there is more, before the bells are trusted again."""


@dataclass(kw_only=True, slots=True)
class Todo(Generic[Bell]):
    """What a decision asks of the broker."""

    acknowledge: list[Bell] = field(default_factory=list)
    ring: bool = False
    """Pass the news on: there may be work that this worker has no slot for."""
    listen: bool | None = None
    """Take bells from now on, or no more."""
    soon: bool = False
    """Others were faster, but there is more: look again after a short pause."""


class Claims(Generic[Bell]):
    """One claim at a time for all free slots.

    A slot is free, reserved by the claim that is under way, or busy. Bells that arrive meanwhile are
    kept until the reply, since the work they announce may be younger than the claim. A bell that
    finds no free slot is passed on at once, and from then on the worker does not listen until a
    slot is free: so a worker that is never full costs the broker no consumer that comes and goes.
    """

    def __init__(self, *, worker_id: str, pool: str, tasks: list[str], claim_id: Callable[[], str] = new_id) -> None:
        self._worker_id = worker_id
        self._pool = pool
        self._tasks = tasks
        self._claim_id = claim_id
        self._free = 0
        self._wanted = False
        self._listening = False
        self._closed = False
        self._empty = 0
        self._bells: list[Bell] = []
        self._answering: list[Bell] = []
        self._under_way: Claim | None = None
        self._perhaps_sent = False
        self._riding = 0

    @property
    def free(self) -> int:
        """Slots that are free and not reserved."""
        return self._free

    @property
    def unresolved(self) -> bool:
        """Whether the ledger may have granted something whose reply has not come."""
        return self._under_way is not None or self._riding > 0

    @property
    def due(self) -> bool:
        """Whether `begin` has a claim to send."""
        return self._under_way is not None or (self._wanted and self._free > 0 and not self._closed)

    @property
    def repeats(self) -> bool:
        """Whether the claim under way may have been served before."""
        return self._perhaps_sent

    def bell(self, bell: Bell) -> Todo[Bell]:
        """A bell has rung."""
        self._bells.append(bell)
        if self._closed or (self._free == 0 and not self.unresolved):
            return self._pass_on()
        self._wanted = True
        return Todo()

    def begin(self) -> Claim | None:
        """The claim to send now; the same again until it is `answered` or was never sent."""
        if self._under_way is not None or not self.due:
            return self._under_way
        self._under_way = self._new(self._free)
        self._perhaps_sent = False
        self._wanted = False
        self._free = 0
        self._answering, self._bells = self._bells, []
        return self._under_way

    def failed(self, *, perhaps_sent: bool) -> None:
        """No answer came. A claim that never left is forgotten and made anew; another is repeated as it was."""
        self._perhaps_sent |= perhaps_sent
        if self._under_way is None or self._perhaps_sent:
            return
        self._free += self._under_way.count
        self._under_way = None
        self._bells = self._answering + self._bells
        self._answering = []
        self._wanted = True

    def answered(self, settled: Settled) -> Todo[Bell]:
        """The reply has come; as many slots as it has grants are busy now."""
        claim, self._under_way = self._under_way, None
        self._free += (claim.count if claim is not None else 0) - len(settled.grants)
        answering, self._answering = self._answering, []
        todo = self._look(settled)
        todo.acknowledge = answering + todo.acknowledge
        return todo

    def ride(self) -> Claim | None:
        """A claim for one slot that rides on its finish; None when the worker takes no more work."""
        if self._closed:
            return None
        self._riding += 1
        return self._new(1)

    def rode(self, settled: Settled) -> Todo[Bell]:
        """The reply to a finish with a claim: without a grant the slot is free."""
        self._riding -= 1
        return self._look(settled) if settled.grants else self._freed(settled)

    def slot_free(self) -> Todo[Bell]:
        """A slot is free that has not asked for its next job: it is new, or has a new child."""
        self._wanted = True
        return self._freed(Settled())

    def connected(self) -> None:
        """The connection is new: bells may have been lost, and those that were kept come again."""
        self._bells.clear()
        self._answering.clear()
        self._wanted = True

    def look_again(self) -> None:
        """The short pause is over."""
        self._wanted = True

    def close(self) -> Todo[Bell]:
        """Take no more work; bells go to others."""
        self._closed = True
        self._listening = False
        todo = self._pass_on() if self._bells else Todo()
        todo.listen = False
        return todo

    def _new(self, count: int) -> Claim:
        return Claim(
            claim_id=self._claim_id(), worker_id=self._worker_id, pool=self._pool, tasks=self._tasks, count=count
        )

    def _freed(self, settled: Settled) -> Todo[Bell]:
        self._free += 1
        todo = self._look(settled)
        if not self._listening and not self._closed:
            self._listening = True
            todo.listen = True
        return todo

    def _look(self, settled: Settled) -> Todo[Bell]:
        """What a reply, and the bells that came before it, mean for the slots that are free now."""
        todo: Todo[Bell] = Todo()
        if self._bells and self._free > 0:
            self._wanted = True
        elif self._bells and not self.unresolved:
            todo = self._pass_on()
        if settled.grants or not settled.more:
            self._empty = 0
        if settled.more and self._free == 0:
            todo.ring = True
        elif settled.more and settled.grants:
            self._wanted = True
        elif settled.more and self._empty < EMPTY_TRIES:
            self._empty += 1
            todo.soon = True
        return todo

    def _pass_on(self) -> Todo[Bell]:
        bells, self._bells = self._bells, []
        was, self._listening = self._listening, False
        return Todo(acknowledge=bells, ring=True, listen=False if was else None)
