"""What is found when all is over: documents, answers, mails, effects."""

import email
import email.policy
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from tests.chaos.effects import Effect, EffectLog
from tests.chaos.history import History
from tests.chaos.world import DATABASE

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """One mail that the sink has kept."""

    pid: str
    on: str
    """The moment it tells of."""
    id: str
    """The same for the same moment of the same run of a job."""
    subject: str
    wall: float
    """When it arrived."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything the checker looks at."""

    history: History
    documents: dict[str, Document]
    """By pid."""
    answers: dict[str, Document]
    """What the API says of each job in the end, by pid."""
    effects: dict[str, list[Effect]]
    mails: dict[str, list[Mail]]
    """By pid."""
    strays: list[str] = field(default_factory=list)
    """Processes that tasks have left behind, when every job had ended."""
    left: list[str] = field(default_factory=list)
    """Processes that are left when everything has been stopped."""


def documents(client: MongoClient[Document]) -> dict[str, Document]:
    """Every job in the database."""
    return {document["_id"]: document for document in client[DATABASE]["jobs"].find()}


def effects(log: EffectLog, pids: Iterable[str]) -> dict[str, list[Effect]]:
    """The effect lines of these jobs and of any that only the log knows."""
    return {pid: log.read(pid) for pid in {*pids, *log.pids()}}


def mails(folder: Path) -> dict[str, list[Mail]]:
    """Every mail, by the pid that it is about."""
    found: dict[str, list[Mail]] = {}
    for path in sorted((folder / "new").glob("*"), key=lambda mail: mail.stat().st_mtime_ns):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        pid = str(mail["X-Coatcheck-Pid"])
        on = str(mail["Message-ID"]).removeprefix("<").split(".")[1]
        one = Mail(pid=pid, on=on, id=str(mail["Message-ID"]), subject=str(mail["Subject"]), wall=path.stat().st_mtime)
        found.setdefault(pid, []).append(one)
    return found
