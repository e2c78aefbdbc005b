import pytest
from pydantic import ValidationError

from results_service.notifier.settings import NotifierSettings
from results_service.notifier.smtp_uri import SmtpServer


@pytest.mark.parametrize(
    ("uri", "endpoint", "security", "login"),
    [
        ("smtp://127.0.0.1:25", ("127.0.0.1", 25), (False, "offered"), (None, None)),
        ("smtp://mail.example.org", ("mail.example.org", 25), (False, "offered"), (None, None)),
        ("smtp://u:p%40ss@mail.example.org", ("mail.example.org", 587), (False, "required"), ("u", "p@ss")),
        ("smtp://u:p@m.example:2525?starttls=never", ("m.example", 2525), (False, "never"), ("u", "p")),
        ("smtps://u:p@mail.example.org/", ("mail.example.org", 465), (True, "required"), ("u", "p")),
        ("smtp://[::1]:1025", ("::1", 1025), (False, "offered"), (None, None)),
    ],
)
def test_smtp_uri_is_read(
    uri: str, endpoint: tuple[str, int], security: tuple[bool, str], login: tuple[str | None, str | None]
):
    """Every form of SMTP_URI that the reference names means what it says."""
    server = SmtpServer.parse(uri)
    assert (server.host, server.port) == endpoint
    assert (server.tls, server.starttls) == security
    assert (server.user, server.password) == login


@pytest.mark.parametrize(
    "uri",
    [
        "mail.example.org",
        "http://mail",
        "smtp://",
        "smtp://h:99999",
        "smtp://h?starttls=maybe",
        "smtp://h?x=1",
        "smtp://h/x",
    ],
)
def test_smtp_uri_that_is_none_is_refused(uri: str):
    """A wrong SMTP_URI stops the service at its start, with a sentence."""
    with pytest.raises(ValueError, match=r"form|port|option"):
        SmtpServer.parse(uri)


def test_password_never_shows():
    """Neither the settings nor the parsed server show the password when printed."""
    settings = NotifierSettings(smtp_uri="smtp://u:sesame@h")
    assert "sesame" not in repr(settings)
    assert "sesame" not in repr(SmtpServer.parse(settings.smtp_uri.get_secret_value()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mail_from": "nobody"},
        {"mail_from": "A <a@b>\r\nBcc: x@y"},
        {"mail_allow": "example.org"},
        {"public_url": "javascript:alert(1)"},
        {"public_url": "https://h/?x"},
        {"smtp_uri": "nowhere"},
        {"mail_lease_seconds": 60, "smtp_data_timeout": 60},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]):
    """A setting that would lose, leak or double mail is refused at the start."""
    with pytest.raises(ValidationError):
        NotifierSettings(**wrong)


def test_nobody_gets_mail_by_default():
    """Without MAIL_ALLOW no mail leaves."""
    assert NotifierSettings().mail_allow == ""
