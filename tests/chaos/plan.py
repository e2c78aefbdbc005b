"""What a seed means: which jobs are submitted when, and what is broken when. Nothing else is random."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

JOBS_PER_SECOND = 2.5
BLOW_EVERY_SECONDS = 5.0
BLOW_EVERY_SECONDS_OF_SHORT = 3.5
"""A short run has to have one of everything as well."""
FIRST_BLOW_SECONDS = 4.0
PATIENT = 0.7
"""Of the blows; the others hit whatever is just coming back."""
LOCKED = 0.15
LOCK_KEYS = ("dataset:1", "dataset:2", "dataset:3", "dataset:4", "dataset:5")
RETRIED = 0.3
"""Of the jobs that fail or are cancelled."""
CALM_SECONDS = 2.0
"""Nothing is broken so shortly before the end."""
PARTITION_FROM_SECONDS = 120
"""Runs of this length and more have partitions and silences that last longer than the lease."""
LEASE_SECONDS = 15.0
WORKERS = ("compute", "compute-2")


class Kind(StrEnum):
    """How something is broken."""

    KILL = "kill"
    """kill -9 of a process; whoever keeps it starts it again."""
    TERMINATE = "terminate"
    """SIGTERM, as a deploy does."""
    CUT = "cut"
    """Connections are reset."""
    REFUSE = "refuse"
    """Connections are reset, and new ones for some seconds."""
    SILENCE = "silence"
    """Nothing gets through for some seconds, without any connection being closed."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT some seconds later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blow:
    """One thing that is broken."""

    at: float
    """Seconds after the start."""
    kind: Kind
    target: str
    """A process, or where the connections go to: amqp, mongodb."""
    of: str | None = None
    """Whose connections; None: everybody's."""
    seconds: float = 0.0
    lot: float = 0.0
    """Between 0 and 1: which one, where there are several."""
    patient: bool = False
    """Waits until the system has recovered from what was done before."""

    def __str__(self) -> str:
        whose = f" of {self.of}" if self.of else ""
        return f"{self.kind} {self.target}{whose}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """One submission and what follows it."""

    at: float
    number: int
    task: str
    params: dict[str, Any]
    priority: str
    due_after: float | None = None
    """Seconds after its submission, by ``not_before``."""
    key: bool = False
    """Submitted under an idempotency key until it is accepted, and several times."""
    repeat_after: float | None = None
    """When the same submission is made once more."""
    twins: int = 1
    """So many requests with the same key at the same moment."""
    cancel_after: float | None = None
    retry: bool = False
    """If it fails or is cancelled, it is run again by request, once."""
    mail: bool = False
    locks: tuple[str, ...] = ()
    on_conflict: str = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All of it."""

    seed: int
    seconds: float
    jobs: list[JobSpec]
    blows: list[Blow]


def make(seed: int, seconds: float) -> Plan:
    """The plan of *seed* for a run of *seconds*."""
    return Plan(
        seed=seed,
        seconds=seconds,
        jobs=_jobs(random.Random(f"jobs {seed}"), seconds),  # noqa: S311 -- reproducible on purpose
        blows=_blows(random.Random(f"blows {seed}"), seconds),  # noqa: S311 -- likewise
    )


# ---- jobs


def _jobs(lot: random.Random, seconds: float) -> list[JobSpec]:
    specs: list[JobSpec] = []
    at = 0.0
    while (at := at + lot.expovariate(JOBS_PER_SECOND)) < seconds:
        specs.append(_job(lot, at, len(specs)))
    return specs


def _job(lot: random.Random, at: float, number: int) -> JobSpec:
    shape = lot.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    more = shape(lot)
    key = lot.random() < 0.3
    if key:
        more["twins"] = lot.choice((1, 1, 2, 3))
        more["repeat_after"] = round(lot.uniform(0, 10), 2) if lot.random() < 0.6 else None
    if lot.random() < LOCKED:
        more["locks"] = tuple(lot.sample(LOCK_KEYS, lot.choice((1, 1, 2))))
        more["on_conflict"] = lot.choice(("queue", "queue", "reject"))
    return JobSpec(
        at=round(at, 3),
        number=number,
        task=more.pop("task", "chaos_work"),
        params={"note": f"job {number}", **more.pop("params")},
        priority=lot.choices(("low", "normal", "high"), (2, 6, 2))[0],
        key=key,
        retry=lot.random() < RETRIED,
        mail=lot.random() < 0.25,
        **more,
    )


def _short(lot: random.Random) -> dict[str, Any]:
    return {"params": {"seconds": _between(lot, 0, 0.05)}}


def _medium(lot: random.Random) -> dict[str, Any]:
    return {"params": {"seconds": _between(lot, 0.5, 3)}}


def _long(lot: random.Random) -> dict[str, Any]:
    return {"params": {"seconds": _between(lot, 8, 20)}}


def _flaky(lot: random.Random) -> dict[str, Any]:
    params = {"failures": lot.randint(1, 3), "how": lot.choice(("retry", "raise", "exit", "kill"))}
    return {"task": "chaos_flaky", "params": params}


def _hopeless(lot: random.Random) -> dict[str, Any]:
    return {"task": "chaos_hopeless", "params": {"how": lot.choice(("retry", "raise", "exit", "kill", "fatal"))}}


def _overrun(_lot: random.Random) -> dict[str, Any]:
    return {"task": "chaos_overrun", "params": {}}


def _spawn(lot: random.Random) -> dict[str, Any]:
    cancel = _between(lot, 0, 2) if lot.random() < 0.3 else None
    return {"task": "chaos_spawn", "params": {"seconds": _between(lot, 0, 2)}, "cancel_after": cancel}


def _cancelled(lot: random.Random) -> dict[str, Any]:
    return {"params": {"seconds": _between(lot, 1, 15)}, "cancel_after": _between(lot, 0, 4)}


def _scheduled(lot: random.Random) -> dict[str, Any]:
    """Pending for some seconds; half of them are cancelled about when they become due."""
    due = _between(lot, 1, 6)
    cancel = max(0.0, due + _between(lot, -1, 0.5)) if lot.random() < 0.5 else None
    return {"params": {"seconds": _between(lot, 0, 0.5)}, "due_after": due, "cancel_after": cancel}


def _stubborn(lot: random.Random) -> dict[str, Any]:
    params = {"seconds": _between(lot, 4, 10)}
    return {"task": "chaos_stubborn", "params": params, "cancel_after": _between(lot, 0.5, 3)}


def _between(lot: random.Random, least: float, most: float) -> float:
    return round(lot.uniform(least, most), 3)


SHAPES: tuple[tuple[Callable[[random.Random], dict[str, Any]], int], ...] = (
    (_short, 30),
    (_medium, 14),
    (_long, 6),
    (_flaky, 14),
    (_hopeless, 7),
    (_overrun, 2),
    (_spawn, 8),
    (_cancelled, 8),
    (_scheduled, 6),
    (_stubborn, 3),
)
"""Kinds of jobs, and how many of each in a hundred or so."""


# ---- blows


def _blows(lot: random.Random, seconds: float) -> list[Blow]:
    blows: list[Blow] = []
    deck: list[Blow] = []
    first = True
    pause = BLOW_EVERY_SECONDS if seconds >= PARTITION_FROM_SECONDS else BLOW_EVERY_SECONDS_OF_SHORT
    at = FIRST_BLOW_SECONDS
    while at < seconds - CALM_SECONDS:
        if not deck:
            deck = _core(lot) if first else [*_core(lot), *_more(lot)]
            first = False
            lot.shuffle(deck)
        blow = deck.pop()
        blows.append(replace(blow, at=round(at, 3), lot=lot.random(), patient=lot.random() < PATIENT))
        at += lot.uniform(0.25, 1.75) * pause
    if seconds >= PARTITION_FROM_SECONDS:
        blows += _long_ones(lot, seconds)
    return sorted(blows, key=lambda blow: blow.at)


def _blow(kind: Kind, target: str, of: str | None = None, seconds: float = 0.0) -> Blow:
    return Blow(at=0, kind=kind, target=target, of=of, seconds=round(seconds, 1))


def _core(lot: random.Random) -> list[Blow]:
    """One of each process that can be killed, and a cut."""
    names = ("gateway", "results", "notifier", "rabbitmq", "mongodb", "child", lot.choice(WORKERS))
    return [*(_blow(Kind.KILL, name) for name in names), _blow(Kind.CUT, lot.choice(("amqp", "mongodb")))]


def _more(lot: random.Random) -> list[Blow]:
    """Rarer ways to break things."""

    def some(shortest: float, longest: float) -> float:
        return lot.uniform(shortest, longest)

    service = lot.choice(("gateway", "results", "notifier", *WORKERS))
    return [
        _blow(Kind.KILL, "child"),
        _blow(Kind.KILL, "smtp"),
        _blow(Kind.KILL, lot.choice(WORKERS)),
        _blow(Kind.TERMINATE, lot.choice(WORKERS)),
        _blow(Kind.TERMINATE, lot.choice(("gateway", "results", "notifier"))),
        _blow(Kind.CUT, "amqp", service),
        _blow(Kind.CUT, "mongodb", lot.choice(("results", "notifier"))),
        _blow(Kind.REFUSE, "mongodb", None, some(2, 6)),
        _blow(Kind.REFUSE, "amqp", lot.choice(WORKERS), some(2, 8)),
        _blow(Kind.SILENCE, "amqp", lot.choice((None, "results", *WORKERS)), some(1, 6)),
        _blow(Kind.SILENCE, "mongodb", lot.choice((None, "results")), some(1, 4)),
        _blow(Kind.FREEZE, lot.choice(("rabbitmq", "mongodb", "results", "notifier", *WORKERS)), None, some(1, 5)),
    ]


def _long_ones(lot: random.Random, seconds: float) -> list[Blow]:
    """Once per two minutes each: a worker cut off for longer than the lease, and an outage of that length."""
    found = []
    for window in range(int(seconds // PARTITION_FROM_SECONDS)):
        begin = window * PARTITION_FROM_SECONDS + 15
        away = lot.choice((Kind.REFUSE, Kind.SILENCE))
        found.append(
            Blow(
                at=begin + lot.uniform(0, 10),
                kind=away,
                target="amqp",
                of=lot.choice(WORKERS),
                seconds=round(LEASE_SECONDS + lot.uniform(3, 10), 1),
            )
        )
        kind, target = lot.choice(
            (
                (Kind.REFUSE, "amqp"), (Kind.SILENCE, "amqp"), (Kind.REFUSE, "mongodb"), (Kind.SILENCE, "mongodb"),
                (Kind.FREEZE, "results"), (Kind.FREEZE, "rabbitmq"), (Kind.FREEZE, "mongodb"),
            )
        )  # fmt: skip
        found.append(
            Blow(
                at=begin + lot.uniform(50, 60),
                kind=kind,
                target=target,
                seconds=round(LEASE_SECONDS + lot.uniform(2, 6), 1),
            )
        )
    return found
