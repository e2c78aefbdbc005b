"""Renders one notification as a mail: text and HTML, safe whatever the job carries."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from contracts.clock import Clock
from contracts.status import ErrorKind, NotifyOn
from results_service.notifier import presentation
from results_service.notifier.outbox import Lease

TEMPLATES = Path(__file__).parent / "templates"
MAX_REFERENCE_LENGTH = 128
MAX_SUBJECT_REFERENCE_LENGTH = 48
MAX_TASK_LENGTH = 63

_ERROR_SENTENCES = {
    ErrorKind.TASK_ERROR: "The task stopped with an error.",
    ErrorKind.INVALID_PARAMS: "The task refused its parameters.",
    ErrorKind.INVALID_RESULT: "The task returned something that cannot be stored.",
    ErrorKind.TIMEOUT: "The time limit passed.",
    ErrorKind.OUT_OF_MEMORY: "The memory limit was reached.",
    ErrorKind.CRASHED: "The task's process died.",
    ErrorKind.WORKER_LOST: "The worker that ran it was lost.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one moment of a job looks in a mail."""

    word: str
    sentence: str
    color: str
    """Of the badge; each has a contrast of at least 4.5 with white."""


_OUTCOMES = {
    NotifyOn.ACCEPTED: Outcome(
        word="accepted", sentence="Your job is stored and will be run. Another mail follows if you asked for one.",
        color="#1d4ed8",
    ),
    NotifyOn.SUCCEEDED: Outcome(word="succeeded", sentence="Your job is done. Here is its result.", color="#15803d"),
    NotifyOn.FAILED: Outcome(word="failed", sentence="Your job could not be completed.", color="#b91c1c"),
    NotifyOn.CANCELLED: Outcome(
        word="cancelled", sentence="Your job was cancelled. It has no result.", color="#57534e"
    ),
}  # fmt: skip


def envelope_address(to: str) -> str:
    """*to* as SMTP takes it: an international domain in its ASCII form. Raises `ValueError` if it is no address."""
    try:
        address = Address(addr_spec=to)
        domain = address.domain.encode("idna").decode("ascii")
    except (IndexError, AttributeError, MessageError) as error:  # what the standard library raises for some input
        raise ValueError("is not an e-mail address") from error
    if not address.username or not domain or not to.isprintable():
        raise ValueError("is not an e-mail address")
    return Address(username=address.username, domain=domain).addr_spec


class MailRenderer:
    """Makes mails. Values of the job get into them as text only: cleaned, bounded and escaped."""

    def __init__(self, *, sender: str, public_url: str, clock: Clock) -> None:
        name, address = parseaddr(sender)
        self._sender = Address(name, addr_spec=address)
        self._public_url = public_url
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, lease: Lease) -> EmailMessage:
        """The mail for *lease*. The same job and moment always get the same Message-ID."""
        job, outcome = lease.job, _OUTCOMES[lease.on]
        task = presentation.one_line(str(job["task"]), MAX_TASK_LENGTH)
        shown = {
            "pid": lease.pid,
            "task": task,
            "outcome": outcome,
            "reference": presentation.one_line(job.get("reference") or "", MAX_REFERENCE_LENGTH),
            "facts": _facts(lease),
            "params": presentation.rows(job.get("params") or {}, "parameters") if job.get("params") else [],
            "result": presentation.rows(job.get("result"), "result") if lease.on is NotifyOn.SUCCEEDED else [],
            "error": _error(job.get("error")) if lease.on is NotifyOn.FAILED else None,
            "link": None if job.get("deleted_at") else f"{self._public_url}/api/v1/jobs/{lease.pid}",
        }
        mail = EmailMessage(policy=SMTP)
        mail["Subject"] = _subject(task, outcome, job.get("reference"))
        mail["From"] = self._sender
        mail["To"] = Address(addr_spec=envelope_address(lease.to))
        mail["Date"] = format_datetime(self._clock.now())
        mail["Message-ID"] = self._message_id(lease)
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834, section 5: no vacation replies, please
        mail["X-Coatcheck-Pid"] = lease.pid
        for template, subtype in (("mail.txt", "plain"), ("mail.html", "html")):
            body = self._templates.get_template(template).render(shown)
            if subtype == "plain":
                mail.set_content(body, subtype=subtype, cte="quoted-printable")
            else:
                mail.add_alternative(body, subtype=subtype, cte="quoted-printable")
        return mail

    def _message_id(self, lease: Lease) -> str:
        """Names the job, the moment and the run (the fence of a terminal job does not change)."""
        fence = 0 if lease.on is NotifyOn.ACCEPTED else lease.job.get("fence", 0)
        recipient = hashlib.sha256(lease.to.encode()).hexdigest()[:8]
        return f"<{lease.pid}.{lease.on}.{fence}.{recipient}@{self._sender.domain}>"


def _subject(task: str, outcome: Outcome, reference: str | None) -> str:
    about = presentation.one_line(reference or "", MAX_SUBJECT_REFERENCE_LENGTH)
    return f"{task} {outcome.word}" + (f" ({about})" if about else "")


def _facts(lease: Lease) -> list[presentation.Row]:
    job = lease.job
    facts = [("pid", lease.pid)]
    if job.get("reference"):
        facts.append(("Reference", presentation.one_line(job["reference"], MAX_REFERENCE_LENGTH)))
    facts.append(("Accepted", presentation.moment(job["created_at"])))
    started, finished = job.get("started_at"), job.get("finished_at")
    if lease.on is not NotifyOn.ACCEPTED and isinstance(finished, datetime):
        if isinstance(started, datetime):
            facts.append(("Started", presentation.moment(started)))
            took = f", after {presentation.duration((finished - started).total_seconds())}"
        else:
            took = ""
        facts.append(("Ended", presentation.moment(finished) + took))
    return [presentation.Row(label=label, text=text) for label, text in facts]


def _error(error: dict[str, Any] | None) -> dict[str, str]:
    error = error or {}
    kind = str(error.get("kind", ""))
    return {
        "kind": presentation.one_line(kind, MAX_TASK_LENGTH),
        "sentence": _ERROR_SENTENCES[ErrorKind(kind)] if kind in set(ErrorKind) else "",
        "message": presentation.bounded(str(error.get("message") or "")).strip(),
    }
