"""The tormentor: deals the blows of the plan at their times."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import psutil

from tests.chaos import processes
from tests.chaos.history import History, Struck
from tests.chaos.pace import Pace
from tests.chaos.plan import Blow, Kind
from tests.chaos.proxy import Proxy
from tests.chaos.world import World

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.3
SIGNALS = {Kind.KILL: signal.SIGKILL, Kind.TERMINATE: signal.SIGTERM}


class Tormentor:
    """Breaks one run's world."""

    def __init__(
        self, world: World, history: History, pace: Pace, works: Callable[[], Coroutine[Any, Any, bool]]
    ) -> None:
        self._world = world
        self._works = works
        self._history = history
        self._pace = pace
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deal all blows; comes back when the last one is over."""
        for blow in self._history.plan.blows:
            if not await self._pace.reach(blow.at):
                break
            if blow.patient:
                await self._recovered()
            task = asyncio.create_task(self._strike(blow))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _recovered(self) -> None:
        """Come back when everything runs and a job goes through, or patience is over."""
        with self._pace.standing_still(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(PATIENCE_SECONDS, self._pace.left))):
                while not (await self._world.healthy() and await self._works()):  # noqa: ASYNC110 -- asks over HTTP
                    await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Leave nothing frozen or cut off, also if it was broken off."""
        for task in list(self._under_way):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _strike(self, blow: Blow) -> None:
        now = time.monotonic()
        struck = Struck(blow=blow, at=now, until=now + blow.seconds, processes=[])
        self._history.struck.append(struck)
        if blow.kind in SIGNALS:
            self._signal(struck, SIGNALS[blow.kind])
        elif blow.kind is Kind.FREEZE:
            await self._freeze(struck)
        else:
            await self._disconnect(struck)

    def _signal(self, struck: Struck, number: signal.Signals) -> None:
        if (victim := self._victim(struck.blow)) is None:
            struck.note = " (was not there)"
            return
        struck.processes = [victim]
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, number)

    def _victim(self, blow: Blow) -> int | None:
        """The process, if it runs: of the gateway either the parent or the one that serves."""
        if blow.target == "child":
            workers = filter(None, (self._world.process(name) for name in ("compute", "compute-2")))
            crowd = [child for worker in workers for child in processes.children_of_worker(worker)]
        elif (process := self._world.process(blow.target)) is None:
            crowd = []
        else:
            crowd = [process]
            if blow.target == "gateway" and blow.kind is Kind.KILL:
                with contextlib.suppress(psutil.Error):
                    crowd += [child.pid for child in psutil.Process(process).children()]
        return crowd[int(blow.lot * len(crowd))] if crowd else None

    async def _freeze(self, struck: Struck) -> None:
        self._signal(struck, signal.SIGSTOP)
        try:
            await asyncio.sleep(struck.blow.seconds)
        finally:
            struck.until = time.monotonic()
            for process in struck.processes:
                if processes.carries(process, self._world.mark):
                    os.kill(process, signal.SIGCONT)

    async def _disconnect(self, struck: Struck) -> None:
        blow = struck.blow
        proxy: Proxy = self._world.proxies[blow.target]
        ports = None if blow.of is None else partial(self._ports, blow.of, struck)
        if blow.kind is Kind.CUT:
            count = proxy.cut(None if ports is None else await asyncio.to_thread(ports))
            struck.note = f" ({count} connections)"
            return
        rule = proxy.refusing(ports) if blow.kind is Kind.REFUSE else proxy.silent(ports)
        async with rule:
            try:
                await asyncio.sleep(blow.seconds)
            finally:
                struck.until = time.monotonic()

    def _ports(self, name: str, struck: Struck) -> set[int]:
        process = self._world.process(name)
        if process is None:
            return set()
        if process not in struck.processes:
            struck.processes.append(process)
        return processes.ports_of(process)
