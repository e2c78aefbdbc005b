"""The notifier as it is deployed, under ``nameko run``, with a real broker, database and mail server."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from notifier_peers import Cable, MailServer, NotifierProcess, eventually, job_with_mail, self_signed
from pymongo.uri_parser import parse_uri

from contracts import codec, topology
from contracts.broker import BrokerClient
from contracts.messages import NotificationDue
from local_stack import ports
from results_service.ledger.database import Database
from results_service.notifier.patient_outbox import TAKE_OVER_AFTER_SECONDS

Start = Callable[..., NotifierProcess]


@pytest.fixture
def database(fresh_database: str) -> Iterator[Database]:
    found = Database(fresh_database, parse_uri(fresh_database)["database"], timeout_seconds=10)
    found.prepare()
    yield found
    found.close()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def start(
    fresh_vhost: str, fresh_database: str, database: Database, mail_server: MailServer, tmp_path: Path
) -> Iterator[Start]:
    """Starts notifiers; any of their settings can be given by name."""
    started: list[NotifierProcess] = []

    def begin(**environment: str) -> NotifierProcess:
        settings = {
            "AMQP_URI": fresh_vhost,
            "MONGODB_URI": fresh_database,
            "DATABASE": database.jobs.database.name,
            "SMTP_URI": mail_server.uri,
            "PUBLIC_URL": "https://jobs.example.org",
            "MAIL_BACKOFF_FIRST": "0.2",
            "SMTP_PROBE_SECONDS": "0.5",
        } | environment
        started.append(NotifierProcess(tmp_path / f"notifier-{len(started)}.log", **settings))
        return started[-1]

    yield begin
    for notifier in started:
        notifier.end()


def entry_of(database: Database, job: dict[str, Any]) -> dict[str, Any]:
    document = database.jobs.find_one({"_id": job["_id"]})
    assert document is not None
    entry: dict[str, Any] = document["notifications"][0]
    return entry


def wait_for(database: Database, job: dict[str, Any], state: str, seconds: float = 20) -> dict[str, Any]:
    eventually(lambda: entry_of(database, job)["state"] == state, seconds)
    return entry_of(database, job)


def test_an_event_is_a_wake_up(start: Start, database: Database, mail_server: MailServer, fresh_vhost: str):
    """A mail that is due is sent as soon as the event comes, long before the next sweep."""
    mail_server.start()
    start(MAIL_POLL_SECONDS="600").wait_started()
    job = job_with_mail("ada@b.example", reference="K-2041\r\nBcc: eve@evil.example")
    client = BrokerClient(fresh_vhost, name="test", heartbeat=60)
    client.start()
    assert client.wait_ready(20)
    database.jobs.insert_one(job)
    event = NotificationDue(pid=job["_id"]).model_dump_json().encode()

    def ring_until_sent() -> bool:
        client.send(topology.EVENTS_EXCHANGE, topology.NOTIFICATION_DUE, event)
        return bool(entry_of(database, job)["state"] == "sent")

    eventually(ring_until_sent, TAKE_OVER_AFTER_SECONDS - 2)
    client.close()
    assert entry_of(database, job)["tries"] == 1
    (mail,) = mail_server.mails
    assert mail["X-Coatcheck-Pid"] == job["_id"]
    assert mail["Bcc"] is None
    assert f"https://jobs.example.org/api/v1/jobs/{job['_id']}" in mail.get_body(("plain",)).get_content()
    assert mail_server.recipients == ["ada@b.example"]


def test_garbage_on_the_queue_does_no_harm(start: Start, database: Database, mail_server: MailServer, fresh_vhost: str):
    """Events that cannot be read neither stop the notifier nor keep the next one from waking it."""
    mail_server.start()
    notifier = start(MAIL_POLL_SECONDS="600").wait_started()
    eventually(lambda: notifier.lines("broker_connected"))
    client = BrokerClient(fresh_vhost, name="test", heartbeat=60)
    client.start()
    assert client.wait_ready(20)
    job = job_with_mail("ada@b.example")
    database.jobs.insert_one(job)
    due = codec.dumps(NotificationDue(pid=job["_id"]).model_dump())
    for body in (b"\xff{not json", b"", b"[1]", b"{}", due):
        client.send(topology.EVENTS_EXCHANGE, topology.NOTIFICATION_DUE, body)
    wait_for(database, job, "sent", TAKE_OVER_AFTER_SECONDS - 2)
    client.close()
    assert notifier.process.poll() is None


def test_several_notifiers_send_once(start: Start, database: Database, mail_server: MailServer):
    """Three notifiers compete for 60 mails without any event: each mail goes out exactly once, by the sweep."""
    mail_server.start()
    jobs = [job_with_mail(f"user{n}@b.example") for n in range(60)]
    database.jobs.insert_many(jobs)
    notifiers = [start(MAIL_BATCH="5") for _ in range(3)]
    eventually(lambda: database.jobs.count_documents({"notifications.state": "sent"}) == 60, 40)
    assert Counter(mail_server.recipients) == Counter(f"user{n}@b.example" for n in range(60))
    assert sum(len(notifier.lines("mail_sent")) for notifier in notifiers) == 60


def test_a_mail_server_that_is_down_only_delays(start: Start, database: Database, mail_server: MailServer):
    """While the mail server is down everything stays due, no try is used up, and one line says so; then all is sent."""
    notifier = start()
    jobs = [job_with_mail(f"user{n}@b.example") for n in range(5)]
    database.jobs.insert_many(jobs)
    eventually(lambda: notifier.lines("server_lost"))
    eventually(lambda: all(entry_of(database, job).get("reason") for job in jobs))
    assert all(entry_of(database, job)["state"] == "due" for job in jobs)
    assert len(notifier.lines("server_lost")) == 1
    mail_server.start()
    for job in jobs:
        assert wait_for(database, job, "sent")["tries"] == 1
    assert sorted(mail_server.recipients) == sorted(f"user{n}@b.example" for n in range(5))
    assert len(notifier.lines("server_back")) == 1


def test_each_recipient_gets_its_outcome(start: Start, database: Database, mail_server: MailServer):
    """Refused for good → failed with the reason; refused for now or cut off → sent later; others are not held up."""
    mail_server.start()
    names = ["refused", "unwanted", "later", "dropped", "fine"]
    jobs = {name: job_with_mail(f"{name}@b.example") for name in names}
    jobs["none"] = job_with_mail("not an address")
    database.jobs.insert_many(jobs.values())
    start()
    for name in ("later", "dropped", "fine"):
        wait_for(database, jobs[name], "sent")
    assert "550" in wait_for(database, jobs["refused"], "failed")["reason"]
    assert "554" in wait_for(database, jobs["unwanted"], "failed")["reason"]
    wait_for(database, jobs["none"], "failed")
    assert entry_of(database, jobs["later"])["tries"] == 2
    assert sorted(mail_server.recipients) == ["dropped@b.example", "fine@b.example", "later@b.example"]


def test_starttls_under_eventlet(start: Start, database: Database, tmp_path: Path):
    """The patched process speaks STARTTLS, over one connection for several mails."""
    jobs = [job_with_mail("ada@b.example") for _ in range(3)]
    database.jobs.insert_many(jobs)
    with MailServer(tls_context=self_signed(tmp_path), require_starttls=True).running() as server:
        start(SMTP_URI=server.uri)
        for job in jobs:
            wait_for(database, job, "sent")
        assert server.recipients == ["ada@b.example"] * 3


def test_every_try_used_is_failed(start: Start, database: Database, mail_server: MailServer):
    """A mail that is refused for the time being is given up after MAIL_MAX_TRIES."""
    mail_server.start()
    job = job_with_mail("later@b.example")
    database.jobs.insert_one(job)
    start(MAIL_MAX_TRIES="1")
    assert "450" in wait_for(database, job, "failed")["reason"]


@pytest.mark.parametrize("allowed", ["", "@example.org, bob@b.example"])
def test_only_the_allow_list_gets_mail(start: Start, database: Database, mail_server: MailServer, allowed: str):
    """A recipient that is not on the allow-list is suppressed; by default that is everyone."""
    mail_server.start()
    jobs = {to: job_with_mail(to) for to in ("ada@b.example", "bob@b.example", "eve@example.org")}
    database.jobs.insert_many(jobs.values())
    start(MAIL_ALLOW=allowed)
    wait_for(database, jobs["ada@b.example"], "suppressed")
    for to in ("bob@b.example", "eve@example.org"):
        wait_for(database, jobs[to], "sent" if allowed else "suppressed")
    assert sorted(mail_server.recipients) == (["bob@b.example", "eve@example.org"] if allowed else [])


def test_sigterm_finishes_the_mail_under_way(start: Start, database: Database, mail_server: MailServer):
    """A mail whose answer is still out when SIGTERM comes is waited for and marked; the next one is not begun."""
    mail_server.start()
    jobs = [job_with_mail("slow@b.example"), job_with_mail("slow@b.example")]
    database.jobs.insert_many(jobs)
    notifier = start()
    eventually(mail_server.reading.is_set)
    notifier.process.terminate()
    eventually(lambda: "stopping services" in notifier._log.read_text())
    mail_server.gate.set()
    assert notifier.process.wait(15) == 0
    assert sorted(entry_of(database, job)["state"] for job in jobs) == ["due", "sent"]
    assert len(mail_server.mails) == 1


def test_kill_9_delays_and_loses_nothing(start: Start, database: Database, mail_server: MailServer):
    """A notifier killed in the middle of a mail is followed by another; the possible double has the same Message-ID."""
    mail_server.start()
    job = job_with_mail("slow@b.example")
    database.jobs.insert_one(job)
    short = {"SMTP_TIMEOUT": "1", "SMTP_DATA_TIMEOUT": "2", "MAIL_LEASE_SECONDS": "9"}
    first = start(**short)
    eventually(mail_server.reading.is_set)
    first.process.kill()
    first.process.wait(10)
    assert entry_of(database, job)["state"] == "due"
    mail_server.gate.set()
    start(**short)
    wait_for(database, job, "sent", 40)
    assert len({mail["Message-ID"] for mail in mail_server.mails}) == 1
    assert 1 <= len(mail_server.mails) <= 2


def test_mongodb_away_after_acceptance_sends_no_double(
    start: Start, database: Database, mail_server: MailServer, fresh_database: str
):
    """MongoDB vanishes between the mail server's yes and the mark: the mark is written when it is back, once."""
    host, port = parse_uri(fresh_database)["nodelist"][0]
    cable = Cable((host, port))
    mail_server.on_accepted = cable.cut
    mail_server.start()
    job = job_with_mail("ada@b.example")
    database.jobs.insert_one(job)
    through = f"mongodb://127.0.0.1:{cable.port}/?directConnection=true"
    notifier = start(MONGODB_URI=through, OUTBOX_TIMEOUT_SECONDS="1")
    eventually(lambda: notifier.lines("outcome_waits"))
    assert entry_of(database, job)["state"] == "due"
    mail_server.on_accepted = lambda: None
    cable.mend()
    assert wait_for(database, job, "sent")["tries"] == 1
    assert len(mail_server.mails) == 1
    cable.close()


def test_starts_without_anything(start: Start, mail_server: MailServer, database: Database, fresh_database: str):
    """With RabbitMQ and MongoDB down the notifier stays up, says so once each, serves when MongoDB comes, and stops."""
    host, port = parse_uri(fresh_database)["nodelist"][0]
    cable = Cable((host, port))
    cable.cut()
    mail_server.start()
    notifier = start(
        AMQP_URI=f"amqp://guest:guest@127.0.0.1:{ports.pick()}/%2F",
        MONGODB_URI=f"mongodb://127.0.0.1:{cable.port}/?directConnection=true",
        OUTBOX_TIMEOUT_SECONDS="1",
    )
    eventually(lambda: {line["server"] for line in notifier.lines("server_lost")} == {"RabbitMQ", "MongoDB"}, 30)
    job = job_with_mail("ada@b.example")
    database.jobs.insert_one(job)
    cable.mend()
    wait_for(database, job, "sent")
    assert len(notifier.lines("server_lost")) == 2
    assert notifier.terminate() == 0
    cable.close()


def test_sigterm_while_the_broker_is_away(start: Start, servers: Any, fresh_vhost: str, mail_server: MailServer):
    """A notifier that has lost its broker stops on SIGTERM all the same."""
    host, port = servers.rabbitmq.split(":")
    cable = Cable((host, int(port)))
    notifier = start(AMQP_URI=fresh_vhost.replace(servers.rabbitmq, f"127.0.0.1:{cable.port}"))
    eventually(lambda: notifier.lines("broker_connected"))
    cable.cut()
    eventually(lambda: notifier.lines("server_lost"))
    assert notifier.terminate() == 0
    cable.close()


def test_a_setting_that_cannot_work_is_one_sentence(start: Start):
    """A wrong setting ends the process with a sentence that names it, and no traceback."""
    notifier = start(MAIL_ALLOW="example.org")
    assert notifier.process.wait(20) != 0
    said = notifier._log.read_text()
    assert "MAIL_ALLOW" in said
    assert "Traceback" not in said
