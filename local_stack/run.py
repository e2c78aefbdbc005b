"""`make run`: start the stack, say where it is, and stop it when asked to."""

import asyncio
import os
import signal

from contracts.settings import load
from local_stack.problems import StackProblem
from local_stack.screen import Screen
from local_stack.settings import StackSettings
from local_stack.stack import Stack
from local_stack.state import claim

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = 130


def main() -> int:
    """The exit code: 0 if it was asked to stop, 1 if it could not run."""
    settings = load(StackSettings)
    screen = Screen()
    try:
        settings.local_dir.mkdir(parents=True, exist_ok=True)
        with claim(settings.local_dir):
            return asyncio.run(run(Stack(settings, screen), screen))
    except OSError as error:
        problem = f"{error.strerror}: {error.filename}. Choose a folder of your own: make run LOCAL_DIR=..."
    except StackProblem as error:
        problem = str(error)
    screen.say(problem, style="bold red")
    return 1


async def run(stack: Stack, screen: Screen) -> int:
    """Run until a signal or a problem; the second signal ends everything at once."""
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            stack.kill()
            os._exit(KILLED)
        asked.set()

    for sign in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(sign, ask)
    starting = asyncio.create_task(_start(stack, screen))
    stopping = asyncio.create_task(asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    house = asyncio.create_task(stack.keep_house())
    try:
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        elif starting.exception() is None:
            await stopping
        if not starting.cancelled():
            starting.result()
        return 0
    finally:
        house.cancel()
        stopping.cancel()
        screen.say()
        async with screen.live():
            await stack.stop()


async def _start(stack: Stack, screen: Screen) -> None:
    screen.say(f"Starting Coatcheck in {stack.settings.local_dir} (Ctrl-C stops it)")
    async with screen.live():
        await stack.start()
    screen.say(welcome(stack))


def welcome(stack: Stack) -> str:
    """What a person needs to know now, with a first job that works as pasted."""
    kept = f"kept in {stack.state.mail}" if stack.state.mail else "sent through SMTP_URI"
    return f"""
Coatcheck is ready.

  Swagger UI   {stack.url}/api/v1/
  Readiness    {stack.url}/readyz
  Mails        {kept}
  Logs         {stack.logs}

Hand in a first job, and collect its result:

  curl -s {stack.url}/api/v1/tasks/bmi/jobs -H 'Content-Type: application/json' \\
       -d '{{"params": {{"name": "Ada", "weight_kg": 70, "height_cm": 175}}}}'
  curl -s {stack.url}/api/v1/jobs/latest
"""
