"""What the stack writes down under LOCAL_DIR: that it runs, where, and which ports it had."""

import fcntl
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from local_stack.problems import StackProblem


@dataclass(kw_only=True, slots=True)
class StackState:
    """The content of ``stack.json``; readable by its owner only, for it has the broker's password."""

    url: str = ""
    """Where the gateway is."""
    ready: bool = False
    """Whether every part has come up."""
    supervisor: int = 0
    """Process id of the stack itself."""
    amqp_uri: str = ""
    mongodb_uri: str = ""
    smtp_uri: str = ""
    mail: str | None = None
    """The Maildir of the private sink."""
    processes: dict[str, int] = field(default_factory=dict)
    """Process id of every program, by name."""
    ports: dict[str, int] = field(default_factory=dict)
    """Ports of the private servers; taken again at the next start if they are free."""

    @classmethod
    def read(cls, folder: Path) -> "StackState":
        """What the last stack in *folder* has left; empty if there was none."""
        try:
            return cls(**json.loads((folder / "stack.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, folder: Path) -> None:
        """Replace the file in one step."""
        draft = folder / "stack.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.rename(folder / "stack.json")


def claim(folder: Path) -> IO[str]:
    """Take *folder* for this process until the returned file is closed. Raises `StackProblem` if it is taken."""
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        state = StackState.read(folder)
        raise StackProblem(
            f"A stack already runs in {folder} (process {state.supervisor}, {state.url}): "
            "stop it with Ctrl-C there, or choose another folder and port: make run LOCAL_DIR=.local2 PORT=8001"
        ) from None
    return lock
