"""Customers who hand in work while the counter is being broken, and keep a book of what they were told."""

import email
import email.policy
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from breaking import TERMINAL, eventually, jobs_of
from running_stack import RunningStack

ADDRESS = "customer@example.org"
BMI = {"name": "Ada", "weight_kg": 70, "height_cm": 175}
KINDS: tuple[dict[str, Any], ...] = (
    {"task": "bmi", "params": BMI},
    {"task": "bmi", "params": BMI | {"delay_seconds": 0.2}},
    {"task": "bmi", "params": BMI, "notify": {"email": ADDRESS, "on": ["succeeded"]}},
    {"task": "arithmetic", "params": {"operation": "div", "value": 1, "other": 0}},
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one submission was told; status 0 stands for a connection that broke."""

    reference: str
    status: int
    pid: str | None
    text: str


class Customers:
    """Threads that submit, and one that looks at jobs that were acknowledged, for the length of a block."""

    def __init__(
        self, stack: RunningStack, *, threads: int = 3, pause: float = 0.1, database: str = "coatcheck"
    ) -> None:
        self._stack = stack
        self._database = database
        self._pause = pause
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._at: dict[int, Callable[[], None]] = {}
        self.book: list[Answer] = []
        self.accepted: list[str] = []
        self.unseen: list[str] = []
        """Acknowledged jobs that a later request did not find."""
        self._threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(threads)]
        self._threads.append(threading.Thread(target=self._look))

    def at(self, number: int, act: Callable[[], None]) -> None:
        """Do *act* in the moment in which the 202 with this *number* arrives."""
        self._at[number] = act

    def wait_accepted(self, number: int) -> None:
        """Until so many submissions were acknowledged."""
        eventually(lambda: len(self.accepted) >= number, f"{number} submissions acknowledged")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        for thread in self._threads:
            thread.join(30)

    def _submit(self, number: int) -> None:
        turn = number
        with self._stack.client() as http:
            while not self._leaving.wait(self._pause):
                reference, turn = uuid.uuid4().hex, turn + 1
                try:
                    answer = http.post("/jobs", json=KINDS[turn % len(KINDS)] | {"reference": reference})
                except httpx.HTTPError as error:
                    self._note(Answer(reference=reference, status=0, pid=None, text=repr(error)))
                else:
                    pid = answer.json().get("pid")
                    self._note(Answer(reference=reference, status=answer.status_code, pid=pid, text=answer.text))

    def _note(self, answer: Answer) -> None:
        act = None
        with self._lock:
            self.book.append(answer)
            if answer.status == httpx.codes.ACCEPTED and answer.pid:
                self.accepted.append(answer.pid)
                act = self._at.pop(len(self.accepted), None)
        if act is not None:
            act()

    def _look(self) -> None:
        with self._stack.client() as http:
            while not self._leaving.wait(self._pause / 5):
                if not self.accepted:
                    continue
                pid = random.choice(self.accepted[-20:])  # noqa: S311 -- which one is looked at guards nothing
                try:
                    found = http.get(f"/jobs/{pid}").status_code
                except httpx.HTTPError:
                    continue
                if found not in {httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE}:
                    self.unseen.append(f"{pid}: {found}")

    # ---- afterwards

    def wait_ended(self) -> dict[str, dict[str, Any]]:
        """Every acknowledged job, once all of them have ended."""
        ended: dict[str, dict[str, Any]] = {}
        with self._stack.client() as http:

            def all_ended() -> bool:
                for pid in self.accepted:
                    if pid in ended:
                        continue
                    answer = http.get(f"/jobs/{pid}")
                    assert answer.status_code in {httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE}, answer.text
                    if answer.status_code != httpx.codes.OK or answer.json()["status"] not in TERMINAL:
                        return False
                    ended[pid] = answer.json()
                return True

            eventually(all_ended, "the end of every acknowledged job")
        return ended

    def check_the_book(self) -> None:
        """Each submission left what its answer said: 202 its job; 503 none or the one it named; silence one at most."""
        stored: dict[str, list[str]] = {}
        with jobs_of(self._stack, self._database) as jobs:
            for document in jobs.find({"reference": {"$exists": True}}, {"reference": 1}):
                stored.setdefault(document["reference"], []).append(document["_id"])
        for answer in self.book:
            found = stored.get(answer.reference, [])
            if answer.status == httpx.codes.ACCEPTED:
                assert found == [answer.pid], answer
            elif answer.status == httpx.codes.SERVICE_UNAVAILABLE:
                assert found in ([], [answer.pid]), f"{found}: {answer}"
            else:
                assert answer.status == 0, answer
                assert len(found) <= 1, answer
        assert not self.unseen

    def check_the_mail(self, ended: dict[str, dict[str, Any]]) -> None:
        """Each of *ended* that asked for a mail gets one, and no other."""
        wanted = {pid for pid, job in ended.items() if job["notifications"]}
        with jobs_of(self._stack, self._database) as jobs:
            due = {"_id": {"$in": list(wanted)}, "notifications.state": {"$ne": "sent"}}
            eventually(lambda: jobs.count_documents(due) == 0, "every mail sent")
        found = mails_of(self._stack)
        assert {pid: found[pid] for pid in wanted} == dict.fromkeys(wanted, 1)


def mails_of(stack: RunningStack) -> Counter[str]:
    """How many mails the private sink has got about each job."""
    assert stack.state.mail
    found: Counter[str] = Counter()
    for path in (Path(stack.state.mail) / "new").iterdir():
        found[email.message_from_bytes(path.read_bytes(), policy=email.policy.default)["X-Coatcheck-Pid"]] += 1
    return found
