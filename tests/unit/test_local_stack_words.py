"""What the local stack says and reads, without starting anything."""

from pathlib import Path

import pytest

from contracts.settings import load
from local_stack.process import how_it_ended
from local_stack.settings import StackSettings
from local_stack.stack import _without_password
from local_stack.state import StackState


def test_an_end_is_said_in_words():
    """A signal has its name, an exit code its number."""
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(3) == "ended with exit code 3"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("amqp://coatcheck:s3cret@127.0.0.1:5672/%2F", "amqp://127.0.0.1:5672/%2F"),
        ("mongodb://u:p%40@a:1,b:2/x?replicaSet=rs0", "mongodb://a:1,b:2/x"),
        ("smtp://127.0.0.1:25", "smtp://127.0.0.1:25"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str):
    """URIs appear without user, password and options."""
    assert _without_password(uri) == shown


def test_empty_variables_count_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """AMQP_URI= on the command line asks for the private server, as if it was not there."""
    monkeypatch.setenv("AMQP_URI", "")
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    assert load(StackSettings).amqp_uri is None


def test_a_port_that_is_none_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    """A bad PORT ends the start with the name of the variable and no traceback."""
    monkeypatch.setenv("PORT", "eighty")
    with pytest.raises(SystemExit, match="PORT"):
        load(StackSettings)


def test_state_survives_a_file_that_was_cut_off(tmp_path: Path):
    """Half a stack.json is no reason not to start."""
    (tmp_path / "stack.json").write_text('{"url": "http')
    assert StackState.read(tmp_path) == StackState()


def test_state_is_private(tmp_path: Path):
    """The file has the broker's password, so only its owner may read it."""
    StackState(url="http://x").write(tmp_path)
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    assert StackState.read(tmp_path).url == "http://x"
