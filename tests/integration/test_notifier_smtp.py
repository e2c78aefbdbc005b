"""The sender against a real SMTP server."""

import contextlib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from notifier_peers import MailServer, self_signed

from contracts.clock import SystemClock
from results_service.notifier.smtp import Refused, RefusedForNow, ServerAway, SmtpSender
from results_service.notifier.smtp_uri import SmtpServer

FOREVER = float("inf")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer().running() as server:
        yield server


def sender_for(uri: str, **options: float) -> SmtpSender:
    times = {"timeout_seconds": 5.0, "data_timeout_seconds": 5.0} | options
    return SmtpSender(SmtpServer.parse(uri), sender="coatcheck@example.org", clock=SystemClock(), **times)


def a_mail(to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["To"], mail["From"], mail["Subject"] = to, "coatcheck@example.org", "Hello"
    mail.set_content(".\r\nleading dots\r\n.\r\n")
    return mail


def send(sender: SmtpSender, to: str, data_before: float = FOREVER) -> None:
    sender.send(a_mail(to), to=to, data_before=data_before)


def test_one_connection_for_many_mails(mail_server: MailServer):
    """What is due together goes over one connection, also after a refusal, and arrives unchanged."""
    sender = sender_for(mail_server.uri)
    for recipient in ("a@b.example", "refused@b.example", "c@b.example", "unwanted@b.example", "d@b.example"):
        with contextlib.suppress(Refused):
            send(sender, recipient)
    sender.close()
    assert mail_server.connections == 1
    assert mail_server.recipients == ["a@b.example", "c@b.example", "d@b.example"]
    assert mail_server.mails[0].get_content() == ".\r\nleading dots\r\n.\r\n"


def test_refusals_are_told_apart(mail_server: MailServer):
    """5xx for the recipient or the mail is final, 4xx is not, and neither says that the server is away."""
    sender = sender_for(mail_server.uri)
    with pytest.raises(Refused, match="550"):
        send(sender, "refused@b.example")
    with pytest.raises(Refused, match="554"):
        send(sender, "unwanted@b.example")
    with pytest.raises(RefusedForNow, match="450"):
        send(sender, "later@b.example")
    send(sender, "later@b.example")
    sender.close()


def test_a_broken_connection_is_replaced(mail_server: MailServer):
    """A server that hangs up counts as away; so does one that restarted between two mails, which costs nothing."""
    sender = sender_for(mail_server.uri)
    with pytest.raises(ServerAway):
        send(sender, "dropped@b.example")
    send(sender, "dropped@b.example")
    mail_server.stop()
    mail_server.start()
    send(sender, "e@b.example")
    sender.close()
    assert mail_server.recipients == ["dropped@b.example", "e@b.example"]


def test_no_server_is_away():
    """Nobody listening is said at once, with the reason."""
    with pytest.raises(ServerAway, match="refused"):
        send(sender_for(MailServer().uri), "a@b.example")


def test_silence_ends(mail_server: MailServer):
    """A server that never answers the mail is given up after the time-out."""
    sender = sender_for(mail_server.uri, data_timeout_seconds=0.3)
    with pytest.raises(ServerAway, match=r"[Tt]imed? ?out"):
        send(sender, "slow@b.example")


def test_no_mail_after_the_lease(mail_server: MailServer):
    """When the lease has nearly run out before the mail itself was sent, it is not sent."""
    with pytest.raises(ServerAway, match="lease"):
        send(sender_for(mail_server.uri), "a@b.example", data_before=SystemClock().monotonic())
    assert mail_server.mails == []


def test_addresses_beyond_ascii(mail_server: MailServer):
    """An international local part goes out by SMTPUTF8."""
    sender = sender_for(mail_server.uri)
    send(sender, "jürgen@b.example")
    sender.close()
    assert mail_server.recipients == ["jürgen@b.example"]


def test_starttls_is_used_where_offered(tmp_path: Path):
    """A server that demands STARTTLS gets it, with a self-signed certificate only where none was required."""
    with MailServer(tls_context=self_signed(tmp_path), require_starttls=True).running() as server:
        sender = sender_for(server.uri)
        send(sender, "a@b.example")
        sender.close()
        assert server.recipients == ["a@b.example"]
        with pytest.raises(ServerAway, match="certificate"):
            send(sender_for(f"{server.uri}?starttls=required"), "a@b.example")
        with pytest.raises(ServerAway, match="STARTTLS"):
            send(sender_for(f"{server.uri}?starttls=never"), "a@b.example")


def test_required_starttls_is_never_skipped(mail_server: MailServer):
    """With a password, mail never goes over a connection that is not encrypted."""
    with pytest.raises(ServerAway, match="does not offer STARTTLS"):
        send(sender_for(mail_server.uri.replace("//", "//user:secret@")), "a@b.example")
    assert mail_server.mails == []
