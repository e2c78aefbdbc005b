"""What a mail says, and what cannot be smuggled into it."""

import email
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser

import pytest
from bson import DBRef
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.clock import SystemClock
from contracts.status import NotifyOn
from results_service.notifier import presentation
from results_service.notifier.mail import MailRenderer, envelope_address
from results_service.notifier.outbox import Lease

PID = "01993f0c-7b1e-7a33-9d51-0c6f3a2b9d10"
START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
SENDER = "Coatcheck <coatcheck@example.org>"
HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Coatcheck-Pid", "MIME-Version", "Content-Type",
}  # fmt: skip

renderer = MailRenderer(sender=SENDER, public_url="https://jobs.example.org/base", clock=SystemClock())


def render(
    on: NotifyOn = NotifyOn.SUCCEEDED, to: str = "ada@example.org", tries: int = 1, **job: object
) -> EmailMessage:
    job = {
        "_id": PID, "task": "bmi", "params": {"name": "Ada"}, "result": {"bmi": 21.8}, "reference": "K-2041",
        "created_at": START, "started_at": START + timedelta(seconds=1), "finished_at": START + timedelta(seconds=66),
        "fence": 2, "notifications": [],
    } | job  # fmt: skip
    sent = renderer.render(Lease(id="x", pid=PID, on=on, to=to, tries=tries, job=job, since=0.0))
    return email.message_from_bytes(sent.as_bytes(policy=SMTP), policy=SMTP)


def plain(mail: EmailMessage) -> str:
    return mail.get_body(("plain",)).get_content()


def html(mail: EmailMessage) -> str:
    return mail.get_body(("html",)).get_content()


class Elements(HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        """Note an element."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in {"href", "src", "background"}]

    def handle_data(self, data: str):
        """Note what a reader sees."""
        self.text += data


@pytest.mark.parametrize("read", [plain, lambda mail: Elements(html(mail)).text])
def test_success_says_everything(read: Callable[[EmailMessage], str]):
    """Both bodies name the pid, task, reference, result, parameters, times and the duration."""
    text = read(render())
    for needed in (PID, "bmi", "succeeded", "K-2041", "21.8", "Ada", "2025-03-01 12:00:00 UTC", "1 min 05 s"):
        assert needed in text


def test_link_leads_to_the_job():
    """The one link is that of the job, below the public URL."""
    link = f"https://jobs.example.org/base/api/v1/jobs/{PID}"
    assert link in plain(render())
    assert Elements(html(render())).links == [link]


def test_a_deleted_job_has_no_link():
    """A link that would answer 404 is left out."""
    assert "/api/v1" not in plain(render(deleted_at=START))
    assert Elements(html(render(deleted_at=START))).links == []


@pytest.mark.parametrize("read", [plain, lambda mail: Elements(html(mail)).text])
def test_failure_says_why(read: Callable[[EmailMessage], str]):
    """A failed job's mail has the kind, what it means, and the message, but neither result nor traceback."""
    error = {"kind": "timeout", "message": "gave up after 5 s", "traceback": "File secret.py"}
    text = read(render(NotifyOn.FAILED, error=error, result=None))
    for needed in ("timeout", "The time limit passed.", "gave up after 5 s", "failed"):
        assert needed in text
    assert "secret.py" not in text
    assert "Result" not in text


def test_acceptance_tells_no_outcome():
    """A late "accepted" mail does not give the outcome away before its own mail does."""
    text = plain(render(NotifyOn.ACCEPTED))
    assert "21.8" not in text
    assert "Ended" not in text


def test_headers_are_those_of_an_automatic_mail():
    """The headers are complete, and no vacation responder answers (RFC 3834)."""
    mail = render()
    assert set(mail.keys()) == HEADERS
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Coatcheck-Pid"] == PID
    assert mail["From"] == SENDER
    assert mail["To"] == "ada@example.org"
    assert mail["Subject"] == "bmi succeeded (K-2041)"
    assert mail["Content-Type"].content_type == "multipart/alternative"


def test_a_double_has_the_same_message_id():
    """A second try is recognisable as a double; another moment or another run is not."""
    assert render(tries=1)["Message-ID"] == render(tries=9)["Message-ID"]
    assert render(NotifyOn.ACCEPTED, fence=0)["Message-ID"] == render(NotifyOn.ACCEPTED, fence=1)["Message-ID"]
    others = {render()["Message-ID"], render(NotifyOn.ACCEPTED)["Message-ID"], render(fence=3)["Message-ID"]}
    assert len(others) == 3


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\0"])
def test_no_header_can_be_injected(end: str):
    """Line ends of any kind in what a submitter controls stay inside their header and body."""
    attack = f"K{end}Bcc: eve@evil.example{end}{end}<p>body"
    mail = render(reference=attack, task=attack, params={attack: attack}, result={attack: attack})
    assert set(mail.keys()) == HEADERS
    assert mail["Bcc"] is None
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_html_is_escaped():
    """Markup in parameters, results, errors and references is shown, not obeyed."""
    attack = "\"'><script>alert(1)</script><img src=//evil.example/x onerror=alert(1)><style>*{}</style>{{ 7*7 }}"
    harmless = Elements(html(render(result={"long": "line\nline"})))
    succeeded = render(
        reference=attack, task=attack, params={attack: [attack]}, result={attack: {"a": {attack: attack}}}
    )
    failed = render(NotifyOn.FAILED, error={"kind": attack, "message": attack}, task=attack)
    for mail in (succeeded, failed):
        found = Elements(html(mail))
        assert found.tags <= harmless.tags
        assert found.attributes <= harmless.attributes
        assert found.links == harmless.links
        assert "49" not in found.text
        assert "alert(1)" in found.text


def test_nothing_remote_and_no_images():
    """Opening a mail fetches nothing and tells nobody."""
    page = html(render())
    assert "<img" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_length_is_bounded():
    """A result of the largest size the ledger takes makes a mail of bounded size that says it is shortened."""
    for result in (
        {"text": "ä" * 250_000},
        {f"k{n}" * 20: "v" * 200 for n in range(2_000)},
        [["x"] * 50_000],
        {"a": "line\n" * 40_000},
    ):
        mail = render(result=result)
        assert len(mail.as_bytes()) < 400_000
        assert "shortened" in plain(mail) or "not shown" in plain(mail)


def test_deep_nesting_is_no_problem():
    """The deepest value that the ledger takes is rendered, if not to its end."""
    value = "core"
    for _ in range(64):
        value = {"n": [value]} if isinstance(value, str) else {"n": value}
    assert "n:" in plain(render(result={"deep": value}))


def test_text_of_several_lines_stays_as_it_is():
    """An alignment keeps its columns, also inside nested results."""
    alignment = "human  0 MVLS 4\n       0 |.|| 4\nmouse  0 MALS 4\n"
    text = plain(render(result={"pairs": [{"score": 4.0, "alignment": alignment}]}))
    block = [line for line in text.splitlines() if "MVLS" in line or "|.||" in line or "MALS" in line]
    assert len({len(line) - len(line.lstrip()) for line in (block[0], block[2])}) == 1
    assert block[0].index("0") == block[1].index("0") == block[2].index("0")


def test_what_mongodb_reads_as_reference_is_shown_as_sent():
    """An object with a member $ref, which pymongo turns into a DBRef, is rendered as the object it was."""
    assert "$ref" in plain(render(result={"x": DBRef("things", 1)}))


@settings(deadline=None)  # a slow machine is no finding
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_can_be_mailed(value: object):
    """Whatever JSON a task returns, there is a mail for it, without control characters."""
    mail = render(result=value, params={"value": value})
    for text in (plain(mail), html(mail)):
        assert not [c for c in text if ord(c) < 32 and c not in "\r\n\t"]


@pytest.mark.parametrize(
    ("to", "envelope"),
    [
        ("ada@example.org", "ada@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("a+b@x.io", "a+b@x.io"),
    ],
)
def test_recipients_become_envelope_addresses(to: str, envelope: str):
    """International domains are handed over in their ASCII form, which every server takes."""
    assert envelope_address(to) == envelope


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a@b\r\nRCPT TO:<eve@evil>",
        "a b@example.org",
        "a@b c",
        "x" * 70 + "@" + "y" * 64 + ".z",
        "a@b, c@d",
    ],
)
def test_what_is_no_address_is_refused(to: str):
    """Nothing but one address gets into an SMTP command."""
    with pytest.raises(ValueError):  # noqa: PT011 -- the class is the promise
        envelope_address(to)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (3.21, "3.2 s"), (65, "1 min 05 s"), (7800, "2 h 10 min"), (3 * 86400 + 4 * 3600, "3 d 4 h")],
)
def test_durations_read_well(seconds: float, text: str):
    """Durations are for people."""
    assert presentation.duration(seconds) == text
