"""One seed from start to end: start, torment, heal, look, stop, judge."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pymongo.errors import PyMongoError

from bench.progress import Progress
from contracts.status import ACTIVE
from tests.chaos import evidence as found
from tests.chaos import plan, processes
from tests.chaos.driver import Driver
from tests.chaos.evidence import Evidence
from tests.chaos.history import History
from tests.chaos.pace import Pace
from tests.chaos.tormentor import Tormentor
from tests.chaos.world import DATABASE, World

HEAL_SECONDS = 400.0
"""After the last blow, until every job has ended and every mail is out; half a minute on an idle machine."""
STRAYS_SECONDS = 10.0
POLL_SECONDS = 0.5


async def run(seed: int, seconds: float, folder: Path) -> Evidence:
    """Torment the system as *seed* says; what there is to judge in the end. Leaves no process behind."""
    world = World(folder)
    history = History(plan.make(seed, seconds))
    tormentor: Tormentor | None = None
    driver: Driver | None = None
    try:
        with Progress("start the stack"):
            await world.start()
        history.start()
        pace = Pace(seconds)
        driver = Driver(world.url, history, pace)
        tormentor = Tormentor(world, history, pace, driver.works)
        with Progress(f"torment, {seconds:g} s") as progress:
            await _both(driver, tormentor, history, progress.say)
        with Progress("heal") as progress:
            await _healed(world, driver, progress.say)
        with Progress("look at every job") as progress:
            evidence = await _gather(world, history, driver, progress.say)
    finally:
        if driver is not None:
            await driver.close()
        if tormentor is not None:
            await tormentor.close()
        with Progress("stop the stack"):
            try:
                await asyncio.shield(world.stop())
            finally:
                left = await asyncio.to_thread(processes.marked, world.mark)
                world.kill_marked()
    evidence.left.extend(f"{one.process} {one.command[:200]}" for one in left)
    return evidence


async def _both(driver: Driver, tormentor: Tormentor, history: History, say: Callable[[str], None]) -> None:
    """The clients and the torment, side by side."""
    parts = [asyncio.create_task(driver.run()), asyncio.create_task(tormentor.run())]
    try:
        while not all(part.done() for part in parts):
            await asyncio.wait(parts, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            history.look_at_load()
            say(_standing(history))
            for part in parts:
                if part.done():
                    part.result()
    finally:
        for part in parts:
            part.cancel()


def _standing(history: History) -> str:
    last = f", last: {history.struck[-1].blow}" if history.struck else ""
    return f"{len(history.records)} jobs, {len(history.struck)} blows{last}"


async def _healed(world: World, driver: Driver, say: Callable[[str], None]) -> None:
    """Come back when nothing is under way any more, or the time for that is over."""
    deadline = time.monotonic() + HEAL_SECONDS
    while time.monotonic() < deadline:
        try:
            active, owed = await asyncio.to_thread(_unfinished, world)
        except PyMongoError:
            say("MongoDB is not back yet")
            await asyncio.sleep(POLL_SECONDS)
            continue
        say(f"{active} active jobs, {owed} with mail due, {driver.busy} busy clients")
        if not (active or owed or driver.busy) and await world.healthy():
            return
        await asyncio.sleep(POLL_SECONDS)


def _unfinished(world: World) -> tuple[int, int]:
    with world.database() as client:
        jobs = client[DATABASE]["jobs"]
        active = jobs.count_documents({"status": {"$in": sorted(ACTIVE)}})
        return active, jobs.count_documents({"notifications.state": "due"})


async def _gather(world: World, history: History, driver: Driver, say: Callable[[str], None]) -> Evidence:
    strays = await _until_none(lambda: asyncio.to_thread(processes.marked, world.mark, strays_only=True))
    answers = {}
    for number, record in enumerate(history.records):
        if (pid := record.pid) is not None:
            say(f"{number} of {len(history.records)}")
            answers[pid] = (await driver.look(record)).body
    with world.database() as client:
        documents = found.documents(client)
    return Evidence(
        history=history,
        documents=documents,
        answers=answers,
        effects=found.effects(world.effects, documents),
        mails=found.mails(world.mails),
        strays=[f"{one.process} {one.command}" for one in strays],
    )


async def _until_none(look: Callable[[], Awaitable[list[processes.Found]]]) -> list[processes.Found]:
    """What is left after a while."""
    for _ in range(int(STRAYS_SECONDS / POLL_SECONDS)):
        if not await look():
            return []
        await asyncio.sleep(POLL_SECONDS)
    return await look()
